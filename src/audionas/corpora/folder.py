"""A folder of audio files and a CSV that lists them: what most labs have."""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from audionas.config import SPLITS, FolderCorpus, SplitFolds, SplitShare
from audionas.corpora.base import (
    Clip,
    Corpus,
    FetchError,
    Reread,
    inside,
    require_folds,
    safe_id,
    split_by_fold,
    split_by_home,
)
from audionas.corpora.segments import parse_segments, segment_id, split_labels
from audionas.errors import UserError
from audionas.keys import key, repeated
from audionas.ledger import iter_rows


class Folder(Corpus):
    """See the module and `FolderCorpus`.

    The CSV has either a column `file` (paths within `audio`), the labels (commas between) and optionally
    `source` and `fold`; or AudioSet's segment format, whose files are cut already and called
    `{YTID}.*`, `Y{YTID}.*` or `{YTID}_{start}.*` (with or without the Y; start in seconds or milliseconds).
    Without a `source` each file is its own. A class is called by its label.

    Raises:
        UserError: bad rows, paths that leave the folder, folds that part a source; naming file, line, mend.
            A file that is listed and is not there is no such error but a row in the download's ledger.
    """

    def __init__(self, section: FolderCorpus):
        self.section = section
        self.folder = Path(section.audio)
        if not self.folder.is_dir():
            raise UserError(f"corpus.audio: {section.audio}: no such folder; mend the path")
        self._path = Path(section.lists)
        self._segments = _is_segment_list(self._path)
        self._labels: set[str] = set()
        self._folds = True
        named, ids = array("Q"), array("Q")
        for line, clip, fold in self._rows():
            if not self._segments:
                inside(self.folder, clip.origin, f"{self._path}, line {line}, column file")
            self._labels.update(clip.labels)
            self._folds = fold is not None
            named.append(key(self._name(clip)))
            ids.append(key(clip.clip_id.lower()))
        if not self._labels:
            raise UserError(f"{self._path}: lists no clip; add rows")
        if again := repeated(np.frombuffer(named, np.uint64), (self._name(c) for _, c, _ in self._rows())):
            self._refuse_repeated(again)
        # a.wav and a.ogg, or names that differ in case alone, would be one name in some file systems.
        lower = (clip.clip_id.lower() for _, clip, _ in self._rows())
        self._shared = repeated(np.frombuffer(ids, np.uint64), lower)

    def classes(self) -> list[tuple[str, str]]:
        """See Corpus; sorted by label."""
        return [(label, label) for label in sorted(self._labels)]

    def streams(self) -> dict[str, Iterable[Clip]]:
        """See Corpus; by folds, or by fractions of the sources after a seeded shuffle, or both.

        For fractions the sources' names are held.
        """
        split, where = self.section.split, self.section.lists
        if isinstance(split, SplitFolds | SplitShare):
            if not self._folds:
                raise UserError(
                    f"{where}: no column 'fold', which corpus.split needs; add it or give fractions"
                )
            if isinstance(split, SplitFolds):
                return split_by_fold(Reread(self._clips), split, where)
            return self._share(split, where)
        sources = sorted({clip.source for clip, _ in self._clips()})
        order = np.random.default_rng(self.section.seed).permutation(len(sources))
        valid, test = (max(1, round(len(sources) * part)) for part in (split.valid, split.test))
        if valid + test >= len(sources):
            raise UserError(
                f"{where}: {len(sources)} source recordings are too few for three splits; add some"
            )
        home = np.full(len(sources), SPLITS.index("train"), np.int8)  # of each source, in their order
        home[order[:test]], home[order[test : test + valid]] = SPLITS.index("test"), SPLITS.index("valid")

        def placed() -> Iterator[tuple[str, Clip]]:
            for clip, _ in self._clips():
                yield SPLITS[home[bisect_left(sources, clip.source)]], clip

        return split_by_home(Reread(placed), where)

    def _share(self, split: SplitShare, where: str) -> dict[str, Iterable[Clip]]:
        home = {fold: name for name in ("train", "test") for fold in getattr(split, name)}
        require_folds(Reread(self._clips), home, where)
        sources = sorted({clip.source for clip, fold in self._clips() if fold in split.train})
        count = max(1, round(len(sources) * split.valid))
        if count >= len(sources):
            raise UserError(
                f"{where}: {len(sources)} source recordings in folds {split.train} are too few to train and "
                "to validate; add some"
            )
        order = np.random.default_rng(self.section.seed).permutation(len(sources))
        held = {sources[i] for i in order[:count]}

        def placed() -> Iterator[tuple[str, Clip]]:
            for clip, fold in self._clips():
                if fold in home:
                    yield "valid" if fold in split.train and clip.source in held else home[fold], clip

        return split_by_home(Reread(placed), where)

    def fetch(self, clip: Clip) -> bytes:
        """See Corpus: the file's bytes. FetchError when it is not there."""
        if clip.start is not None:
            clip = replace(clip, origin=self._segment_file(clip))
        return fetch_file(self.folder, clip)

    def _clips(self) -> Iterator[tuple[Clip, int | None]]:
        """Clips with ids of their own, and their folds."""
        for _, clip, fold in self._rows():
            if clip.clip_id.lower() in self._shared:
                digest = hashlib.sha1(clip.origin.encode(), usedforsecurity=False).hexdigest()[:10]
                clip = replace(clip, clip_id=f"{clip.clip_id}-{digest}")
            yield clip, fold

    def _rows(self) -> Iterator[tuple[int, Clip, int | None]]:
        """The list as it stands, read anew each time: (line, clip, fold)."""
        if self._segments:
            for line, ytid, start, end, labels in parse_segments(self._path):
                yield line, Clip(segment_id(ytid, start), ytid, f"{ytid}.*", labels, start, end), None
            return
        column = self.section.labels_column
        for line, row in enumerate(iter_rows(self._path, ("file", column)), start=2):
            name, where = row["file"], f"{self._path}, line {line}"
            labels = split_labels(row[column], f"{where}, column {column}")
            fold = parse_fold(row["fold"], where) if "fold" in row else None
            clip_id = safe_id(str(Path(name).with_suffix("")))
            yield line, Clip(clip_id, row.get("source") or name, name, labels), fold

    def _name(self, clip: Clip) -> str:
        """What may stand in one row only."""
        return clip.clip_id if self._segments else clip.origin

    def _refuse_repeated(self, again: set[str]) -> None:
        seen: dict[str, int] = {}
        for line, clip, _ in self._rows():
            name = self._name(clip)
            if name in seen and self._segments:
                raise UserError(
                    f"{self._path}, line {line}: the segment stands in line {seen[name]} already; keep one"
                )
            if name in seen:
                raise UserError(
                    f"{self._path}, line {line}, column file: {name!r} stands in line {seen[name]} already; "
                    "keep one row and join their labels"
                )
            if name in again:
                seen[name] = line

    @cached_property
    def _names(self) -> dict[str, str]:
        """File names by stem: one listing of the folder serves every segment."""
        return {Path(name).stem: name for name in sorted(os.listdir(self.folder), reverse=True)}  # noqa: PTH208

    def _segment_file(self, clip: Clip) -> str:
        starts = (f"{clip.start:g}", f"{clip.start:.3f}", f"{round(clip.start * 1000)}")
        stems = [f"{y}{clip.source}{s}" for s in ("", *(f"_{s}" for s in starts)) for y in ("", "Y")]
        return next((self._names[stem] for stem in stems if stem in self._names), clip.origin)


def parse_fold(text: str, where: str) -> int:
    """A fold number. Raises UserError, led by `where`, when it is none."""
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{where}, column fold: {text!r} is no whole number; mend it") from None


def fetch_file(folder: Path, clip: Clip) -> bytes:
    """The bytes of `clip.origin` in `folder`. Raises FetchError when it cannot be read."""
    try:
        return inside(folder, clip.origin, clip.clip_id).read_bytes()
    except FileNotFoundError:
        raise FetchError("no such file") from None
    except OSError as error:
        raise FetchError(f"not readable ({error.strerror})") from None


def _is_segment_list(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
    except FileNotFoundError:
        raise UserError(f"corpus.lists: {path}: no such file; mend the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"corpus.lists: {path}: not readable as a CSV in UTF-8 ({error}); mend it") from None
    return first.startswith("#") or first.replace(" ", "").startswith("YTID,")
