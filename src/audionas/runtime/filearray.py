"""Arrays in files, read and written by position instead of a memory map.

A memory map ends the process by SIGBUS if its file is truncated or its disk is full. A failed read or write
is an error with a message.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import tempfile
from pathlib import Path

import numpy as np

from audionas.runtime.errors import UserError, os_error


class Descriptor:
    """A file descriptor for access by position; closed when the last reference is deleted."""

    def __init__(self, path: Path, flags: int = os.O_RDONLY):
        self.path = path
        self.number = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for a writer

    @classmethod
    def unnamed(cls, folder: Path) -> Descriptor:
        """Return a new unnamed file on a folder's disk, which disappears when closed. Raises OSError."""
        made = cls.__new__(cls)
        with tempfile.TemporaryFile(dir=folder) as file:
            made.path, made.number = folder, os.dup(file.fileno())
        return made

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class FileArray:
    """A C-ordered array [rows, ...] inside a file; safe in threads.

    Args:
        file: open descriptor, for reading or writing.
        offset: of the first row, in bytes.
        shape: [rows, ...].
        dtype: type of the values.

    Attributes:
        row_bytes: size of a row in bytes.
    """

    def __init__(self, file: Descriptor, offset: int, shape: tuple[int, ...], dtype: np.dtype):
        self.file, self.offset, self.shape, self.dtype = file, offset, tuple(shape), np.dtype(dtype)
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Size of all rows in bytes."""
        return self.shape[0] * self.row_bytes

    def allocate(self) -> None:
        """Allocate the space on disk, if the file system supports it. Raises OSError."""
        try:
            os.posix_fallocate(self.file.number, self.offset, self.nbytes)
        except AttributeError:  # macOS
            pass
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __getitem__(self, index) -> np.ndarray:
        """Read a row [...], or rows [n, ...] by a slice, indices or a mask bool [rows], into a new array.

        Raises:
            IndexError: the row does not exist.
            UserError: the file cannot be read, or is truncated.
        """
        if isinstance(index, int | np.integer):
            return self._read([range(len(self))[index]])[0]
        if isinstance(index, slice):
            return self._read(range(len(self))[index])
        rows = np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        if rows.ndim != 1 or (len(rows) and not -len(self) <= rows.min() <= rows.max() < len(self)):
            raise IndexError(f"rows {index!r:.60} of {len(self)}")
        return self._read(np.where(rows < 0, rows + len(self), rows))

    def __setitem__(self, row: int, values: np.ndarray) -> None:
        """Write one row. Raises OSError."""
        self.write(row * self.row_bytes, values)

    def write(self, at: int, values: np.ndarray) -> None:
        """Write values of the array's type, C-ordered, at byte `at` of the array. Raises OSError."""
        left, at = memoryview(np.ascontiguousarray(values, self.dtype)).cast("B"), self.offset + at
        while left:
            done = os.pwrite(self.file.number, left, at)
            left, at = left[done:], at + done

    def _read(self, rows) -> np.ndarray:
        rows = np.asarray(rows, np.int64)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        starts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for first, end in itertools.pairwise(starts):  # runs of consecutive rows
            if first < end:
                self._fill(out[first:end], self.offset + int(rows[first]) * self.row_bytes)
        return out

    def _fill(self, out: np.ndarray, at: int) -> None:
        left = memoryview(out.reshape(-1).view(np.uint8))
        while left:
            try:
                done = os.preadv(self.file.number, [left], at)
            except OSError as error:
                raise os_error(error, self.file.path) from error
            if not done:
                raise UserError(
                    f"{self.file.path}: truncated during the read; wait for its writer, then run again"
                )
            left, at = left[done:], at + done
