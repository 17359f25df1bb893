"""Corpus of a folder of audio files and a CSV that lists them."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np
import soundfile

from audionas.data.corpora.base import (
    Clip,
    Corpus,
    FetchError,
    Reiterable,
    escapes,
    inside,
    require_folds,
    safe_id,
    split_by_fold,
    split_by_home,
)
from audionas.data.corpora.labels import require_plain_labels, some
from audionas.data.corpora.segments import parse_segments, segment_id, split_labels
from audionas.data.corpora.spans import SPANS, cut, read_span, span_columns
from audionas.data.corpora.stratify import assign
from audionas.data.hashing import key, repeated
from audionas.data.ledger import iter_numbered, require_file
from audionas.data.names import clean, comparable
from audionas.data.shards import extension
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import UnfitFileError, read_bounded
from audionas.settings.corpora import FolderCorpus, SplitFolds, SplitShare
from audionas.settings.values import SPLITS

_FOLD = re.compile(r"[+-]?[0-9]{1,9}(\.0*)?")
_OPTIONAL = ("source", "fold", *chain(*SPANS))  # columns
_HEAD = 1 << 16  # characters of the first line that are read
_LOOKED_AT = 200_000  # files searched for a name similar to a missing one


class Folder(Corpus):
    """A folder of audio and its CSV; see `FolderCorpus`.

    The CSV has one of two forms:

    - Columns `file` (paths relative to `audio`) and the labels (comma-separated, may be empty). Optional:
      `source`, `fold`, and a span of the file in seconds (see SPANS), which is cut out.
    - AudioSet's segment format. The files are already cut and named `{YTID}.*`, `Y{YTID}.*` or
      `{YTID}_{start}.*` (with or without the Y; start in seconds or milliseconds).

    Without a column `source` each file is its own source. The label is the class's display name.

    Names are compared in Unicode form NFC and without surrounding blanks, paths in normalised form (`./a.wav`
    is `a.wav`). Sources that differ only in case, Unicode form or blanks are merged; `warnings` names them.
    The folder belongs to the user, so links to audio outside it are followed.

    Raises:
        UserError: an invalid row, a path that leaves the folder, a file that is listed twice or has two
            sources, labels that differ only in spelling, or folds that divide a source. Names file, line and
            fix. A missing audio file is not such an error, but a row in the download's ledger.
    """

    def __init__(self, section: FolderCorpus):
        self.section = section
        self.folder = Path(section.audio)
        if not self.folder.is_dir():
            raise UserError(f"corpus.audio: {section.audio}: no such folder; fix the path")
        self._roots = (self.folder.absolute(), self.folder.resolve())
        self._path = Path(section.lists)
        self._segments = _is_segment_list(self._path)
        self._uses_folds = isinstance(section.split, SplitFolds | SplitShare)
        self._merged: dict[str, str] = {}
        self._warnings: list[str] = []
        labels: dict[str, int] = {}
        unlabelled: list[int] = []
        folds: bool | None = None
        named, ids, files, sources, alike_sources = (array("Q") for _ in range(5))
        for line, clip, fold in self._rows():
            if not clip.labels:
                unlabelled.append(line)
            for label in clip.labels:
                labels.setdefault(label, line)
            folds = fold is not None
            named.append(key(self._name(clip)))
            ids.append(key(clip.clip_id.lower()))
            files.append(key(clip.origin))
            sources.append(key(clip.source))
            alike_sources.append(key(comparable(clip.source)))
        if folds is None:
            raise UserError(f"{self._path}: lists no clips; add rows")
        if not labels:
            raise UserError(f"{self._path}: no clip has a label; add the classes of the clips")
        if self._uses_folds and not folds:
            raise UserError(
                f"{self._path}: no column 'fold', which corpus.split needs; add it or give fractions"
            )
        self._warnings += require_plain_labels(labels, str(self._path))
        self._labels = sorted(labels)
        if again := repeated(np.frombuffer(named, np.uint64), (self._name(c) for _, c, _ in self._rows())):
            self._refuse_repeated(again)
        if not self._segments:  # video ids are case-sensitive
            self._merge(np.frombuffer(sources, np.uint64), np.frombuffer(alike_sources, np.uint64))
            self._require_one_source(np.frombuffer(files, np.uint64), np.frombuffer(alike_sources, np.uint64))
        if unlabelled:
            self._warnings.append(
                f"{self._path}: clips without a label: {len(unlabelled):,} (line "
                f"{some([*map(str, unlabelled)])}); they count as clips in which no class is heard"
            )
        if not self._segments and (unread := self._unread()):
            pairs = ", or ".join("{},{}".format(*pair) for pair in SPANS)
            self._warnings.append(
                f"{self._path}: columns that are not read: {some(unread)}; a span is read from {pairs}, and "
                "the recording that a clip was cut from from source"
            )
        # a.wav and a.ogg share a stem, and some file systems ignore case.
        lower = (clip.clip_id.lower() for _, clip, _ in self._rows())
        self._shared = repeated(np.frombuffer(ids, np.uint64), lower)

    def classes(self) -> list[tuple[str, str]]:
        """See Corpus; sorted by label."""
        return [(label, label) for label in self._labels]

    def warnings(self) -> list[str]:
        """See Corpus."""
        return list(self._warnings)

    def streams(self) -> dict[str, Iterable[Clip]]:
        """See Corpus; by folds, by fractions of the sources, or both.

        Fractions are stratified by class (see `stratify.assign`). They hold the source names in memory, and
        some 30 bytes for each label of a clip.
        """
        split, where = self.section.split, self.section.lists
        if isinstance(split, SplitFolds):
            return split_by_fold(Reiterable(self._clips), split, where)
        if isinstance(split, SplitShare):
            return self._share(split, where)
        sources = sorted({clip.source for clip, _ in self._clips()})
        if len(sources) < len(SPLITS):
            raise UserError(
                f"{where}: {len(sources)} source recordings are too few for three splits; add more"
            )
        shares = {"train": split.train, "test": split.test, "valid": split.valid}
        home = self._assign((clip for clip, _ in self._clips()), sources, shares)

        def placed() -> Iterator[tuple[str, Clip]]:
            for clip, _ in self._clips():
                yield home(clip.source), clip

        return split_by_home(Reiterable(placed), where)

    def _share(self, split: SplitShare, where: str) -> dict[str, Iterable[Clip]]:
        home = {fold: name for name in ("train", "test") for fold in getattr(split, name)}
        require_folds(Reiterable(self._clips), home, where)
        sources = sorted({clip.source for clip, fold in self._clips() if fold in split.train})
        if len(sources) < 2:
            raise UserError(
                f"{where}: {len(sources)} source recordings in folds {split.train} are too few for "
                "training and validation; add more"
            )
        shares = {"train": 1 - split.valid, "valid": split.valid}
        held = self._assign((c for c, fold in self._clips() if fold in split.train), sources, shares)

        def placed() -> Iterator[tuple[str, Clip]]:
            for clip, fold in self._clips():
                if fold in home:
                    yield held(clip.source) if fold in split.train else home[fold], clip

        return split_by_home(Reiterable(placed), where)

    def _assign(
        self, clips: Iterable[Clip], sources: list[str], shares: dict[str, float]
    ) -> Callable[[str], str]:
        """Return a function from source to split, stratified by label; `sources` is sorted."""
        number = {label: i for i, label in enumerate(self._labels)}
        unlabelled, every = len(number), len(number) + 1
        groups, labels = array("I"), array("I")
        for clip in clips:
            source = bisect_left(sources, clip.source)
            for label in [*map(number.get, clip.labels or ()), *([] if clip.labels else [unlabelled]), every]:
                groups.append(source)
                labels.append(label)
        home = assign(
            np.frombuffer(groups, np.uint32),
            np.frombuffer(labels, np.uint32),
            [*shares.values()],
            self.section.seed,
        )
        names = [*shares]
        return lambda source: names[home[bisect_left(sources, source)]]

    def fetch(self, clip: Clip) -> bytes:
        """See Corpus; returns the file's bytes, or the span as FLAC. Raises FetchError."""
        try:
            return self._fetch(clip)
        except OSError as error:  # a name that is too long, a folder without permission
            raise FetchError(f"not readable ({clip.origin}: {error.strerror})") from None

    def _fetch(self, clip: Clip) -> bytes:
        if self._segments:
            clip = replace(clip, origin=self._segment_file(clip))
        name = self._present(clip.origin)
        path = self.folder / name
        if not path.is_file():
            raise FetchError(f"not readable ({name}: not a file)")
        if clip.start is not None and not self._segments:
            return cut(path, clip.start, clip.end)
        data = fetch_file(self.folder, replace(clip, origin=name), follow=True)
        if not path.resolve().is_relative_to(self.folder.resolve()) and not _is_audio(data):
            # A folder from somebody else may link to a private file.
            raise FetchError(f"not audio ({name}: a link out of the folder)")
        return data

    def _clips(self) -> Iterator[tuple[Clip, int | None]]:
        """Yield clips with unique ids and merged sources, and their folds."""
        for _, clip, fold in self._rows():
            if clip.clip_id.lower() in self._shared:
                digest = hashlib.sha1(self._name(clip).encode(), usedforsecurity=False).hexdigest()[:10]
                clip = replace(clip, clip_id=f"{clip.clip_id}-{digest}")
            if clip.source in self._merged:
                clip = replace(clip, source=self._merged[clip.source])
            yield clip, fold

    def _rows(self) -> Iterator[tuple[int, Clip, int | None]]:
        """Yield (line, clip, fold) of the list, read again for each call."""
        if self._segments:
            for line, ytid, start, end, labels in parse_segments(self._path):
                yield line, Clip(segment_id(ytid, start), ytid, f"{ytid}.*", labels, start, end), None
            return
        column = self.section.labels_column
        span: tuple[str, str] | None = None
        first = True
        for line, row in iter_numbered(self._path, ("file", column), _OPTIONAL):
            if first:
                span, first = span_columns(row, self._path), False
            if not any(map(clean, row.values())):
                continue
            where = f"{self._path}, line {line}"
            name = self._within(clean(row["file"]), f"{where}, column file")
            start, end = read_span(row, span, where) if span else (None, None)
            fold = parse_fold(row["fold"], where) if self._uses_folds and "fold" in row else None
            stem = str(Path(name).with_suffix(""))
            if start is not None:
                stem += f"_{round(start * 1000)}" + ("" if end is None else f"_{round(end * 1000)}")
            source = clean(row.get("source", "")) or name
            yield line, Clip(safe_id(stem), source, name, split_labels(row[column]), start, end), fold

    def _unread(self) -> list[str]:
        """Return the unused columns of the list, which may contain spans or recordings."""
        needed = ("file", self.section.labels_column)
        _, row = next(iter_numbered(self._path, needed, _OPTIONAL))
        return [repr(name) for name in row if name and name not in (*needed, *_OPTIONAL)]

    def _within(self, text: str, where: str) -> str:
        """Return a normalised path relative to the folder. Raises UserError if it leaves the folder."""
        if not text:
            raise UserError(f"{where}: empty; name the audio file")
        if text.startswith("/"):
            for root in self._roots:
                if Path(text).is_relative_to(root):
                    text = str(Path(text).relative_to(root))
        path = posixpath.normpath(text.replace("\\", "/"))
        if escapes(path):
            raise UserError(
                f"{where}: the path {text!r} leaves {self.folder}; write a path inside it, or set "
                "corpus.audio to a folder that contains it"
            )
        return path

    def _name(self, clip: Clip) -> str:
        """Return the key that must be unique among rows."""
        if self._segments:
            return clip.clip_id
        return clip.origin if clip.start is None else f"{clip.origin}:{clip.start}:{clip.end}"

    def _refuse_repeated(self, again: set[str]) -> None:
        seen: dict[str, int] = {}
        for line, clip, _ in self._rows():
            name = self._name(clip)
            if name in seen and self._segments:
                raise UserError(
                    f"{self._path}, line {line}: the segment is already in line {seen[name]}; keep one"
                )
            if name in seen:
                raise UserError(
                    f"{self._path}, line {line}, column file: {clip.origin!r} is already in line "
                    f"{seen[name]}; keep one row and join their labels"
                    + (", or give each its own span" if clip.start is None else "")
                )
            if name in again:
                seen[name] = line

    def _merge(self, sources: np.ndarray, alike: np.ndarray) -> None:
        """Merge sources that differ only in spelling, so that a recording is in one split only."""
        pairs = np.unique(np.stack([alike, sources]), axis=1)
        suspects = set(pairs[0, 1:][pairs[0, 1:] == pairs[0, :-1]].tolist())
        first: dict[str, tuple[str, int]] = {}
        merged: list[str] = []
        for line, clip, _ in self._rows() if suspects else ():
            if (likely := comparable(clip.source)) and key(likely) in suspects:
                name, begun = first.setdefault(likely, (clip.source, line))
                if name != clip.source and clip.source not in self._merged:
                    self._merged[clip.source] = name
                    merged.append(f"{clip.source!r} (line {line}) as {name!r} (line {begun})")
        if merged:
            self._warnings.append(
                f"{self._path}: sources that differ only in case, Unicode form or blanks are taken as one "
                f"recording: {some(merged)}; write them alike, or rename those that are different recordings"
            )

    def _require_one_source(self, files: np.ndarray, sources: np.ndarray) -> None:
        """Refuse spans of one file that have different sources."""
        pairs = np.unique(np.stack([files, sources]), axis=1)
        suspects = set(pairs[0, 1:][pairs[0, 1:] == pairs[0, :-1]].tolist())
        first: dict[str, tuple[str, int]] = {}
        for line, clip, _ in self._rows() if suspects else ():
            if key(clip.origin) in suspects:
                source, begun = first.setdefault(clip.origin, (clip.source, line))
                if comparable(source) != comparable(clip.source):
                    raise UserError(
                        f"{self._path}, line {line}, column source: {clip.origin!r} has the source "
                        f"{clip.source!r} here and {source!r} in line {begun}; give all spans of a file "
                        "one source"
                    )

    @cached_property
    def _names(self) -> dict[str, str]:
        """File names by stem; the folder is listed once for all segments."""
        return {Path(name).stem: name for name in sorted(os.listdir(self.folder), reverse=True)}  # noqa: PTH208

    def _segment_file(self, clip: Clip) -> str:
        starts = (f"{clip.start:g}", f"{clip.start:.3f}", f"{round(clip.start * 1000)}")
        stems = [f"{y}{clip.source}{s}" for s in ("", *(f"_{s}" for s in starts)) for y in ("", "Y")]
        return next((self._names[stem] for stem in stems if stem in self._names), clip.origin)

    def _present(self, name: str) -> str:
        """Return the name as spelled on disk. Raises FetchError, naming a similar file, if it is missing."""
        for spelt in (name, unicodedata.normalize("NFD", name)):
            if (self.folder / spelt).exists():
                return spelt
        if (self.folder / name).is_symlink():
            raise FetchError(f"no such file ({name}: a link that leads nowhere)")
        for part in (name, posixpath.basename(name), posixpath.splitext(posixpath.basename(name))[0]):
            if near := self._near.get(comparable(part)):
                raise FetchError(f"no such file ({name}; {near} is there)")
        raise FetchError(f"no such file ({name})")

    @cached_property
    def _near(self) -> dict[str, str]:
        """Paths in the folder by their normalised path, name, and name without suffix."""
        whole, parts = {}, {}
        found = ((parent, name) for parent, _, names in os.walk(self.folder) for name in sorted(names))
        for parent, name in islice(found, _LOOKED_AT):
            path = posixpath.normpath(posixpath.join(os.path.relpath(parent, self.folder), name))
            whole.setdefault(comparable(path.replace("\\", "/")), path)
            for part in (name, posixpath.splitext(name)[0]):
                parts.setdefault(comparable(part), path)
        return parts | whole

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key not in ("_near", "_names")}


def _is_audio(data: bytes) -> bool:
    if extension(data) != "bin":
        return True
    try:
        soundfile.info(io.BytesIO(data))
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError):
        return False
    return True


def parse_fold(text: str, where: str) -> int:
    """Return a fold number; `1.0` is 1. Raises UserError, prefixed by `where`, for other text."""
    if not _FOLD.fullmatch(clean(text)):
        raise UserError(f"{where}, column fold: {text!r} is not a whole number; fix it")
    return int(float(clean(text)))


def fetch_file(folder: Path, clip: Clip, follow: bool = False) -> bytes:
    """Return the bytes of `clip.origin` in `folder`; with `follow`, links out of it are followed.

    Raises FetchError if the file cannot be read.
    """
    try:
        path = folder / clip.origin if follow else inside(folder, clip.origin, clip.clip_id)
        return read_bounded(path)
    except UnfitFileError as error:
        raise FetchError(str(error)) from None
    except FileNotFoundError:
        raise FetchError("no such file") from None
    except OSError as error:
        raise FetchError(f"not readable ({error.strerror})") from None


def _is_segment_list(path: Path) -> bool:
    try:
        require_file(path)
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline(_HEAD)
    except FileNotFoundError:
        raise UserError(f"corpus.lists: {path}: no such file; fix the path") from None
    except OSError as error:
        raise os_error(error, f"corpus.lists: {path}") from None
    return first.startswith("#") or first.replace(" ", "").startswith("YTID,")
