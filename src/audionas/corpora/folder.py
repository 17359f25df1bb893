"""A folder of audio files and a CSV that lists them: what most labs have."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from audionas.config import SPLITS, FolderCorpus, SplitFolds
from audionas.corpora.base import Clip, Corpus, FetchError, inside, require_disjoint, safe_id, split_by_fold
from audionas.corpora.segments import parse_segments, segment_id, split_labels
from audionas.errors import UserError
from audionas.ledger import read_rows


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
        path = Path(section.lists)
        self._rows = self._read_segments(path) if _is_segment_list(path) else self._read_files(path)
        if not self._rows:
            raise UserError(f"{path}: lists no clip; add rows")

    def classes(self) -> list[tuple[str, str]]:
        """See Corpus; sorted by label."""
        labels = sorted({label for clip, _ in self._rows for label in clip.labels})
        return [(label, label) for label in labels]

    def splits(self) -> dict[str, list[Clip]]:
        """See Corpus; by folds, or by fractions of the sources after a seeded shuffle."""
        split, where = self.section.split, self.section.lists
        if isinstance(split, SplitFolds):
            if any(fold is None for _, fold in self._rows):
                raise UserError(
                    f"{where}: no column 'fold', which corpus.split needs; add it or give fractions"
                )
            return split_by_fold(self._rows, split, where)
        sources = sorted({clip.source for clip, _ in self._rows})
        order = np.random.default_rng(self.section.seed).permutation(len(sources))
        valid, test = (max(1, round(len(sources) * part)) for part in (split.valid, split.test))
        if valid + test >= len(sources):
            raise UserError(
                f"{where}: {len(sources)} source recordings are too few for three splits; add some"
            )
        bounds = {"test": order[:test], "valid": order[test : test + valid], "train": order[test + valid :]}
        home = {sources[i]: name for name, indices in bounds.items() for i in indices}
        return require_disjoint(
            {name: [clip for clip, _ in self._rows if home[clip.source] == name] for name in SPLITS}, where
        )

    def fetch(self, clip: Clip) -> bytes:
        """See Corpus: the file's bytes. FetchError when it is not there."""
        if clip.start is not None:
            clip = replace(clip, origin=self._segment_file(clip))
        return fetch_file(self.folder, clip)

    def _read_files(self, path: Path) -> list[tuple[Clip, int | None]]:
        column = self.section.labels_column
        clips, folds, lines = [], [], []
        for line, row in enumerate(read_rows(path, ("file", column)), start=2):
            name, where = row["file"], f"{path}, line {line}"
            inside(self.folder, name, f"{where}, column file")
            labels = split_labels(row[column], f"{where}, column {column}")
            fold = parse_fold(row["fold"], where) if "fold" in row else None
            source = row.get("source") or name
            clips.append(Clip(safe_id(str(Path(name).with_suffix(""))), source, name, labels))
            folds.append(fold)
            lines.append(line)
        # a.wav and a.ogg, or names that differ in case alone, would be one name in some file systems.
        shared = Counter(clip.clip_id.lower() for clip in clips)
        seen: dict[str, int] = {}
        for i, clip in enumerate(clips):
            if clip.origin in seen:
                raise UserError(
                    f"{path}, line {lines[i]}, column file: {clip.origin!r} stands in line "
                    f"{seen[clip.origin]} already; keep one row and join their labels"
                )
            seen[clip.origin] = lines[i]
            if shared[clip.clip_id.lower()] > 1:
                digest = hashlib.sha1(clip.origin.encode(), usedforsecurity=False).hexdigest()[:10]
                clips[i] = replace(clip, clip_id=f"{clip.clip_id}-{digest}")
        return list(zip(clips, folds, strict=True))

    def _read_segments(self, path: Path) -> list[tuple[Clip, None]]:
        clips, seen = [], {}
        for line, ytid, start, end, labels in parse_segments(path):
            clip_id = segment_id(ytid, start)
            if clip_id in seen:
                raise UserError(
                    f"{path}, line {line}: the segment stands in line {seen[clip_id]} already; keep one"
                )
            seen[clip_id] = line
            clips.append((Clip(clip_id, ytid, f"{ytid}.*", labels, start, end), None))
        return clips

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
