"""The coverage report: CSV for machines, Markdown and a figure (`coverage_figure`) for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from audionas.data.corpora.counts import FEW
from audionas.data.coverage import NOT_ASKED, PANNS, SplitCoverage, percent, ranked
from audionas.reporting.coverage_figure import figure
from audionas.reporting.markup import markdown as as_markdown
from audionas.reporting.plotting import save
from audionas.runtime.files import atomic_write

#: What a reason means for someone who wants the clip.
MEANING = {
    "removed": "the video was taken down: only a copy of it elsewhere helps",
    "private": "its owner closed it: only a copy of it elsewhere helps",
    "geo-blocked": "not shown in this country: a proxy elsewhere, or another source",
    "age-restricted": "shown to signed-in adults: a cookies file, or another source",
    "decode": "what came is no audio, or is damaged: another source",
    "truncated": "the file ends before its header says: another source",
    "not audio": "of no format that can be read: another source",
    "too short": "shorter than audio.min_seconds, or than youtube.least_share of its span",
    "empty": "a file of no bytes: another source",
    "no samples": "a header and no sound behind it: another source",
    "damaged": "part of it cannot be decoded: another source",
    "needs ffmpeg": "run pip install 'audionas[ffmpeg]', set AUDIONAS_FFMPEG to an ffmpeg, or "
    "convert the files to WAV or FLAC",
    "non-finite": "a sample is no number (NaN or infinite): export it again",
    "sample rate below 1 kHz": "its header is damaged: another source",
    "silent": "nothing is heard in it",
    "silent in its first": "sound begins after the clip's end: cut the clip out where the sound is",
    "silent below": "all of its sound lies above what audio.sample_rate can hold: raise that",
    "channels cancel": "its channels are in antiphase, and their mean is silent: give one of them",
    "the process that read it was killed": "the file, or too little memory: run the download again",
    "too large": "no recording of a clip has so many bytes: cut it",
    "not a regular file": "a pipe, socket, device or folder where a file should be: remove it",
    "not there": "no source has it: another source",
    "no such file": "not in corpus.audio by this name: fix the list, or put it there",
    "span beyond the end": "the file ends before the span: fix the list; rename the columns of a cut file",
    "no span is cut of this format": "only ffmpeg reads it: convert the file to WAV or FLAC",
    "rate-limited": "the source asked to slow down: ask again later",
    "network": "the connection failed: ask again",
    NOT_ASKED: "the download has not come to it: let it run on",
}

_SHARES = (0.05, 0.5, 0.95)
_WIDER, _LOUDER = 1.25, 10.0  # times, and dB, from which on splits differ
_NARROW = 0.5  # of the split's bandwidth
_FEW = 5  # clips, of which nothing is said


def summary(splits: Sequence[SplitCoverage], corpus: str) -> pd.DataFrame:
    """One row a split; clips missing by reason and got by source as columns; PANNs' counts for audioset."""
    rows = []
    for s in splits:
        row = {"split": s.split, "listed": s.listed, "got": s.got, "missing": s.missing, "share": s.share}
        row |= {"may_still_come": s.retryable, "hours": s.seconds / 3600, "bytes": s.bytes}
        row |= {"classes_listed": int((s.class_listed > 0).sum()), "classes_with_none_left": len(s.lost)}
        if corpus == "audioset":
            row |= dict(zip(("panns_got", "panns_listed"), PANNS.get(s.split, (None, None)), strict=True))
        if s.levels.any():
            row |= {"bandwidth_5": s.bandwidth(0.05), "bandwidth_50": s.bandwidth(0.5)}
            row |= {"bandwidth_95": s.bandwidth(0.95), "level_5": s.level(0.05)}
            row |= {"level_50": s.level(0.5), "level_95": s.level(0.95)}
        row |= {f"missing: {reason}": s.reasons[reason] for reason in ranked(splits, "reasons")}
        row |= {f"got: {source}": s.sources[source] for source in ranked(splits, "sources")}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype({column: "Int64" for column in table if column.startswith("panns")})


def by_class(splits: Sequence[SplitCoverage]) -> pd.DataFrame:
    """One row for each split and class: clips listed, got, share (NaN where none is listed), recordings."""
    tables = []
    for s in splits:
        table = pd.DataFrame(s.classes, columns=["mid", "display_name"])
        table.insert(0, "split", s.split)
        table["listed"], table["got"] = s.class_listed, s.class_got
        table["share"] = table.got / table.listed.where(table.listed > 0)
        table["recordings"] = s.counts.recordings  # of what was got
        if s.levels.any():
            table["bandwidth_50"] = [s.bandwidth(0.5, i) for i in range(len(s.classes))]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def markdown(splits: Sequence[SplitCoverage], corpus: str, warnings: Sequence[str] = ()) -> str:
    """The report in words, the warnings among them."""
    names, panns = [s.split for s in splits], corpus == "audioset"
    head = ["split", "clips listed", "here", "share", "missing", "may still come", "hours", "size"]
    rows = []
    for s in splits:
        row = [s.split, s.listed, s.got, percent(s.got, s.listed), s.missing, s.retryable]
        row += [f"{s.seconds / 3600:,.1f}", f"{s.bytes / 1e9:,.2f} GB"]
        if panns:
            got, of = PANNS.get(s.split, (0, 0))
            row.append(f"{got:,} of {of:,} ({percent(got, of)})" if got else "another draw")
        rows.append(row)
    parts = [f"# What is here of {corpus}", _table(head + ["PANNs had"] * panns, rows)]
    if warnings:
        parts += ["## Warnings", "\n".join(f"- {as_markdown(warning)}" for warning in warnings)]
    for title, what, last in (
        ("Why clips are missing", "reasons", ["what it means, and what helps"]),
        ("Where the clips came from", "sources", []),
    ):
        if words := ranked(splits, what):
            rows = [
                [word, *(getattr(s, what)[word] for s in splits), *([_meaning(word)] if last else [])]
                for word in words
            ]
            parts += [f"## {title}", _table([what[:-1], *names, *last], rows)]
    rows = [
        ["on the list", *(int((s.class_listed > 0).sum()) for s in splits)],
        ["with no example left", *(len(s.lost) for s in splits)],
        [f"of fewer than {FEW} recordings", *(_few(s) for s in splits)],
    ]
    parts += ["## Classes", _table(["classes", *names], rows), "\n".join(map(_thin, splits))]
    if any(s.levels.any() for s in splits):
        parts += ["## Bandwidth and level", _sound(splits)]
        parts += ["\n".join(f"- {text}" for text in differences(splits))]
    parts += ["Every class: `coverage-classes.csv`.", "![Coverage](coverage.png)"]
    return "\n\n".join(parts) + "\n"


def _few(s: SplitCoverage) -> int:
    return sum(0 < n < FEW for n in s.counts.recordings)


def _sound(splits: Sequence[SplitCoverage]) -> str:
    head = ["of the clips", *(s.split for s in splits)]
    kilohertz = [[f"{s.bandwidth(share) / 1000:.1f}" for s in splits] for share in _SHARES]
    decibels = [[f"{s.level(share):.0f}" for s in splits] for share in _SHARES]
    rows = [[f"bandwidth in kHz, {share:.0%}", *row] for share, row in zip(_SHARES, kilohertz, strict=True)]
    rows += [[f"level in dBFS, {share:.0%}", *row] for share, row in zip(_SHARES, decibels, strict=True)]
    return _table(head, rows)


def differences(splits: Sequence[SplitCoverage]) -> list[str]:
    """Sentences on splits, and on classes of one split, whose clips differ in bandwidth or level.

    A network that learned from clips of 11 kHz has half the accuracy on such of 22 kHz; and one whose classes
    were recorded with different devices may tell them by the bandwidth.
    """
    found, known = [], [s for s in splits if s.levels.any()]
    for s in known[1:]:
        first = known[0]
        if not 1 / _WIDER <= s.bandwidth(0.95) / max(first.bandwidth(0.95), 1.0) <= _WIDER:
            found.append(
                f"**{s.split}** reaches {s.bandwidth(0.95) / 1000:.1f} kHz and {first.split} "
                f"{first.bandwidth(0.95) / 1000:.1f} kHz (95 % of the clips): results may not carry over; "
                "record alike, or low-pass the wider ones"
            )
        if abs(s.level(0.5) - first.level(0.5)) > _LOUDER:
            found.append(
                f"**{s.split}** has a median level of {s.level(0.5):.0f} dBFS and {first.split} of "
                f"{first.level(0.5):.0f} dBFS: set the gains alike"
            )
    for s in known:
        counts = s.bandwidths.sum(axis=1)
        narrow = [
            i for i in np.flatnonzero(counts >= _FEW) if s.bandwidth(0.95, i) < _NARROW * s.bandwidth(0.95)
        ]
        if narrow:
            names = ", ".join(map(s.name, narrow[:12])) + (
                f" and {len(narrow) - 12} more" if narrow[12:] else ""
            )
            found.append(
                f"**{s.split}**: the clips of {names} reach less than half as high as others: where the "
                "recording is the cause and not the sound, a network tells the class by it"
            )
    return found


def _meaning(reason: str) -> str:
    """The entry of MEANING for a reason, which may go on with a number: `silent in its first 1 s`."""
    return MEANING.get(reason) or MEANING.get(re.sub(r" [\d.]+ k?(?:s|Hz)$", "", reason), "")


def _table(head: list[str], rows: list[list]) -> str:
    cells = [
        [f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", r"\|") for cell in row]
        for row in rows
    ]
    return pd.DataFrame(cells, columns=head).to_markdown(index=False, disable_numparse=True)


def _thin(s: SplitCoverage) -> str:
    """The classes of a split that have none left, and those that have least, as an item of a list."""
    some = [i for i in np.argsort(s.class_got, kind="stable") if s.class_got[i]][:5]
    fewest = ", ".join(f"{s.name(i)} ({s.class_got[i]:,} of {s.class_listed[i]:,})" for i in some)
    return f"- **{s.split}**: no example left of: {s.lost_names()}. Fewest: {fewest or 'none'}."


def write(splits: Sequence[SplitCoverage], corpus: str, folder: Path, warnings: Sequence[str] = ()) -> None:
    """Write coverage.csv, coverage-classes.csv, coverage.md, coverage.png and .svg; no dates in any."""
    for name, table in (
        ("coverage.csv", summary(splits, corpus)),
        ("coverage-classes.csv", by_class(splits)),
    ):
        with atomic_write(folder / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6f")
    with atomic_write(folder / "coverage.md") as temporary:
        temporary.write_text(markdown(splits, corpus, warnings), encoding="utf-8")
    save(figure(splits, corpus), folder, "coverage")
