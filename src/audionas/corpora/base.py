"""What every corpus is: clips with labels, split by source recording, and mostly a way to get their audio."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audionas.config import SPLITS
from audionas.errors import UserError

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
        labels: ids (AudioSet mids or names) of the classes that are heard.
        start, end: seconds within the source, where known.
    """

    clip_id: str
    source: str
    origin: str
    labels: tuple[str, ...]
    start: float | None = None
    end: float | None = None


class ClipLists(ABC):
    """Labelled clips, whose audio may be elsewhere."""

    @abstractmethod
    def classes(self) -> list[tuple[str, str]]:
        """(id, display name) of every class, in the order of the label columns."""

    @abstractmethod
    def splits(self) -> dict[str, list[Clip]]:
        """Clips of `train`, `valid` and `test`: always the same ones, disjoint by source.

        Raises UserError naming the file, the column, the line and the mend where a list is bad.
        """


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


def require_disjoint(splits: dict[str, list[Clip]], where: str) -> dict[str, list[Clip]]:
    """The splits, once it is sure that no source serves two of them and no clip id stands twice.

    Raises UserError otherwise.
    """
    home: dict[str, str] = {}
    ids: set[str] = set()
    for split in SPLITS:
        for clip in splits[split]:
            if home.setdefault(clip.source, split) != split:
                raise UserError(
                    f"{where}: the source recording {clip.source!r} (clip {clip.clip_id}) is in "
                    f"{home[clip.source]} and in {split}; put all its clips into folds of one split"
                )
            if clip.clip_id in ids:
                raise UserError(f"{where}: the clip {clip.clip_id!r} stands twice; remove one")
            ids.add(clip.clip_id)
    return splits


def split_by_fold(clips: Iterable[tuple[Clip, int]], folds, where: str) -> dict[str, list[Clip]]:
    """Clips into splits by their fold number; clips of folds that no split names are left out.

    Raises UserError where a source is in folds of two splits, or a named fold has no clip.
    """
    home = {fold: split for split in SPLITS for fold in getattr(folds, split)}
    splits: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    seen = set()
    for clip, fold in clips:
        seen.add(fold)
        if fold in home:
            splits[home[fold]].append(clip)
    for fold, split in home.items():
        if fold not in seen:
            raise UserError(
                f"{where}: no clip of fold {fold}, which corpus.split.{split} names; the list has folds "
                f"{sorted(seen)}"
            )
    return require_disjoint(splits, where)
