"""What every corpus is: clips with labels, split by source recording, and mostly a way to get their audio."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from audionas.data.hashing import alike, key
from audionas.runtime.errors import UserError
from audionas.settings.values import SPLITS

T = TypeVar("T")
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")


class FetchError(Exception):
    """The audio of one clip could not be got; the message is the reason in the ledger."""


@dataclass(frozen=True)
class Clip:
    """One example.

    Attributes:
        clip_id: unique, of [A-Za-z0-9_-], so that it can name a file.
        source: the recording that the clip was cut from; a source stands in one split only.
        origin: where the audio is, in the corpus's own words (a path within it, a video id).
        labels: ids (AudioSet mids or names) of the classes that are heard; empty for a clip of none.
        start, end: seconds within the source, where known.
    """

    clip_id: str
    source: str
    origin: str
    labels: tuple[str, ...]
    start: float | None = None
    end: float | None = None


class Reread(Generic[T]):
    """What is read anew each time that it is gone through, so that nothing of it is held."""

    def __init__(self, read: Callable[[], Iterator[T]]):
        self._read = read

    def __iter__(self) -> Iterator[T]:
        return self._read()


class ClipLists(ABC):
    """Labelled clips, whose audio may be elsewhere."""

    @abstractmethod
    def classes(self) -> list[tuple[str, str]]:
        """(id, display name) of every class, in the order of the label columns."""

    @abstractmethod
    def streams(self) -> dict[str, Iterable[Clip]]:
        """Clips of `train`, `valid` and `test`: always the same ones, disjoint by source.

        Each can be gone through any number of times; a corpus of any length reads them anew and holds none.
        Raises UserError naming the file, the column, the line and the mend where a list is bad.
        """

    def warnings(self) -> list[str]:
        """What is odd about the lists and does not stop the work: a sentence each, for people."""
        return []

    def splits(self) -> dict[str, list[Clip]]:
        """`streams`, held in memory. Raises UserError as there."""
        return {split: list(clips) for split, clips in self.streams().items()}


class Corpus(ClipLists):
    """Labelled clips with their audio. Implementations can be pickled, so that processes share the work."""

    @abstractmethod
    def fetch(self, clip: Clip) -> bytes:
        """The clip's encoded audio, as it was published. Raises FetchError when it cannot be got."""


def safe_id(text: str) -> str:
    """A clip id from any text: itself where it is safe, else cleaned, cut and made unique by a hash."""
    if _SAFE.fullmatch(text) and len(text) <= 64:
        return text
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", text).lstrip("-")[:64]
    return f"{cleaned or 'clip'}-{hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:10]}"


def leaves(name: str) -> bool:
    """Whether a path, read as POSIX's or as Windows', is absolute or goes up: it may leave its folder."""
    return bool(_ABSOLUTE.match(name)) or ".." in re.split(r"[/\\]", name) or "\0" in name


def inside(folder: Path, name: str, where: str) -> Path:
    """The path of `name` in `folder`, which it must not leave.

    Raises UserError, led by `where`, for an absolute path, one with `..`, or a link that leads out.
    """
    if not name or leaves(name):
        raise UserError(f"{where}: the path {name!r} leaves {folder}; write one that stays within it")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{where}: {name!r} is a link that leaves {folder}; put the file itself there")
    return path


def require_disjoint(placed: Iterable[tuple[str, Clip]], where: str) -> None:
    """Make sure that no source serves two splits and no clip id stands twice.

    Args:
        placed: (split, clip); gone through once, and again if one looks bad; some 40 bytes a clip are held.

    Raises:
        UserError: one does; led by `where`.
    """
    sources, ids, splits = array("Q"), array("Q"), array("b")
    for split, clip in placed:
        sources.append(key(clip.source))
        ids.append(key(clip.clip_id))
        splits.append(SPLITS.index(split))
    suspects = _of_two_splits(np.frombuffer(sources, np.uint64), np.frombuffer(splits, np.int8))
    suspects |= alike(np.frombuffer(ids, np.uint64))
    home: dict[str, str] = {}
    seen: set[str] = set()
    for split, clip in placed if suspects else ():
        if not suspects & {key(clip.source), key(clip.clip_id)}:
            continue
        if home.setdefault(clip.source, split) != split:
            raise UserError(
                f"{where}: the source recording {clip.source!r} (clip {clip.clip_id}) is in "
                f"{home[clip.source]} and in {split}; put all its clips into folds of one split"
            )
        if clip.clip_id in seen:
            raise UserError(f"{where}: the clip {clip.clip_id!r} stands twice; remove one")
        seen.add(clip.clip_id)


def _of_two_splits(sources: np.ndarray, splits: np.ndarray) -> set[int]:
    order = np.argsort(sources, kind="stable")
    sources, splits = sources[order], splits[order]
    return set(sources[1:][(sources[1:] == sources[:-1]) & (splits[1:] != splits[:-1])].tolist())


def split_by_fold(clips: Iterable[tuple[Clip, int]], folds, where: str) -> dict[str, Iterable[Clip]]:
    """Clips into splits by their fold number; clips of folds that no split names are left out.

    `clips` is gone through anew whenever a split is.
    Raises UserError where a source is in folds of two splits, or a named fold has no clip.
    """
    home = {fold: split for split in SPLITS for fold in getattr(folds, split)}
    require_folds(clips, home, where)
    return split_by_home(Reread(lambda: ((home[fold], clip) for clip, fold in clips if fold in home)), where)


def require_folds(clips: Iterable[tuple[Clip, int]], home: Mapping[int, str], where: str) -> None:
    """Raises UserError where a fold that is the home of a split has no clip."""
    seen = {fold for _, fold in clips}
    for fold, split in home.items():
        if fold not in seen:
            raise UserError(
                f"{where}: no clip of fold {fold}, which corpus.split.{split} names; the list has folds "
                f"{sorted(seen)}"
            )


def split_by_home(placed: Iterable[tuple[str, Clip]], where: str) -> dict[str, Iterable[Clip]]:
    """The splits from clips with the split of each beside, which are gone through anew whenever a split is.

    Raises UserError as `require_disjoint`.
    """
    require_disjoint(placed, where)
    return {
        split: Reread(lambda split=split: (clip for home, clip in placed if home == split))
        for split in SPLITS
    }
