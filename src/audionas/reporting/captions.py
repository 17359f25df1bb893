"""What tables and pages call a corpus, and a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping

from audionas.runtime.text import line

STAND_IN = "soundfont, a rendered stand-in (no recordings)"


def title(corpus) -> str:
    """What tables call a corpus; the stand-in says loudly what it is."""
    return STAND_IN if corpus.name == "soundfont" else line(getattr(corpus, "title", None) or corpus.name)


def budget(text: str, tolerance: str | None = None) -> str:
    """A budget in words: limits, or with a tolerance so many parameters to both sides."""
    parts = [
        f"{part.removesuffix('macs')} multiply-adds" if part.endswith("macs") else f"{part} parameters"
        for part in text.split("_")
    ]
    if tolerance is None or parts[0].endswith("multiply-adds"):
        return "at most " + " and ".join(parts)
    return " and at most ".join([parts[0].replace(" ", f" ± {tolerance} "), *parts[1:]])


def basis(measured: int, classes: int, clips: int) -> str:
    """What a mean average precision is over: so many of the classes can be measured on so many clips."""
    of = f"{measured:,} of {classes:,}" if measured < classes else f"{classes:,}"
    return f"over {of} classes, {clips:,} clips"


def over_kd(shipped: Mapping) -> str:
    """What a row of the table `ship` is over KD, over seeds and x 100, and what that is worth, in words."""
    margin = shipped["± by seeds and clips"]
    worth = {"yes": "certain", "no": "open"}
    text = f"{shipped['over KD']:+.1f}" + (f" ± {margin:.1f}" if math.isfinite(margin) else "")
    return f"{text}, {worth.get(shipped['certain'], 'open: fewer than three seeds carry no claim')}"
