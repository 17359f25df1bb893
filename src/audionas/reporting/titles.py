"""What tables and pages call a corpus, and a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping

from audionas.config import parse_constraint

STAND_IN = "soundfont, a rendered stand-in (no recordings)"


def title(corpus) -> str:
    """What tables call a corpus; the stand-in says loudly what it is."""
    return STAND_IN if corpus.name == "soundfont" else getattr(corpus, "title", None) or corpus.name


def budget(text: str) -> str:
    """A budget in words: parameters are aimed at, as in the paper; multiply-adds are a limit."""
    return " and ".join(
        f"at most {part.removesuffix('macs')} multiply-adds"
        if part.endswith("macs")
        else f"about {part} parameters"
        for part in text.split("_")
    )


def excess(text: str, params: int) -> str:
    """What a network of so many parameters is over such a budget, in words; nothing where it is within."""
    aim = parse_constraint(text).params
    if aim is None or params <= aim:
        return ""
    over = params - aim
    return f"{over:,} ({100 * over / aim:.1f} %) over the budget: the paper's ± tolerance"


def over_kd(shipped: Mapping) -> str:
    """What a row of the table `ship` is over KD, over seeds and x 100, and what that is worth, in words."""
    margin = shipped["± by seeds and clips"]
    worth = {"yes": "certain", "no": "open"}
    text = f"{shipped['over KD']:+.1f}" + (f" ± {margin:.1f}" if math.isfinite(margin) else "")
    return f"{text}, {worth.get(shipped['certain'], 'open: fewer than three seeds carry no claim')}"
