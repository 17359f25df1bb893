"""Atomic writes, where a reader sees the old or the new file, and bounded reads."""

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

from audionas.runtime.errors import UserError

#: Maximum size of a recording in bytes: 100 minutes of CD audio, or days of a lossy format.
LARGEST_RECORDING = 1 << 30
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_LONG = 200  # bytes of a file name; most file systems allow 255
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_TEMPORARY = re.compile(rf"\..+\.{_HOST}-(\d+)-[0-9a-f]{{8}}\.tmp")  # process id of the writer


class UnfitFileError(Exception):
    """The file must not be read: `not a regular file (a pipe)`, or `too large (N bytes, of at most M)`."""


def open_regular(path: str | Path, limit: int = LARGEST_RECORDING) -> BinaryIO:
    """Open a regular file for reading; refuse pipes and devices, which may never end.

    Raises:
        UnfitFileError: another kind of file, or more than `limit` bytes.
        OSError: the file does not exist or is not readable.
    """
    _require_fit(os.stat(path), limit)  # noqa: PTH116 (before opening: some devices react to that)
    # The file may have been replaced by a pipe since; O_NONBLOCK avoids waiting for it.
    file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")  # noqa: PTH123, SIM115
    try:
        _require_fit(os.fstat(file.fileno()), limit)
    except UnfitFileError:
        file.close()
        raise
    return file


def read_bounded(path: str | Path, limit: int = LARGEST_RECORDING) -> bytes:
    """Return the bytes of a regular file. Raises as `open_regular`, also if the file grows meanwhile."""
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
    """Raise UnfitFileError if a size, such as that of an archive's member, is above the limit."""
    if size > limit:
        raise UnfitFileError(f"too large ({size:,} bytes, of at most {limit:,})")


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int = LARGEST_RECORDING) -> bytes:
    """Return the bytes of a member of a zip file; unpack at most its stated size.

    Raises:
        UnfitFileError: its stated size is above `limit` bytes.
        zipfile.BadZipFile: damaged, or a compression that zipfile unpacks at once. Others are possible.
    """
    require_size(member.file_size, limit)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"compressed in the way {member.compress_type}, not stored or deflated")
    with archive.open(member) as file:
        return file.read(member.file_size)  # a larger member fails its checksum


def naming(error: OSError, path: str | Path) -> None:
    """Add `path` to an error that names no file, such as that of a failed write."""
    if error.errno and error.filename is None:
        error.filename = str(path)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` at the end, remove it on an error.

    The file has the permissions of the umask. Temporary files of killed writers of `path` are removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _require_replaceable(path)
    name = path.name
    if len(os.fsencode(name)) > _LONG:  # the longer temporary name would not fit
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    remove_abandoned(path.parent, name)
    temporary = path.with_name(f".{name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    temporary.touch(0o666, exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        naming(error, path)
        if error.filename == str(temporary):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _require_replaceable(path: Path) -> None:
    """Raise UserError for a pipe, a device or the like: a rename would replace `/dev/null` by a file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # none; or the write reports it
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "of another kind")
        raise UserError(f"{path}: {kind}, where a file is to be written; give the name of a file")


def remove_abandoned(folder: Path, name: str = "") -> None:
    """Remove the temporary files of ended processes of this machine from a folder.

    Args:
        folder: to clean.
        name: final name of the files; any by default.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(f".{name}")]
    for match in filter(None, map(_TEMPORARY.fullmatch, names)):
        try:
            os.kill(int(match[1]), 0)
        except ProcessLookupError:
            (folder / match[0]).unlink(missing_ok=True)
        except (PermissionError, OverflowError):
            continue  # another user's process


def move(source: Path, path: Path) -> None:
    """Rename `source` to `path`, or copy it atomically if that is on another disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy(source, path)
        source.unlink()


def copy(source: Path, path: Path) -> None:
    """Copy a file's content atomically, and sync it to disk."""
    with atomic_write(path) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which replaces `path` at the end; on an error `path` stays.

    The folder never contains files of an earlier run, and a failed run does not remove any.
    """
    temporary, old = (path.with_name(f".{path.name}.{suffix}") for suffix in ("tmp", "old"))
    for left in (temporary, old):  # of a killed run
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


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits. It is read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
