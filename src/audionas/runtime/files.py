"""Writing files so that a reader sees the old one or the new one, never half of either; bounded reading."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

#: Bytes of one recording, 100 minutes of CD audio or days of a lossy format; what is larger is no clip.
LARGEST_RECORDING = 1 << 30
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_TEMPORARY = re.compile(rf"\..+\.{_HOST}-(\d+)-[0-9a-f]{{8}}\.tmp")  # the writer's process


class UnfitFileError(Exception):
    """Not a file to read whole: `not a regular file (a pipe)`, or `too large (N bytes, of at most M)`."""


def open_regular(path: str | Path, limit: int = LARGEST_RECORDING) -> BinaryIO:
    """A regular file, open for reading; a pipe or a device, which may never end, is not opened.

    Raises:
        UnfitFileError: of another kind, or of more than `limit` bytes.
        OSError: it is not there, or not readable.
    """
    _require_fit(os.stat(path), limit)  # noqa: PTH116 (and not opened: some devices act on that)
    # It may have become another since: then it is not waited for.
    file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")  # noqa: PTH123, SIM115
    try:
        _require_fit(os.fstat(file.fileno()), limit)
    except UnfitFileError:
        file.close()
        raise
    return file


def read_bounded(path: str | Path, limit: int = LARGEST_RECORDING) -> bytes:
    """The bytes of a regular file. Raises as `open_regular`, also where it grows while it is read."""
    with open_regular(path, limit) as file:
        content = file.read(limit + 1)
    require_size(len(content), limit)
    return content


def _require_fit(state: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(state.st_mode):
        kind = _KINDS.get(stat.S_IFMT(state.st_mode), "of another kind")
        raise UnfitFileError(f"not a regular file ({kind})")
    require_size(state.st_size, limit)


def require_size(size: int, limit: int = LARGEST_RECORDING) -> None:
    """Raise UnfitFileError for a size, as an archive says it of a member, that is too large."""
    if size > limit:
        raise UnfitFileError(f"too large ({size:,} bytes, of at most {limit:,})")


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int = LARGEST_RECORDING) -> bytes:
    """The bytes of a member of a zip file; no more is unpacked than it says it holds.

    Raises:
        UnfitFileError: it says more than `limit` bytes.
        zipfile.BadZipFile: of a method by which zipfile unpacks all at once, or damaged. It may raise others.
    """
    require_size(member.file_size, limit)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"compressed in the way {member.compress_type}, not stored or deflated")
    with archive.open(member) as file:
        return file.read(member.file_size)  # a member that holds more fails by its checksum


def naming(error: OSError, path: str | Path) -> None:
    """Put `path` into an error that names no file: a write that fails does not say of which."""
    if error.errno and error.filename is None:
        error.filename = str(path)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` at the end, remove it on an error.

    The file has the rights that the umask gives. What killed writers of `path` have left is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, path.name)
    temporary = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    temporary.touch(0o666, exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        naming(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path, name: str = "") -> None:
    """Remove the temporary files that dead processes of this machine have left in a folder.

    Args:
        name: of the file that they were to become; of any by default.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(f".{name}")]
    for match in filter(None, map(_TEMPORARY.fullmatch, names)):
        try:
            os.kill(int(match[1]), 0)
        except ProcessLookupError:
            (folder / match[0]).unlink(missing_ok=True)
        except (PermissionError, OverflowError):
            continue  # another user's


def move(source: Path, path: Path) -> None:
    """Rename `source` to `path`, or copy it there, whole or not at all, where that is another disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy(source, path)
        source.unlink()


def copy(source: Path, path: Path) -> None:
    """Copy a file's content, whole or not at all, and onto the disk."""
    with atomic_write(path) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which takes its place at the end; on an error `path` stays.

    So a folder never keeps files of an earlier run, nor loses any to a run that fails.
    """
    temporary, old = (path.with_name(f".{path.name}.{suffix}") for suffix in ("tmp", "old"))
    for left in (temporary, old):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)
