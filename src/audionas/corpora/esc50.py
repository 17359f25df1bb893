"""ESC-50 and ESC-10, environmental sounds in five folds (Piczak, ACM Multimedia 2015)."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from audionas.config import Esc50Corpus
from audionas.corpora.base import Clip, Corpus, FetchError, inside, safe_id, split_by_fold
from audionas.corpora.folder import fetch_file, parse_fold
from audionas.errors import UserError
from audionas.ledger import parse_rows, read_rows

# {fold}-{recording}-{take}-{class}.wav as published, {fold}-{recording}-{take}.* in copies
_NAME = re.compile(r"\d+-(?P<source>[^-]+)-[A-Z]+(-\d+)?\.\w+")


class Esc50(Corpus):
    """The published archive (zipped or unpacked), or a folder with `clips.csv` and `audio/`.

    One label a clip, its category. The source recording is read from the file's name; the authors put all
    clips of one recording into one fold, and that is checked.

    Raises:
        UserError: no list found, bad rows, names of another form; naming file, line and mend.
    """

    def __init__(self, section: Esc50Corpus):
        self.section = section
        self.path = Path(section.lists)
        self._clips = self._read()

    def classes(self) -> list[tuple[str, str]]:
        """See Corpus; categories, sorted."""
        categories = sorted({label for clip, _ in self._clips for label in clip.labels})
        return [(category, category.replace("_", " ").capitalize()) for category in categories]

    def streams(self) -> dict[str, Iterable[Clip]]:
        """See Corpus; by the published folds."""
        return split_by_fold(self._clips, self.section.split, str(self.path))

    def fetch(self, clip: Clip) -> bytes:
        """See Corpus."""
        if not self.path.is_file():
            return fetch_file(self._root / "audio", clip)
        try:
            return self._archive.read(f"{self._top}audio/{clip.origin}")
        except KeyError:
            raise FetchError("not in the archive") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise FetchError(f"damaged in the archive ({error})") from None

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_archive"}

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except zipfile.BadZipFile:
            raise UserError(f"{self.path}: not a zip archive, or damaged; fetch it again") from None

    @cached_property
    def _top(self) -> str:
        names = [name for name in self._archive.namelist() if name.endswith("meta/esc50.csv")]
        if len(names) != 1:
            raise UserError(f"{self.path}: holds no meta/esc50.csv; give the published archive")
        return names[0].removesuffix("meta/esc50.csv")

    @cached_property
    def _root(self) -> Path:
        # An unpacked archive may lie one folder deeper, as ESC-50-master.
        for folder in (self.path, self.path / "ESC-50-master"):
            if (folder / "meta/esc50.csv").is_file() or (folder / "clips.csv").is_file():
                return folder
        raise UserError(
            f"corpus.lists: {self.path}: neither the ESC-50 archive nor a folder with meta/esc50.csv "
            "or clips.csv; mend the path"
        )

    def _read(self) -> list[tuple[Clip, int]]:
        if self.path.is_file():
            where = f"{self.path}:{self._top}meta/esc50.csv"
            file_column = "filename"
            content = self._archive.read(f"{self._top}meta/esc50.csv")
            rows = parse_rows(content, where, (file_column, "fold", "category"))
        else:
            published = self._root / "meta/esc50.csv"
            path = published if published.is_file() else self._root / "clips.csv"
            where, file_column = str(path), "filename" if path == published else "file"
            rows = read_rows(path, (file_column, "fold", "category"))
        clips = []
        for line, row in enumerate(rows, start=2):
            if self.section.name == "esc10" and row.get("esc10", "True") != "True":
                continue
            name = row[file_column]
            here = f"{where}, line {line}"
            match = _NAME.fullmatch(name)
            if not match:
                raise UserError(
                    f"{here}, column {file_column}: {name!r} is not named fold-recording-take, as "
                    "ESC-50's files are; use the corpus `folder` for others"
                )
            inside(self.path, name, here)
            if not row["category"]:
                raise UserError(f"{here}, column category: empty; name the class")
            clip = Clip(safe_id(Path(name).stem), match["source"], name, (row["category"],))
            clips.append((clip, parse_fold(row["fold"], here)))
        if not clips:
            raise UserError(f"{where}: no clip of {self.section.name}; mend corpus.name")
        return clips
