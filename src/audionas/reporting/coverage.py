"""How much of the listed audio is here, and why the rest is not."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from audionas.errors import UserError
from audionas.keys import key, keys
from audionas.sources.base import TRANSIENT

NOT_ASKED = "not asked yet"
#: Clips that PANNs (Kong et al., 2020) had, of those on the official list.
PANNS = {"train": (20_550, 22_160), "test": (18_887, 20_371)}
_NAMES = 12  # classes named in one line
_CHUNK = 4096  # clips looked up at a time


@dataclass
class SplitCoverage:
    """What became of the clips of one split.

    Attributes:
        split: its name. classes: (id, display name) of each class.
        listed: clips on the list. sources: clips got, by source. reasons: clips missing, by reason.
        class_listed, class_got: clips on the list, and got, of each class.
        bytes: of the original audio that was got. seconds: its length, as far as it is known.
    """

    split: str
    classes: Sequence[tuple[str, str]]
    listed: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    class_listed: np.ndarray = field(init=False)
    class_got: np.ndarray = field(init=False)
    bytes: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.class_listed, self.class_got = np.zeros((2, len(self.classes)), dtype=np.int64)

    @property
    def got(self) -> int:
        """Clips that are here."""
        return self.sources.total()

    @property
    def missing(self) -> int:
        """Clips that are not."""
        return self.reasons.total()

    @property
    def share(self) -> float:
        """Clips got of those listed, from 0 to 1; 0 where none is listed."""
        return self.got / self.listed if self.listed else 0.0

    @property
    def may_come(self) -> int:
        """Missing clips that another run may get."""
        return sum(n for reason, n in self.reasons.items() if reason in TRANSIENT or reason == NOT_ASKED)

    @property
    def lost(self) -> list[int]:
        """Indices of the classes that have clips on the list and none that was got."""
        return np.flatnonzero((self.class_listed > 0) & (self.class_got == 0)).tolist()

    def name(self, i: int) -> str:
        """Display name of a class, on one line."""
        return " ".join(self.classes[i][1].split())

    def lost_names(self) -> str:
        """Names of the lost classes for people: the first dozen, and how many more."""
        names = ", ".join(map(self.name, self.lost[:_NAMES])) or "none"
        return f"{names} and {len(self.lost) - _NAMES:,} more" if len(self.lost) > _NAMES else names


def count(
    split: str,
    clips: Iterable[Mapping[str, str]],
    classes: Sequence[tuple[str, str]],
    ledger: Iterable[Mapping[str, str]],
    resampled: Iterable[Mapping[str, str]] = (),
) -> SplitCoverage:
    """What became of the clips of a list; each argument is read once, some 60 bytes a clip are held.

    Args:
        clips: rows of `data/segments/{split}.csv`.
        classes: (id, display name), in the order of `data/segments/classes.csv`.
        ledger: rows of the download's ledger, in any order; of several for a clip the last one holds, and
            those of clips that are not listed count nowhere. A clip without one was not asked for yet.
        resampled: rows of the ledger of `resample`; a clip that failed there is missing too. What it says
            of the download is left out: the download's own ledger may be newer.

    Raises:
        UserError: a clip has a label that is not among the classes.
    """
    result = SplitCoverage(split, classes)
    column = {mid: i for i, (mid, _) in enumerate(classes)}
    listed, got = [0] * len(column), [0] * len(column)
    downloads = _Ledger(ledger)
    failures = _Ledger(row for row in resampled if not (row.get("reason") or "").startswith("download:"))
    clips = iter(clips)
    while chunk := list(islice(clips, _CHUNK)):
        ids = [clip["clip_id"] for clip in chunk]
        for clip, download, decoded in zip(chunk, downloads.find(ids), failures.find(ids), strict=True):
            try:
                labels = [column[label] for label in clip["labels"].split(",")]
            except KeyError as error:
                raise UserError(
                    f"{split}, clip {clip['clip_id']}: its label {error.args[0]!r} is not in classes.csv; "
                    "make both lists again with `dvc repro segments`"
                ) from None
            result.listed += 1
            for label in labels:
                listed[label] += 1
            bad = next((row for row in (download, decoded) if row and not row.ok), None)
            if bad or not download:
                result.reasons[bad.word if bad else NOT_ASKED] += 1
                continue
            for label in labels:
                got[label] += 1
            result.sources[download.word] += 1
            result.bytes += download.bytes
            result.seconds += download.seconds or (decoded.seconds if decoded else 0.0) or _span(clip)
    result.class_listed, result.class_got = np.array(listed), np.array(got)
    return result


def _span(clip: Mapping[str, str]) -> float:
    return float(clip["end"]) - float(clip["start"]) if clip.get("start") and clip.get("end") else 0.0


@dataclass(frozen=True, slots=True)
class _Row:
    ok: bool
    word: str  # the source, or the reason
    bytes: int
    seconds: float


class _Ledger:
    """Rows of a ledger by the key of their clip id, in 36 bytes each where dictionaries would take 2,000."""

    def __init__(self, rows: Iterable[Mapping[str, str]]):
        words: dict[tuple[bool, str], int] = {}
        found, kinds, sizes, seconds = array("Q"), array("I"), array("q"), array("d")
        for row in rows:
            ok = row["status"] == "ok"
            word = row.get("source") if ok else _general(row["reason"])
            found.append(key(row["clip_id"]))
            kinds.append(words.setdefault((ok, word or "unknown"), len(words)))
            sizes.append(int(row.get("bytes") or 0))
            seconds.append(float(row.get("seconds") or 0))
        self._words = list(words)
        unordered = np.frombuffer(found, dtype=np.uint64)
        self._order = np.argsort(unordered, kind="stable")  # stable: the last row of a clip stays last
        self._keys = unordered[self._order]
        self._kinds, self._sizes, self._seconds = kinds, sizes, seconds

    def find(self, clip_ids: Sequence[str]) -> Iterator[_Row | None]:
        """The row of each clip; None where there is none."""
        wanted = keys(clip_ids)
        for each, at in zip(wanted, np.searchsorted(self._keys, wanted, side="right") - 1, strict=True):
            if at < 0 or self._keys[at] != each:
                yield None
                continue
            row = self._order[at]
            yield _Row(*self._words[self._kinds[row]], self._sizes[row], self._seconds[row])


def _general(reason: str) -> str:
    """The reason without its particulars, which would make a kind of its own of every clip."""
    return reason.split(" (")[0].split(":")[0].strip()


def ranked(splits: Sequence[SplitCoverage], what: str) -> list[str]:
    """Reasons or sources of all splits, the most frequent first."""
    total = sum((getattr(s, what) for s in splits), Counter())
    return sorted(total, key=lambda word: (-total[word], word))


def percent(part: int, whole: int) -> str:
    """A share for people, rounded down, so that what falls short never reads as if it did not."""
    tenths = 1000 * part // whole if whole else 0
    return f"{tenths // 10}.{tenths % 10} %"


def require(splits: Sequence[SplitCoverage], least: float, key: str, report: Path) -> None:
    """Refuse to go on with too little audio.

    Args:
        least: share of the clips listed, from 0 to 1, that every split must have.
        key: name of the parameter that says so. report: where the report was written.

    Raises:
        UserError: naming each split that has less, its share, what is missing and what to do.
    """
    if lines := [_short(s, least, key) for s in splits if s.share < least]:
        raise UserError("\n".join([*lines, f"The whole report: {report}"]))


def _short(s: SplitCoverage, least: float, key: str) -> str:
    main = [f"{n:,} {reason}" for reason, n in s.reasons.most_common(4)]
    if rest := s.missing - sum(n for _, n in s.reasons.most_common(4)):
        main.append(f"{rest:,} for other reasons")
    mends = []
    if s.reasons[NOT_ASKED]:
        mends.append("let the download run to its end")
    if any(s.reasons[reason] for reason in TRANSIENT):
        mends.append("ask again for those that failed in passing (raise corpus.download.round)")
    if (s.got + s.may_come) / max(s.listed, 1) < least:
        mends.append("add a source that has the missing clips")
    mends.append(f"lower {key} to {100 * s.got // max(s.listed, 1) / 100:g}, and say so beside the results")
    return (
        f"{s.split}: {s.got:,} of {s.listed:,} clips are here ({percent(s.got, s.listed)}), and {key} "
        f"asks for {100 * least:g} %. Missing: {', '.join(main) or 'nothing is listed'}. "
        f"To mend: {'; or '.join(mends)}"
    )
