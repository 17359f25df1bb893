"""The HDF5 clip store: rows of one shape with labels, written whole, read without copying.

Layout of a file: dataset `data` [clips, ...] (contiguous, so it can be memory-mapped), `labels`
uint8 [clips, classes], `clip_ids`; attributes `classes` and `settings` (JSON) and `version`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from audionas.errors import UserError
from audionas.files import atomic_write

VERSION = 1
_BLOCK = 256  # rows copied at a time, to stay in constant memory


class ClipStoreWriter:
    """Writes a store in constant memory; the file appears under its name only when it is whole.

    Rows are spooled to a temporary file first: how many clips decode is known only at the end, and a
    contiguous dataset cannot grow.

    Args:
        path: the file to write.
        row_shape: shape of one clip's data, such as (samples,) or (frames, mels).
        dtype: NumPy type of the data, such as int16 or float16.
        classes: class names, in the order of the label columns.
        settings: what the data were made with; a reader that wants others is refused.

        may_be_empty: write no file, rather than refuse, when no row was added.

    Raises:
        ValueError: a row of another shape, of non-finite values, without a label, or with an id that
            stands already.
        UserError: at the end, when no row was added.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        row_shape: tuple[int, ...],
        dtype,
        classes: list[str],
        settings: dict,
        may_be_empty: bool = False,
    ):
        self.path = Path(path)
        self.row_shape = tuple(row_shape)
        self.dtype = np.dtype(dtype)
        self.classes = list(classes)
        self.settings = settings
        self.may_be_empty = may_be_empty
        self._ids: dict[str, None] = {}
        self._labels: list[np.ndarray] = []

    def __enter__(self) -> ClipStoreWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._spool = tempfile.TemporaryFile(dir=self.path.parent)
        return self

    def add(self, clip_id: str, row: np.ndarray, labels: np.ndarray) -> None:
        """Append one clip: data of `row_shape`, labels uint8 [classes]."""
        row = np.asarray(row)
        labels = np.asarray(labels, dtype=np.uint8)
        if row.shape != self.row_shape:
            raise ValueError(f"{self.path}: clip {clip_id!r} has shape {row.shape}, not {self.row_shape}")
        if not np.isfinite(row).all():
            raise ValueError(f"{self.path}: clip {clip_id!r} holds values that are not finite")
        if labels.shape != (len(self.classes),) or not labels.any():
            raise ValueError(f"{self.path}: clip {clip_id!r} has no label among {len(self.classes)} classes")
        if clip_id in self._ids:
            raise ValueError(f"{self.path}: clip {clip_id!r} stands twice")
        self._spool.write(np.ascontiguousarray(row, dtype=self.dtype).tobytes())
        self._ids[clip_id] = None
        self._labels.append(labels)

    def __exit__(self, kind, error, trace) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._spool.close()

    def _finish(self) -> None:
        n = len(self._ids)
        if n == 0 and self.may_be_empty:
            return
        if n == 0:
            raise UserError(
                f"{self.path}: not one clip to write; the ledger beside it says why each was left out"
            )
        self._spool.seek(0)
        size = int(np.prod(self.row_shape)) * self.dtype.itemsize
        blocks = (
            np.frombuffer(self._spool.read(min(_BLOCK, n - start) * size), self.dtype)
            for start in range(0, n, _BLOCK)
        )
        shape = (n, *self.row_shape)
        _write(self.path, shape, self.dtype, blocks, self._labels, self._ids, self.classes, self.settings)


def join_stores(parts: Sequence[Path], path: Path) -> None:
    """One store of several, in order, in constant memory; with one part it is moved, not copied.

    Raises:
        UserError: a part is damaged, or they differ in classes, settings or shape.
    """
    stores = [ClipStore(part) for part in parts]
    first = stores[0]
    for store in stores:
        if (store.classes, store.settings, store.data.shape[1:]) != (
            first.classes,
            first.settings,
            first.data.shape[1:],
        ):
            raise UserError(f"{store.path}: made otherwise than {first.path}; delete both and run again")
    if len(stores) == 1:
        path.parent.mkdir(parents=True, exist_ok=True)
        first.path.replace(path)
        return
    blocks = (s.data[i : i + _BLOCK] for s in stores for i in range(0, len(s), _BLOCK))
    labels = np.concatenate([store.labels for store in stores])
    ids = [clip_id for store in stores for clip_id in store.clip_ids]
    shape = (len(ids), *first.data.shape[1:])
    _write(path, shape, first.data.dtype, blocks, labels, ids, first.classes, first.settings)


def _write(path: Path, shape, dtype, blocks: Iterable[np.ndarray], labels, ids, classes, settings) -> None:
    with atomic_write(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        file.attrs["version"] = VERSION
        file.attrs["classes"] = json.dumps(classes)
        file.attrs["settings"] = json.dumps(settings, sort_keys=True)
        data = file.create_dataset("data", shape, dtype)
        start = 0
        for block in blocks:
            rows = block.reshape(-1, *shape[1:])
            data[start : start + len(rows)] = rows
            start += len(rows)
        file.create_dataset("labels", data=np.stack(labels))
        file.create_dataset("clip_ids", data=np.array([clip_id.encode() for clip_id in ids]))


class ClipStore:
    """A store opened for reading; `data` is memory-mapped, so opening costs nothing.

    Attributes:
        data: memory map [clips, ...]; int16 waveforms or float16 log-mel in dB.
        labels: uint8 [clips, classes].
        clip_ids, classes: lists of str.
        settings: dict that the data were made with.

    Raises:
        UserError: the file is missing, damaged, or made with settings other than `settings`.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any] | None = None):
        self.path = Path(path)
        try:
            with h5py.File(self.path, "r") as file:
                if file.attrs["version"] != VERSION:
                    raise UserError(
                        f"{self.path}: version {file.attrs['version']} of the store, and this program reads "
                        f"{VERSION}; make it again with `dvc repro`"
                    )
                self.classes: list[str] = json.loads(file.attrs["classes"])
                self.settings: dict[str, Any] = json.loads(file.attrs["settings"])
                self.labels: np.ndarray = file["labels"][:]
                self.clip_ids: list[str] = [i.decode() for i in file["clip_ids"][:]]
                data = file["data"]
                offset, shape, dtype = data.id.get_offset(), data.shape, data.dtype
            if offset is None or not len(self.labels) == len(self.clip_ids) == shape[0]:
                raise ValueError("its datasets do not fit each other")
            self.data = np.memmap(self.path, dtype, "r", offset, shape)
        except FileNotFoundError:
            raise UserError(f"{self.path}: no such file; make it with `dvc repro`") from None
        except (OSError, KeyError, ValueError) as error:
            raise UserError(
                f"{self.path}: damaged or not a clip store ({error}); delete it and run `dvc repro`"
            ) from None
        if settings is not None:
            self._require(settings)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def _require(self, wanted: dict[str, Any]) -> None:
        wanted = json.loads(json.dumps(wanted))
        differing = [
            f"{section}.{key} is {have.get(key)!r} in the file and {value!r} here"
            for section, values in wanted.items()
            for have in [self.settings.get(section, {})]
            for key, value in values.items()
            if have.get(key) != value
        ]
        if differing:
            raise UserError(
                f"{self.path}: made with other settings: {'; '.join(differing)}; "
                "run `dvc repro` to make it again, or set params.yaml back"
            )
