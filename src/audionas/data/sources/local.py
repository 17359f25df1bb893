"""A local copy of AudioSet's audio: loose files, or tar and zip archives."""

from __future__ import annotations

import os
import re
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath

from audionas.data.corpora.base import Clip, escapes, inside
from audionas.data.sources.base import Source, SourceError
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import UnfitFileError, read_bounded, read_member, require_size

_KINDS = "aac|aif|aiff|au|flac|m4a|mka|mkv|mp3|mp4|oga|ogg|opus|wav|webm|wma"
_AUDIO = re.compile(rf"(?!\.)(?P<stem>.+)(?P<suffix>\.({_KINDS}))", re.IGNORECASE)
_ARCHIVES = (".tar", ".zip")
# Exceptions of bad archives; zipfile raises NotImplementedError for an unknown compression.
_BAD_ARCHIVE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error),
    *(OSError, EOFError, ValueError, NotImplementedError),
)
_LONGEST_LINK = 4096  # bytes of the target path of a link in a zip file
_PLACE = struct.Struct("<IHQQ")  # folder, suffix, offset, size: 22 bytes instead of 200 in a tuple


class Local(Source):
    """Files found by name below a folder, on disk or in tar and zip archives.

    A clip's file is, in order of preference, `{ytid}_{start}_{end}.*`, `{ytid}_{start}.*` or `{ytid}.*`, with
    or without a leading `Y`. Times are in seconds (`30`, `30.0`, `30.000`) or milliseconds (`30000`). A file
    without a span in its name is assumed to be the cut clip. Of two equal matches, the first by path is used.

    All files are listed once, by the constructor. Archives are read in place; nothing is unpacked. Links to
    files within the folder are followed, links to folders are not. Links within an archive are ignored,
    because their targets are listed.

    Args:
        folder: the folder, or one `.tar` or `.zip` file.

    Raises:
        UserError: the folder does not exist, an archive is damaged, compressed or encrypted, or a link or
            member leaves the folder; names it.
    """

    name = "local"

    def __init__(self, folder: str | Path):
        self._root = Path(folder)
        self._index: dict[str, bytes] = {}  # stem: place
        self._folders: list[tuple[str, str]] = []  # archive or "", folder in it, both relative and with a /
        self._suffixes: list[str] = []
        self._numbers: dict[tuple[str, str] | str, int] = {}
        self._zips: dict[str, zipfile.ZipFile] = {}
        self._lock = threading.Lock()  # a ZipFile counts its readers without one
        self._tars: dict[str, tuple[int, int]] = {}  # size and date, as indexed
        if not str(folder):
            raise UserError("corpus.audio: empty; name the folder of audio, or remove local from the sources")
        if self._root.is_file() and self._root.suffix.lower() in _ARCHIVES:
            self._root, name = self._root.parent, self._root.name
            self._list_archive(name)
        elif self._root.is_dir():
            for name in self._list_folder():
                self._list_archive(name)
        else:
            raise UserError(f"{folder}: no such folder, nor a .tar or .zip file; fix the path")

    def __len__(self) -> int:
        """Number of audio files, by name without suffix."""
        return len(self._index)

    def get(self, clip: Clip) -> bytes:
        """See Source; returns the file's bytes. Reasons: `not there`, and `decode` for an unreadable file."""
        for stem in _stems(clip):
            if stem in self._index:
                return self._read(stem)
        raise SourceError("not there")

    def close(self) -> None:
        """See Source."""
        for archive in self._zips.values():
            archive.close()

    def _read(self, stem: str) -> bytes:
        number, suffix, offset, size = _PLACE.unpack(self._index[stem])
        archive, folder = self._folders[number]
        name = f"{folder}{stem}{self._suffixes[suffix]}"
        try:
            if not archive:
                return read_bounded(inside(self._root, name, str(self._root)))  # it may have become a link
            if archive in self._zips:
                with self._lock:
                    return read_member(self._zips[archive], self._zips[archive].getinfo(name))
            require_size(size)
            return self._read_tar(archive, name, offset, size)
        except FileNotFoundError:
            place = self._root / archive
            if not place.exists():  # such as an unmounted disk; the clip itself is not missing
                raise UserError(
                    f"{place}: removed since it was listed; restore it, and start again"
                ) from None
            raise SourceError("not there", f"{archive}{name}: removed since the folder was listed") from None
        except (UnfitFileError, *_BAD_ARCHIVE) as error:
            raise SourceError("decode", f"{archive}{name}: {error}") from None

    def _read_tar(self, archive: str, name: str, offset: int, size: int) -> bytes:
        # Opened for each clip: threads need their own position, and a thousand archives stay closed.
        path = self._root / archive
        with path.open("rb") as file:
            if _version(os.fstat(file.fileno())) != self._tars[archive]:
                raise UserError(f"{path}: changed since it was listed; start again")
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise SourceError("decode", f"{archive}{name}: the archive ends within it")
        return data

    def _list_folder(self) -> list[str]:
        """Index the loose files; return the relative paths of archives, sorted."""
        archives, waiting, root = [], [""], os.path.realpath(self._root)
        while waiting:
            folder = waiting.pop()
            for entry in _scan(self._root / folder):
                name = folder + entry.name
                if entry.is_symlink():
                    if os.path.commonpath([root, os.path.realpath(entry.path)]) != root:
                        raise UserError(
                            f"{entry.path}: a link that leaves {self._root}; put the file itself there, or "
                            "use the folder that it points to"
                        )
                elif entry.is_dir():
                    waiting.append(f"{name}/")
                if entry.is_file():
                    if entry.name.lower().endswith(_ARCHIVES) and not entry.name.startswith("."):
                        archives.append(name)
                    self._add("", name, 0, 0)
        return sorted(archives)

    def _list_archive(self, name: str) -> None:
        path = self._root / name
        try:
            if name.lower().endswith(".zip"):
                self._list_zip(path, f"{name}/")
            else:
                self._list_tar(path, f"{name}/")
        except _BAD_ARCHIVE as error:
            raise UserError(
                f"{path}: not a plain archive, or damaged ({error}); fetch it again, or decompress it"
            ) from None

    def _list_tar(self, path: Path, archive: str) -> None:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            self._tars[archive] = _version(os.fstat(file.fileno()))
            while (member := tar.next()) is not None:
                tar.members.clear()  # two million members would fill the memory
                if member.issym():
                    _require_inside(path, member.name, join(dirname(member.name), member.linkname))
                _require_inside(path, member.name, member.linkname if member.islnk() else None)
                if member.isreg() and not member.issparse():
                    self._add(archive, member.name, member.offset_data, member.size)
            # tarfile treats damage as the end of the archive; the real end is zeros, or nothing.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"damaged at byte {tar.offset}")

    def _list_zip(self, path: Path, archive: str) -> None:
        file = zipfile.ZipFile(path)
        self._zips[archive] = file
        for member in file.infolist():
            name = member.orig_filename
            _require_inside(path, name)
            if member.flag_bits & 1:
                raise UserError(f"{path}: {name!r} is encrypted; unpack the archive, and use the folder")
            if stat.S_ISLNK(member.external_attr >> 16):
                short = member.file_size <= _LONGEST_LINK
                target = read_member(file, member).decode("utf-8", "replace") if short else "/"
                _require_inside(path, name, join(dirname(name), target))
            elif not member.is_dir():
                self._add(archive, member.filename, 0, member.file_size)

    def _add(self, archive: str, name: str, offset: int, size: int) -> None:
        folder, _, file = name.rpartition("/")
        match = _AUDIO.fullmatch(file)
        if not match:
            return
        stem, suffix = match["stem"], match["suffix"]
        key = archive, f"{folder}/" if folder else ""
        number = self._number(key, self._folders)
        place = _PLACE.pack(number, self._number(suffix, self._suffixes), offset, size)
        other = self._index.get(stem)
        if other is None or self._path(place, stem) < self._path(other, stem):
            self._index[stem] = place

    def _number(self, value: tuple[str, str] | str, values: list) -> int:
        if value not in self._numbers:
            self._numbers[value] = len(values)
            values.append(value)
        return self._numbers[value]

    def _path(self, place: bytes, stem: str) -> str:
        number, suffix, *_ = _PLACE.unpack(place)
        return "".join((*self._folders[number], stem, self._suffixes[suffix]))


def _stems(clip: Clip) -> Iterator[str]:
    """Yield the possible names of a clip's file without suffix, the most exact first."""
    if clip.start is not None:
        spans = [
            (f"{clip.start:.3f}".rstrip("0").rstrip("."), f"{clip.end:.3f}".rstrip("0").rstrip(".")),
            (str(float(clip.start)), str(float(clip.end))),
            (f"{clip.start:.3f}", f"{clip.end:.3f}"),
            (str(round(clip.start * 1000)), str(round(clip.end * 1000))),
        ]
        for ending in [*(f"_{start}_{end}" for start, end in spans), *(f"_{start}" for start, _ in spans)]:
            yield f"{clip.source}{ending}"
            yield f"Y{clip.source}{ending}"
    yield clip.source
    yield f"Y{clip.source}"


def _require_inside(archive: Path, name: str, target: str | None = None) -> None:
    """Raise UserError if a member of an archive, or the target of its link, leaves the archive."""
    if escapes(name):
        what = "a member that leaves"
    elif target is not None and escapes(normpath(target)):
        what = f"a link to {target!r}, which leaves"
    else:
        return
    raise UserError(f"{archive}: {name!r} is {what} the folder; make the archive without it")


def _scan(folder: Path) -> Iterator[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise os_error(error, folder) from None


def _version(state: os.stat_result) -> tuple[int, int]:
    return state.st_size, state.st_mtime_ns
