"""Interface of corpora: labelled clips, split by source recording, and access to their audio."""

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
    """The audio of a clip is not available; the message is the reason in the ledger."""


@dataclass(frozen=True)
class Clip:
    """A labelled example.

    Attributes:
        clip_id: unique, of [A-Za-z0-9_-], so that it can be a file name.
        source: the recording that the clip was cut from; all clips of a source are in one split.
        origin: location of the audio in the corpus (a relative path, a video id).
        labels: ids (AudioSet mids or names) of the classes of the clip; empty if it has none.
        start, end: seconds within the source, or None if unknown.
    """

    clip_id: str
    source: str
    origin: str
    labels: tuple[str, ...]
    start: float | None = None
    end: float | None = None


class Reiterable(Generic[T]):
    """An iterable that reads its items again for each iteration, so that none is held in memory."""

    def __init__(self, read: Callable[[], Iterator[T]]):
        self._read = read

    def __iter__(self) -> Iterator[T]:
        return self._read()


class ClipLists(ABC):
    """Labelled clips, without access to their audio."""

    @abstractmethod
    def classes(self) -> list[tuple[str, str]]:
        """Return (id, display name) of every class, in the order of the label columns."""

    @abstractmethod
    def streams(self) -> dict[str, Iterable[Clip]]:
        """Return the clips of `train`, `valid` and `test`: deterministic, and disjoint by source.

        Each iterable can be iterated any number of times; long corpora read their lists each time.
        Raises UserError naming the file, the line, the column and the fix if a list is invalid.
        """

    def warnings(self) -> list[str]:
        """Return warnings about the lists, one sentence each."""
        return []

    def splits(self) -> dict[str, list[Clip]]:
        """Return the clips of `streams` as lists in memory. Raises UserError as `streams`."""
        return {split: list(clips) for split, clips in self.streams().items()}


class Corpus(ClipLists):
    """Labelled clips with their audio. Implementations can be pickled, for use in worker processes."""

    @abstractmethod
    def fetch(self, clip: Clip) -> bytes:
        """Return the clip's encoded audio, as published. Raises FetchError if it is not available."""


def safe_id(text: str) -> str:
    """Return a clip id for any text: the text if it is safe, else a cleaned prefix with a hash."""
    if _SAFE.fullmatch(text) and len(text) <= 64:
        return text
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", text).lstrip("-")[:64]
    return f"{cleaned or 'clip'}-{hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:10]}"


def escapes(name: str) -> bool:
    """Return whether a path (POSIX or Windows) is absolute or contains `..`, and so may leave its folder."""
    return bool(_ABSOLUTE.match(name)) or ".." in re.split(r"[/\\]", name) or "\0" in name


def inside(folder: Path, name: str, where: str) -> Path:
    """Return the path of `name` in `folder`.

    Raises UserError, prefixed by `where`, for an absolute path, one with `..`, or a link to outside the
    folder.
    """
    if not name or escapes(name):
        raise UserError(f"{where}: the path {name!r} leaves {folder}; write a path inside it")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{where}: {name!r} is a link that leaves {folder}; put the file itself there")
    return path


def require_disjoint(placed: Iterable[tuple[str, Clip]], where: str) -> None:
    """Check that each source is in one split only and that clip ids are unique.

    Args:
        placed: (split, clip) pairs; iterated once, and again if two hashes are equal. Memory: some 40 bytes a
            clip.
        where: prefix of the error.

    Raises:
        UserError: a source is in two splits, or a clip id is repeated.
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
            raise UserError(f"{where}: the clip {clip.clip_id!r} appears twice; remove one")
        seen.add(clip.clip_id)


def _of_two_splits(sources: np.ndarray, splits: np.ndarray) -> set[int]:
    order = np.argsort(sources, kind="stable")
    sources, splits = sources[order], splits[order]
    return set(sources[1:][(sources[1:] == sources[:-1]) & (splits[1:] != splits[:-1])].tolist())


def split_by_fold(clips: Iterable[tuple[Clip, int]], folds, where: str) -> dict[str, Iterable[Clip]]:
    """Split clips by their fold number; clips of other folds are dropped.

    `clips` is iterated again for each iteration of a split.
    Raises UserError if a source is in folds of two splits, or a named fold has no clip.
    """
    home = {fold: split for split in SPLITS for fold in getattr(folds, split)}
    require_folds(clips, home, where)
    return split_by_home(
        Reiterable(lambda: ((home[fold], clip) for clip, fold in clips if fold in home)), where
    )


def require_folds(clips: Iterable[tuple[Clip, int]], home: Mapping[int, str], where: str) -> None:
    """Raise UserError if a fold of `home` (fold: split) has no clip."""
    seen = {fold for _, fold in clips}
    for fold, split in home.items():
        if fold not in seen:
            raise UserError(
                f"{where}: no clip of fold {fold}, which corpus.split.{split} names; the list has folds "
                f"{sorted(seen)}"
            )


def split_by_home(placed: Iterable[tuple[str, Clip]], where: str) -> dict[str, Iterable[Clip]]:
    """Return the splits of (split, clip) pairs, which are iterated again for each iteration of a split.

    Raises UserError as `require_disjoint`.
    """
    require_disjoint(placed, where)
    return {
        split: Reiterable(lambda split=split: (clip for home, clip in placed if home == split))
        for split in SPLITS
    }
