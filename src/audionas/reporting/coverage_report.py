"""The coverage report as CSV, Markdown and a figure (`coverage_figure`)."""

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

#: Explanation of each reason, and how to obtain the clip.
MEANING = {
    "removed": "the video was taken down: only a copy of it elsewhere helps",
    "private": "the owner made the video private: only a copy of it elsewhere helps",
    "geo-blocked": "not available in this country: use a proxy elsewhere, or another source",
    "age-restricted": "only for signed-in adults: use a cookies file, or another source",
    "decode": "the download is not audio, or is damaged: use another source",
    "truncated": "the file is shorter than its header states: use another source",
    "not audio": "the format is not supported: use another source",
    "too short": "shorter than audio.min_seconds, or than the share youtube.least_share of its span",
    "empty": "the file is empty: use another source",
    "no samples": "the file has a header but no samples: use another source",
    "damaged": "part of the file cannot be decoded: use another source",
    "needs ffmpeg": "run pip install 'audionas[ffmpeg]', set AUDIONAS_FFMPEG to an ffmpeg, or "
    "convert the files to WAV or FLAC",
    "non-finite": "a sample is NaN or infinite: export the file again",
    "sample rate below 1 kHz": "the header is damaged: use another source",
    "silent": "the clip is silent",
    "silent in its first": "sound begins after the clip's end: cut the clip out where the sound is",
    "silent below": "all sound is above half of audio.sample_rate: raise audio.sample_rate",
    "channels cancel": "the channels are in antiphase and their mean is silent: provide one channel",
    "the process that read it was killed": "the file is bad, or memory ran out: run the download again",
    "too large": "the file exceeds the size limit: cut it",
    "not a regular file": "a pipe, socket, device or folder, not a file: remove it",
    "not there": "no source has the clip: add another source",
    "no such file": "corpus.audio has no file of this name: fix the list, or add the file",
    "span beyond the end": "the file ends before the span: fix the list; rename the columns of a cut file",
    "no span is cut of this format": "only ffmpeg reads this format: convert the file to WAV or FLAC",
    "rate-limited": "the source limits the rate: run the download again later",
    "network": "the connection failed: run the download again",
    NOT_ASKED: "the download has not reached the clip: let it finish",
}

_SHARES = (0.05, 0.5, 0.95)
_WIDER, _LOUDER = 1.25, 10.0  # factor and dB; splits that differ by more are reported
_NARROW = 0.5  # share of the split's bandwidth; classes below it are reported
_FEW = 5  # fewest clips of a class that is compared


def summary(splits: Sequence[SplitCoverage], corpus: str) -> pd.DataFrame:
    """Return one row per split, with columns for missing clips by reason and present clips by source.

    AudioSet also has the counts of PANNs.
    """
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
    """Return one row per split and class: listed and present clips, their share, and recordings.

    The share is NaN if no clip is listed.
    """
    tables = []
    for s in splits:
        table = pd.DataFrame(s.classes, columns=["mid", "display_name"])
        table.insert(0, "split", s.split)
        table["listed"], table["got"] = s.class_listed, s.class_got
        table["share"] = table.got / table.listed.where(table.listed > 0)
        table["recordings"] = s.counts.recordings  # of the clips present
        if s.levels.any():
            table["bandwidth_50"] = [s.bandwidth(0.5, i) for i in range(len(s.classes))]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def markdown(splits: Sequence[SplitCoverage], corpus: str, warnings: Sequence[str] = ()) -> str:
    """Return the report in Markdown, including the warnings."""
    names, panns = [s.split for s in splits], corpus == "audioset"
    head = ["split", "clips listed", "present", "share", "missing", "may still arrive", "hours", "size"]
    rows = []
    for s in splits:
        row = [s.split, s.listed, s.got, percent(s.got, s.listed), s.missing, s.retryable]
        row += [f"{s.seconds / 3600:,.1f}", f"{s.bytes / 1e9:,.2f} GB"]
        if panns:
            got, of = PANNS.get(s.split, (0, 0))
            row.append(f"{got:,} of {of:,} ({percent(got, of)})" if got else "not comparable")
        rows.append(row)
    parts = [f"# Coverage of {corpus}", _table(head + ["PANNs had"] * panns, rows)]
    if warnings:
        parts += ["## Warnings", "\n".join(f"- {as_markdown(warning)}" for warning in warnings)]
    for title, what, last in (
        ("Why clips are missing", "reasons", ["meaning and remedy"]),
        ("Where the clips came from", "sources", []),
    ):
        if words := ranked(splits, what):
            rows = [
                [word, *(getattr(s, what)[word] for s in splits), *([_meaning(word)] if last else [])]
                for word in words
            ]
            parts += [f"## {title}", _table([what[:-1], *names, *last], rows)]
    rows = [
        ["listed", *(int((s.class_listed > 0).sum()) for s in splits)],
        ["without any clip", *(len(s.lost) for s in splits)],
        [f"with fewer than {FEW} recordings", *(_few(s) for s in splits)],
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
    """Describe splits, and classes of one split, whose clips differ in bandwidth or level.

    A network trained on clips with a bandwidth of 11 kHz has half the accuracy on clips with 22 kHz. A
    network may also recognise a class by the bandwidth of the device that recorded it.
    """
    found, known = [], [s for s in splits if s.levels.any()]
    for s in known[1:]:
        first = known[0]
        if not 1 / _WIDER <= s.bandwidth(0.95) / max(first.bandwidth(0.95), 1.0) <= _WIDER:
            found.append(
                f"**{s.split}** reaches {s.bandwidth(0.95) / 1000:.1f} kHz and {first.split} "
                f"{first.bandwidth(0.95) / 1000:.1f} kHz (95 % of the clips): results may not transfer; "
                "record all splits alike, or low-pass the wider ones"
            )
        if abs(s.level(0.5) - first.level(0.5)) > _LOUDER:
            found.append(
                f"**{s.split}** has a median level of {s.level(0.5):.0f} dBFS and {first.split} of "
                f"{first.level(0.5):.0f} dBFS: use the same gain"
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
                f"**{s.split}**: the clips of {names} have less than half the bandwidth of others: if "
                "the recording is the cause, a network may recognise the class by it"
            )
    return found


def _meaning(reason: str) -> str:
    """Return the entry of MEANING for a reason, which may end with a number: `silent in its first 1 s`."""
    return MEANING.get(reason) or MEANING.get(re.sub(r" [\d.]+ k?(?:s|Hz)$", "", reason), "")


def _table(head: list[str], rows: list[list]) -> str:
    cells = [
        [f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", r"\|") for cell in row]
        for row in rows
    ]
    return pd.DataFrame(cells, columns=head).to_markdown(index=False, disable_numparse=True)


def _thin(s: SplitCoverage) -> str:
    """Return a list item with the classes of a split that have no clip, and those with the fewest."""
    some = [i for i in np.argsort(s.class_got, kind="stable") if s.class_got[i]][:5]
    fewest = ", ".join(f"{s.name(i)} ({s.class_got[i]:,} of {s.class_listed[i]:,})" for i in some)
    return f"- **{s.split}**: classes without any clip: {s.lost_names()}. Fewest: {fewest or 'none'}."


def write(splits: Sequence[SplitCoverage], corpus: str, folder: Path, warnings: Sequence[str] = ()) -> None:
    """Write coverage.csv, coverage-classes.csv, coverage.md, coverage.png and coverage.svg, without dates."""
    for name, table in (
        ("coverage.csv", summary(splits, corpus)),
        ("coverage-classes.csv", by_class(splits)),
    ):
        with atomic_write(folder / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6f")
    with atomic_write(folder / "coverage.md") as temporary:
        temporary.write_text(markdown(splits, corpus, warnings), encoding="utf-8")
    save(figure(splits, corpus), folder, "coverage")
