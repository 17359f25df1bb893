"""The exception with messages for users, and its form for errors of the operating system."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path


class UserError(Exception):
    """An error that the user can fix; the message names the file, the field and the fix.

    The command line prints it without a traceback and exits with 1.
    """


_RIGHTS = "have its owner give you the right to it (ls -l shows who that is)"
_PATH = "fix the path, or make it with `dvc repro`"
_REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room, or ask for a larger quota",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`)",
    errno.EROFS: "its disk is mounted read-only: mount it for writing, or work in a folder on another disk",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EIO: "its disk fails, or the network to it: see the system's log",
    errno.ESTALE: "its file server has lost it: mount the folder again",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENOMEM: "free memory",
    errno.ENOENT: _PATH,
    errno.ENOTDIR: _PATH,
    errno.EISDIR: _PATH,
    errno.ELOOP: _PATH,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "remove that file, or choose another name",
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TEMPORARY = re.compile(r"\.(.+)\.[^.]+\.tmp")
_NETWORK = {errno.ECONNREFUSED, errno.ECONNRESET, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT}


def os_error(error: OSError, path: str | Path | None = None) -> UserError:
    """Return a UserError for an error of the operating system: the file, the problem and the fix.

    Args:
        error: the error.
        path: the file, or a name for it; by default the file that the error names.
    """
    number = error.errno if isinstance(error.errno, int) else 0
    what = (
        os.strerror(number) if number > 0 else (str(error).strip().splitlines() or [type(error).__name__])[0]
    )
    written = error.filename2 if number in _FULL else None  # for a copy, the target
    where = os.fsdecode(path or written or error.filename or "")
    if temporary := _TEMPORARY.fullmatch(Path(where).name):
        where = str(Path(where).with_name(temporary[1]))  # the final name
    if number in _NETWORK or isinstance(error, ConnectionError | TimeoutError):
        remedy = "check the network"
    else:
        remedy = _REMEDIES.get(number, "remove the cause")
    return UserError(
        f"{f'{where}: ' if where else ''}{what}; {remedy}, then run again: finished work is kept"
    )
