"""ESC-50 and ESC-10, environmental sounds in five folds (Piczak, ACM Multimedia 2015)."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from audionas.data.corpora.base import Clip, Corpus, FetchError, inside, safe_id, split_by_fold
from audionas.data.corpora.folder import fetch_file, parse_fold
from audionas.data.corpora.labels import require_plain_labels
from audionas.data.ledger import iter_numbered, parse_numbered
from audionas.data.names import clean
from audionas.runtime.errors import UserError
from audionas.runtime.files import UnfitFileError, read_member
from audionas.settings.corpora import Esc50Corpus

# {fold}-{recording}-{take}-{class}.wav as published, {fold}-{recording}-{take}.* in copies
_NAME = re.compile(r"\d+-(?P<source>[^-]+)-[A-Z]+(-\d+)?\.\w+")

# The published archive has 2,000 clips of 441 kB, a list of 100 kB, and a directory of 200 bytes a member.
_LARGEST_CLIP, _LARGEST_LIST, _LARGEST_DIRECTORY = 1 << 25, 1 << 22, 1 << 22
_TAIL = 22 + (1 << 16)  # bytes at the end of an archive that contain the end record
_DAMAGED = (
    *(UnfitFileError, zipfile.BadZipFile, zlib.error),
    *(EOFError, OSError, RuntimeError, NotImplementedError),
)


class Esc50(Corpus):
    """ESC-50 or ESC-10: the archive (zipped or unpacked), or a folder with `clips.csv` and `audio/`.

    Each clip has one label, its category. The source recording is part of the file name. The authors put all
    clips of a recording into one fold; this class checks that.

    Raises:
        UserError: no list found, an invalid row, a file name of another form; names file, line and fix.
    """

    def __init__(self, section: Esc50Corpus):
        self.section = section
        self.path = Path(section.lists)
        self._clips = self._read()

    def classes(self) -> list[tuple[str, str]]:
        """See Corpus; categories, sorted."""
        categories = sorted({label for clip, _ in self._clips for label in clip.labels})
        return [(category, category.replace("_", " ").capitalize()) for category in categories]

    def warnings(self) -> list[str]:
        """See Corpus."""
        return list(self._warnings)

    def streams(self) -> dict[str, Iterable[Clip]]:
        """See Corpus; by the published folds."""
        return split_by_fold(self._clips, self.section.split, str(self.path))

    def fetch(self, clip: Clip) -> bytes:
        """See Corpus."""
        if not self.path.is_file():
            return fetch_file(self._root / "audio", clip)
        try:
            return self._member(f"audio/{clip.origin}", _LARGEST_CLIP)
        except KeyError:
            raise FetchError("not in the archive") from None
        except _DAMAGED as error:
            raise FetchError(f"damaged in the archive ({error})") from None

    def _member(self, name: str, largest: int) -> bytes:
        """Return a member of the archive. Raises KeyError if it is missing, or one of _DAMAGED."""
        return read_member(self._archive, self._archive.getinfo(self._top + name), largest)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_archive"}

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - _TAIL))
            before, found, end = file.read().rpartition(b"PK\5\6")  # the end record
        try:
            if not found or len(end) < 18 or b"PK\6\7" in before[-20:]:  # Zip64
                raise zipfile.BadZipFile
            # Checked first, because zipfile reads the whole directory at once.
            if (listed := struct.unpack_from("<I", end, 8)[0]) > _LARGEST_DIRECTORY:
                raise UserError(
                    f"{self.path}: its directory has {listed:,} bytes, ESC-50's about 400,000; "
                    "give the published archive"
                )
            return zipfile.ZipFile(self.path)
        except (*_DAMAGED, struct.error, ValueError):
            raise UserError(f"{self.path}: not a zip archive, or damaged; fetch it again") from None

    @cached_property
    def _top(self) -> str:
        names = [name for name in self._archive.namelist() if name.endswith("meta/esc50.csv")]
        if len(names) != 1:
            raise UserError(f"{self.path}: meta/esc50.csv is missing; give the published archive")
        return names[0].removesuffix("meta/esc50.csv")

    @cached_property
    def _root(self) -> Path:
        # An unpacked archive has the extra folder ESC-50-master.
        for folder in (self.path, self.path / "ESC-50-master"):
            if (folder / "meta/esc50.csv").is_file() or (folder / "clips.csv").is_file():
                return folder
        raise UserError(
            f"corpus.lists: {self.path}: neither the ESC-50 archive nor a folder with meta/esc50.csv "
            "or clips.csv; fix the path"
        )

    def _read(self) -> list[tuple[Clip, int]]:
        if self.path.is_file():
            where = f"{self.path}:{self._top}meta/esc50.csv"
            file_column = "filename"
            try:
                content = self._member("meta/esc50.csv", _LARGEST_LIST)
            except _DAMAGED as error:
                raise UserError(f"{where}: damaged ({error}); give the published archive") from None
            rows = iter(parse_numbered(content, where, (file_column, "fold", "category")))
        else:
            published = self._root / "meta/esc50.csv"
            path = published if published.is_file() else self._root / "clips.csv"
            where, file_column = str(path), "filename" if path == published else "file"
            rows = iter_numbered(path, (file_column, "fold", "category"))
        clips = []
        labels: dict[str, int] = {}
        for line, row in rows:
            if self.section.name == "esc10" and row.get("esc10", "True") != "True":
                continue
            name = clean(row[file_column])
            here = f"{where}, line {line}"
            match = _NAME.fullmatch(name)
            if not match:
                raise UserError(
                    f"{here}, column {file_column}: {name!r} is not named fold-recording-take "
                    "like ESC-50's files; use the corpus `folder` for other names"
                )
            inside(self.path, name, here)
            category = clean(row["category"])
            if not category:
                raise UserError(f"{here}, column category: empty; name the class")
            labels.setdefault(category, line)
            clip = Clip(safe_id(Path(name).stem), match["source"], name, (category,))
            clips.append((clip, parse_fold(row["fold"], here)))
        if not clips:
            raise UserError(f"{where}: no clips of {self.section.name}; fix corpus.name")
        self._warnings = require_plain_labels(labels, where)
        return clips
