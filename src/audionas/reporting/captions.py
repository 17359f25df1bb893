"""Names of corpora and budgets, and phrases for table captions and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping

from audionas.runtime.text import line

STAND_IN = "soundfont, a rendered stand-in (no recordings)"


def corpus_title(corpus) -> str:
    """Return the name of a corpus in tables. The embedded corpus states that it is rendered."""
    return STAND_IN if corpus.name == "soundfont" else corpus_name(corpus)


def corpus_name(corpus) -> str:
    """Return the short name of a corpus, for titles."""
    return line(getattr(corpus, "title", None) or corpus.name)


def budget_text(text: str, tolerance: str | None = None) -> str:
    """Describe a budget.

    Args:
        text: the budget, such as ``26k`` or ``900k_1.2Gmacs``.
        tolerance: allowed deviation of the parameter count to both sides. With None, a budget is a limit.
    """
    parts = [
        f"{part.removesuffix('macs')} multiply-adds" if part.endswith("macs") else f"{part} parameters"
        for part in text.split("_")
    ]
    if tolerance is None or parts[0].endswith("multiply-adds"):
        return "at most " + " and ".join(parts)
    return " and at most ".join([parts[0].replace(" ", f" ± {tolerance} "), *parts[1:]])


def measured_on(measured: int, classes: int, clips: int) -> str:
    """Describe what a mean average precision is computed over: measurable classes and clips."""
    of = f"{measured:,} of {classes:,}" if measured < classes else f"{classes:,}"
    return f"over {of} classes, {clips:,} clips"


def gain_over_kd(shipped: Mapping) -> str:
    """Describe the gain over KD in a row of the table `ship`: mean over seeds, x 100, and significance."""
    margin = shipped["± by seeds and clips"]
    verdict = {"yes": "significant", "no": "not significant"}
    text = f"{shipped['over KD']:+.1f}" + (f" ± {margin:.1f}" if math.isfinite(margin) else "")
    return f"{text}, {verdict.get(shipped['significant'], 'not significant: fewer than three seeds')}"
