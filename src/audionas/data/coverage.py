"""Coverage: how much of the listed audio is available, and why the rest is missing."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from audionas.data.corpora.counts import ClassCounts
from audionas.data.hashing import key, keys
from audionas.data.ledger import general, labels_of
from audionas.data.paths import CLASSES, segments
from audionas.data.sources.base import TRANSIENT
from audionas.runtime.errors import UserError

NOT_ASKED = "not asked yet"
#: Clips that PANNs (Kong et al., 2020) obtained, and those on the official list.
PANNS = {"train": (20_550, 22_160), "test": (18_887, 20_371)}
NAMED = ("no such file", "span beyond the end")  # reasons whose details name the file
_NAMES = 12  # classes named in one line
_EXAMPLES = 3  # clips named for each reason
_MAX_DETAILS = 1000  # rows of each reason whose details are held
_SLACK = 0.1  # seconds by which cuts of equal length differ
_BAND, _BANDS = 250, 128  # width in Hz, and number
_QUIETEST = -120  # dBFS
_CHUNK = 4096  # clips looked up at once


@dataclass
class SplitCoverage:
    """Coverage of one split.

    Attributes:
        split: its name.
        classes: (id, display name) of each class.
        listed: number of clips on the list.
        sources: number of available clips, by source.
        reasons: number of missing clips, by reason.
        examples: the first few missing clips, by reason: their files and the ledger's details.
        class_listed, class_got: listed and available clips of each class.
        counts: available clips and their recordings.
        bytes: size of the available original audio.
        seconds: its length, as far as known.
        longer: available clips whose recording is longer than a clip; the end is not used.
        bandwidths: decoded clips of each class by bandwidth, int64 [classes, 128] in steps of 250 Hz.
        levels: decoded clips by level, int64 [121] in steps of 1 dB from -120 dBFS.
    """

    split: str
    classes: Sequence[tuple[str, str]]
    listed: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    class_listed: np.ndarray = field(init=False)
    counts: ClassCounts = field(init=False)
    bytes: int = 0
    seconds: float = 0.0
    longer: int = 0
    bandwidths: np.ndarray = field(init=False)
    levels: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.class_listed = np.zeros(len(self.classes), dtype=np.int64)
        self.counts = ClassCounts(len(self.classes))
        self.bandwidths = np.zeros((len(self.classes), _BANDS), dtype=np.int64)
        self.levels = np.zeros(1 - _QUIETEST, dtype=np.int64)

    @property
    def class_got(self) -> np.ndarray:
        """Available clips of each class, int64 [classes]."""
        return np.array(self.counts.clips, dtype=np.int64)

    @property
    def got(self) -> int:
        """Number of available clips."""
        return self.sources.total()

    @property
    def missing(self) -> int:
        """Number of missing clips."""
        return self.reasons.total()

    @property
    def share(self) -> float:
        """Share of the listed clips that are available, from 0 to 1; 0 if none is listed."""
        return self.got / self.listed if self.listed else 0.0

    @property
    def retryable(self) -> int:
        """Number of missing clips that another run may get."""
        return sum(n for reason, n in self.reasons.items() if reason in TRANSIENT or reason == NOT_ASKED)

    @property
    def lost(self) -> list[int]:
        """Indices of the classes with listed clips but no available one."""
        return np.flatnonzero((self.class_listed > 0) & (self.class_got == 0)).tolist()

    def bandwidth(self, share: float, i: int | None = None) -> float:
        """Return the quantile of bandwidth in Hz, of class `i` or of all clips; NaN if none was decoded."""
        counts = self.bandwidths.sum(axis=0) if i is None else self.bandwidths[i]
        return _BAND * _quantile(counts, share)

    def level(self, share: float) -> float:
        """Return the quantile of level in dBFS; NaN if no clip was decoded."""
        return _QUIETEST + _quantile(self.levels, share)

    def name(self, i: int) -> str:
        """Return the display name of a class, on one line."""
        return " ".join(self.classes[i][1].split())

    def lost_names(self) -> str:
        """Return the names of the lost classes: the first dozen, and the number of the others."""
        names = ", ".join(map(self.name, self.lost[:_NAMES])) or "none"
        return f"{names} and {len(self.lost) - _NAMES:,} more" if len(self.lost) > _NAMES else names

    def warnings(self) -> list[str]:
        """Return warnings about limits of results on this split, one sentence each."""
        warnings = []
        if self.longer:
            warnings.append(
                f"{self.split}: {self.longer:,} of {self.got:,} recordings are longer than "
                "audio.clip_seconds; only their beginning is used, with all their labels: cut them into "
                "spans (columns start,end of the list), or raise audio.clip_seconds"
            )
        if self.counts.unlabelled:
            warnings.append(
                f"{self.split}: {self.counts.unlabelled:,} of {self.got:,} clips have no label: in them no "
                "class is heard"
            )
        if self.got:
            warnings += self.counts.warnings(self.split, [self.name(i) for i in range(len(self.classes))])
        return warnings


def count(
    split: str,
    clips: Iterable[Mapping[str, str]],
    classes: Sequence[tuple[str, str]],
    ledger: Iterable[Mapping[str, str]],
    resampled: Iterable[Mapping[str, str]] = (),
    clip_seconds: float = math.inf,
) -> SplitCoverage:
    """Count the coverage of a list. Each argument is read once; memory: some 60 bytes a clip.

    Args:
        clips: rows of `data/segments/{split}.csv`.
        classes: (id, display name), in the order of `data/segments/classes.csv`.
        ledger: rows of the download's ledger, in any order. The last row of a clip counts; clips that are not
            listed are ignored. A clip without a row counts as not asked yet.
        resampled: rows of the ledger of `resample`; a clip that failed there is missing too. Its rows about
            the download are ignored: the download's own ledger may be newer.
        clip_seconds: length of a clip, to count longer recordings.

    Raises:
        UserError: a clip has a label that is not among the classes.
    """
    result = SplitCoverage(split, classes)
    column = {mid: i for i, (mid, _) in enumerate(classes)}
    listed = [0] * len(column)
    downloads = _Ledger(ledger)
    failures = _Ledger(row for row in resampled if not (row.get("reason") or "").startswith("download:"))
    clips = iter(clips)
    while chunk := list(islice(clips, _CHUNK)):
        ids = [clip["clip_id"] for clip in chunk]
        for clip, download, decoded in zip(chunk, downloads.find(ids), failures.find(ids), strict=True):
            try:
                labels = [column[label] for label in labels_of(clip)]
            except KeyError as error:
                raise UserError(
                    f"{segments(split)}: clip {clip['clip_id']}: the label {error.args[0]!r} is not in "
                    f"{CLASSES}; make both lists again with `dvc repro segments`"
                ) from None
            result.listed += 1
            for label in labels:
                listed[label] += 1
            bad = next((row for row in (download, decoded) if row and not row.ok), None)
            if bad or not download:
                reason = bad.word if bad else NOT_ASKED
                result.reasons[reason] += 1
                if bad and len(examples := result.examples.setdefault(reason, [])) < _EXAMPLES:
                    examples.append(bad.details or clip["origin"])
                continue
            result.counts.add(labels, clip["source"])
            if decoded and decoded.level < 0:
                result.bandwidths[labels, min(round(decoded.bandwidth / _BAND), _BANDS - 1)] += 1
                result.levels[max(0, round(decoded.level) - _QUIETEST)] += 1
            result.sources[download.word] += 1
            result.bytes += download.bytes
            seconds = decoded.seconds if decoded else 0.0
            result.longer += seconds > clip_seconds + _SLACK
            result.seconds += download.seconds or seconds or _span(clip)
    result.class_listed = np.array(listed, dtype=np.int64)
    return result


def _quantile(counts: np.ndarray, share: float) -> float:
    total = counts.sum()
    return float(np.searchsorted(counts.cumsum(), share * total)) if total else float("nan")


def _span(clip: Mapping[str, str]) -> float:
    return float(clip["end"]) - float(clip["start"]) if clip.get("start") and clip.get("end") else 0.0


@dataclass(frozen=True, slots=True)
class _Row:
    ok: bool
    word: str  # the source, or the reason
    details: str  # details of the reason; of the first rows only
    bytes: int
    seconds: float
    bandwidth: float
    level: float  # 0 if unknown


class _Ledger:
    """Rows of a ledger by the hash of their clip id: 44 bytes a row instead of 2,000 in dictionaries."""

    def __init__(self, rows: Iterable[Mapping[str, str]]):
        words: dict[tuple[bool, str], int] = {}
        self._details: dict[int, str] = {}
        held: Counter[str] = Counter()
        found, kinds, sizes, seconds = array("Q"), array("I"), array("q"), array("d")
        bandwidths, levels = array("f"), array("f")
        for row in rows:
            ok = row["status"] == "ok"
            word = general(row.get("source") or "" if ok else row["reason"])
            if not ok and word in NAMED and held[word] < _MAX_DETAILS:
                held[word] += 1
                self._details[len(found)] = row["reason"].partition(" (")[2].removesuffix(")")
            found.append(key(row["clip_id"]))
            kinds.append(words.setdefault((ok, word or "unknown"), len(words)))
            sizes.append(int(row.get("bytes") or 0))
            seconds.append(float(row.get("seconds") or 0))
            bandwidths.append(float(row.get("bandwidth") or 0))
            levels.append(float(row.get("level") or 0))
        self._words = list(words)
        unordered = np.frombuffer(found, dtype=np.uint64)
        self._order = np.argsort(unordered, kind="stable")  # stable: the last row of a clip stays last
        self._keys = unordered[self._order]
        self._kinds, self._values = kinds, (sizes, seconds, bandwidths, levels)

    def find(self, clip_ids: Sequence[str]) -> Iterator[_Row | None]:
        """Yield the row of each clip, or None."""
        wanted = keys(clip_ids)
        for each, at in zip(wanted, np.searchsorted(self._keys, wanted, side="right") - 1, strict=True):
            if at < 0 or self._keys[at] != each:
                yield None
                continue
            row = self._order[at]
            ok, word = self._words[self._kinds[row]]
            details = self._details.get(int(row), "")
            yield _Row(ok, word, details, *(values[row] for values in self._values))


def ranked(splits: Sequence[SplitCoverage], what: str) -> list[str]:
    """Return the reasons or sources (`what`) of all splits, the most frequent first."""
    total = sum((getattr(s, what) for s in splits), Counter())
    return sorted(total, key=lambda word: (-total[word], word))


def percent(part: int, whole: int) -> str:
    """Return a share as text, rounded down, so that an incomplete share never reads as complete."""
    tenths = 1000 * part // whole if whole else 0
    return f"{tenths // 10}.{tenths % 10} %"


def require(splits: Sequence[SplitCoverage], least: float, key: str, report: Path) -> None:
    """Require a minimum coverage of every split.

    Args:
        splits: coverage of each split.
        least: required share of the listed clips, from 0 to 1.
        key: name of the parameter that sets `least`.
        report: path of the report.

    Raises:
        UserError: a split has less; names its share, what is missing and what to do.
    """
    if lines := [_shortfall(s, least, key) for s in splits if s.share < least]:
        raise UserError("\n".join([*lines, f"Full report: {report}"]))


def _examples_of(s: SplitCoverage, reason: str) -> str:
    """Return the first few clips of a reason."""
    names = s.examples.get(reason, [])
    more = ", …" if s.reasons[reason] > len(names) else ""
    return f" ({', '.join(names)}{more})" if names else ""


def _shortfall(s: SplitCoverage, least: float, key: str) -> str:
    main = [f"{n:,} {reason}{_examples_of(s, reason)}" for reason, n in s.reasons.most_common(4)]
    if rest := s.missing - sum(n for _, n in s.reasons.most_common(4)):
        main.append(f"{rest:,} for other reasons")
    fixes = []
    if s.reasons[NOT_ASKED]:
        fixes.append("let the download run to its end")
    if any(s.reasons[reason] for reason in TRANSIENT):
        fixes.append("retry temporary failures (raise corpus.download.round)")
    if s.reasons["no such file"]:
        fixes.append("fix these names in the list, or put the files into corpus.audio")
    elif (s.got + s.retryable) / max(s.listed, 1) < least:
        fixes.append("add a source that has the missing clips")
    fixes.append(
        f"lower {key} to {100 * s.got // max(s.listed, 1) / 100:g}, and report it beside the results"
    )
    return (
        f"{s.split}: {s.got:,} of {s.listed:,} clips are available ({percent(s.got, s.listed)}), but {key} "
        f"requires {100 * least:g} %. Missing: {', '.join(main) or 'nothing is listed'}. "
        f"To fix: {'; or '.join(fixes)}"
    )
