"""Figure of the coverage report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from audionas.data.coverage import NOT_ASKED, PANNS, SplitCoverage, percent, ranked
from audionas.data.sources.base import TRANSIENT
from audionas.reporting.plotting import plt

# Okabe and Ito's palette: warm colours for lost clips, cold colours for clips that may still arrive
_COLOURS = {
    "removed": "#D55E00",
    "private": "#E69F00",
    "geo-blocked": "#F0E442",
    "age-restricted": "#CC79A7",
    "not there": "#8C564B",
    "decode": "#7F3C8D",
    "silent": "0.25",
    "too short": "#999933",
    "network": "#0072B2",
    "rate-limited": "#56B4E9",
    NOT_ASKED: "0.88",
    "other reasons": "0.7",
}
_SPARE = ("#4B4B8F", "#A5AA99", "#B6992D", "#E58606", "0.45", "#661100", "#88CCEE", "#DDCC77", "#AA4499")
_OTHER = "other reasons"
_LINES = (("#332288", "-"), ("#44AA99", "--"), ("#CC3311", "-."), ("0.3", ":"))
_BARS = 25  # most classes that are drawn as labelled bars
_REASONS = 8  # most reasons with a colour of their own


def figure(splits: Sequence[SplitCoverage], corpus: str) -> plt.Figure:
    """Draw the coverage of all splits.

    Left: missing clips by reason, one bar per split. Right: the share of clips present per class, sorted.
    Up to 25 classes are drawn as labelled bars, more as a curve. A cross marks a class without any clip.

    Args:
        splits: the coverage of each split.
        corpus: name of the corpus. AudioSet also shows the clips that PANNs missed.
    """
    named = len(splits[0].classes) <= _BARS
    height = max(4.4, 1.6 + 0.32 * len(splits[0].classes)) if named else 4.4
    result = plt.figure(figsize=(10.5, height), layout="constrained")
    for half, draw, title in zip(
        result.subfigures(1, 2, wspace=0.03),
        (partial(_outcomes, corpus=corpus), _bars if named else _curves),
        ("Clips missing from each split", "Clips present per class"),
        strict=True,
    ):
        axes = half.subplots()
        axes.set_title(title, fontsize=9, loc="left")
        draw(axes, splits)
        handles, labels = axes.get_legend_handles_labels()
        columns = 3 if max(map(len, labels), default=0) < 20 else 1
        legend = half.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return result


def _outcomes(axes: plt.Axes, splits: Sequence[SplitCoverage], corpus: str) -> None:
    """Draw stacked bars in % of the listed clips, so that splits of any size are comparable.

    Text shows the clips that are present: as a bar they would hide the few that are missing.
    """
    reasons = ranked(splits, "reasons")
    shown = reasons if len(reasons) <= _REASONS else reasons[: _REASONS - 1]
    parts = {reason: [s.reasons[reason] for s in splits] for reason in shown}
    if len(shown) < len(reasons):
        parts[_OTHER] = [s.missing - sum(s.reasons[reason] for reason in shown) for s in splits]
    spare = iter(_SPARE)
    listed = np.array([max(s.listed, 1) for s in splits])
    thick = 0.5 * 4.4 / axes.get_figure(root=True).get_figheight()
    base = np.zeros(len(splits))
    # Clips that may still arrive are last, at the right.
    late = sorted(parts, key=lambda reason: (reason == NOT_ASKED, reason in TRANSIENT))
    for reason in late:
        width = 100 * np.array(parts[reason]) / listed
        colour = _COLOURS.get(reason) or next(spare)
        axes.barh(range(len(splits)), width, thick, base, color=colour, label=reason)
        base += width
    theirs = [(i, *PANNS[s.split]) for i, s in enumerate(splits) if corpus == "audioset" and s.split in PANNS]
    if theirs:
        places, got, of = np.array(theirs).T
        missed = 100 - 100 * got / of
        axes.vlines(missed, places - thick / 2, places + thick / 2, "black", label="PANNs missed")
        base = np.append(base, missed)
    end = min(100.0, max(1.0, 1.05 * base.max()))
    for place, s in enumerate(splits):
        text = f"{s.got:,} of {s.listed:,} present ({percent(s.got, s.listed)})"
        axes.text(0.01 * end, place - thick / 2 - 0.03, text, va="bottom", fontsize=8)
    axes.set_yticks(range(len(splits)), [s.split for s in splits])
    axes.set(xlim=(0, end), ylim=(len(splits) - 0.5, -0.6), xlabel="% of the listed clips that are missing")


def _shares(s: SplitCoverage) -> np.ndarray:
    """Return the % of clips present per class [classes]; NaN if no clip is listed."""
    return 100 * s.class_got / np.where(s.class_listed, s.class_listed, np.nan)


def _bars(axes: plt.Axes, splits: Sequence[SplitCoverage]) -> None:
    """Draw a group of bars per class, best covered class on top."""
    totals = sum(s.class_got for s in splits) / np.maximum(sum(s.class_listed for s in splits), 1)
    order = np.argsort(-totals, kind="stable")
    thick = 0.8 / len(splits)
    for i, s in enumerate(splits):
        places = np.arange(len(order)) + (i - (len(splits) - 1) / 2) * thick
        values = _shares(s)[order]
        colour = _LINES[i % 4][0]
        axes.barh(places, np.nan_to_num(values), 0.85 * thick, color=colour, label=_label(s))
        lost = places[values == 0]
        axes.plot(np.full(len(lost), 1.5), lost, "x", color=colour, markersize=5, markeredgewidth=1.5)
    names = [_cut(splits[0].name(i), 34) for i in order]
    axes.set_yticks(range(len(order)), names, parse_math=False)
    axes.set(xlim=(0, 100), ylim=(len(order) - 0.5, -0.5), xlabel="% of the listed clips present")


def _curves(axes: plt.Axes, splits: Sequence[SplitCoverage]) -> None:
    """Draw a falling curve per split, and below it crosses for the classes without any clip."""
    for i, s in enumerate(splits):
        values = _shares(s)
        values = np.sort(values[~np.isnan(values)])[::-1]
        colour, style = _LINES[i % 4]
        places = np.arange(1, len(values) + 1)
        axes.plot(places, values, color=colour, linestyle=style, linewidth=1.6, label=_label(s))
        lost = places[values == 0]
        axes.plot(lost, np.full(len(lost), -4.0 - 5 * i), "x", color=colour, markersize=4)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    below = -4.0 - 5 * len(splits) if any(s.lost for s in splits) else -2
    axes.set(xlim=(0, 1.01 * len(splits[0].classes)), ylim=(below, 102))
    axes.set(yticks=range(0, 101, 20), xlabel="classes, best covered first")
    axes.set_ylabel("% of the listed clips present")


def _label(s: SplitCoverage) -> str:
    if not s.lost:
        return s.split
    return _cut(f"{s.split}, × {len(s.lost)} without clips: {s.lost_names()}", 60)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip(' ,')}…"
