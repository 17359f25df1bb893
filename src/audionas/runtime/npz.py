"""NPZ files: written with equal bytes everywhere, and checked before they are read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays like `numpy.savez`, with the same bytes under every Python version.

    `savez` requests zip64, which Python 3.11.4 and later mark differently. DVC would then treat the
    file of another machine as changed.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())


def read_npz(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read arrays by name from a file of `write_npz`. It cannot unpack to more than its own size.

    Raises:
        OSError: the file cannot be read.
        Exception: it is damaged; a flipped bit may raise any error of zlib or NumPy.
    """
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise ValueError("the content is larger than the file")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged}: checksum mismatch")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in names}
