"""The HDF5 clip store: rows of one shape with labels, filled in place, read without copying.

Layout of a file: dataset `data` [clips, ...] (contiguous, so it can be memory-mapped), `labels`
uint8 [clips, classes], `clip_ids`; attributes `classes` and `settings` (JSON) and `version`.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from audionas.errors import UserError
from audionas.files import atomic_write, move

VERSION = 1
_BLOCK = 256  # rows copied at a time, to stay in constant memory


class ClipStoreWriter:
    """A store that fills in place: every clip has its row from the start, written in any order by any thread.

    It lies at a working path until `publish`, so it outlives a killed process: opened again there, what was
    written is still in it. Which rows those are is for the caller to remember, and to name the path by what
    the clips follow from.

    Args:
        work: where it fills; a file that lies there is gone on with.
        clips: (clip id, labels uint8 [classes]) of every row, read once and only for a new file.
        rows: how many `clips` gives.
        row_shape: shape of one clip's data, such as (samples,) or (frames, mels).
        dtype: NumPy type of the data, such as int16 or float16.
        classes: class names, in the order of the label columns.
        settings: what the data are made with; a reader that wants others is refused.

    Raises:
        ValueError: a clip without a label, of another number of labels, or with an id that stands already.
        UserError: `rows` is 0, what lies at `work` has other rows, classes or settings, or the disk is full.
    """

    def __init__(
        self,
        work: str | Path,
        clips: Iterable[tuple[str, np.ndarray]],
        rows: int,
        *,
        row_shape: tuple[int, ...],
        dtype,
        classes: list[str],
        settings: dict,
    ):
        self.work, self.row_shape = Path(work), tuple(row_shape)
        if not rows:
            raise UserError(f"{self.work}: not one clip to write; see the ledger of the stage before")
        if not self.work.exists():
            with _create(self.work, (rows, *row_shape), np.dtype(dtype), classes, settings) as file:
                _fill_clips(self.work, file, iter(clips), rows)
        store = ClipStore(self.work, settings)
        self._offset, self._dtype, self._rows = store.data.offset, store.data.dtype, len(store)
        if (self._dtype, store.data.shape, store.classes) != (
            np.dtype(dtype),
            (rows, *row_shape),
            [*classes],
        ):
            raise UserError(f"{self.work}: made for other clips; delete it and run again")
        self._file = self.work.open("r+b", buffering=0)

    def __enter__(self) -> ClipStoreWriter:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def __setitem__(self, row: int, data: np.ndarray) -> None:
        """Write one clip's data, of `row_shape`; safe in threads.

        Raises ValueError: a row that there is not, another shape, values that are not finite.
        """
        data = np.ascontiguousarray(data, dtype=self._dtype)
        if data.shape != self.row_shape:
            raise ValueError(f"{self.work}: row {row} has shape {data.shape}, not {self.row_shape}")
        if not 0 <= row < self._rows:
            raise ValueError(f"{self.work}: row {row} of {self._rows}")
        if self._dtype.kind == "f" and not np.isfinite(data).all():
            raise ValueError(f"{self.work}: row {row} holds values that are not finite")
        # Not through a memory map: with a full disk that would end the process without a word.
        left, at = memoryview(data).cast("B"), self._offset + row * data.nbytes
        with self._said():
            while left:
                done = os.pwrite(self._file.fileno(), left, at)
                left, at = left[done:], at + done

    def flush(self) -> None:
        """Return when all that was written is on disk (on macOS, in the disk's cache)."""
        with self._said():
            os.fsync(self._file.fileno())

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What the system says of this file, in words."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.work}: {error.strerror}; make room or mend the disk, then run again: what was "
                "written is kept"
            ) from error

    def publish(self, path: Path, kept: np.ndarray | None = None) -> None:
        """Move the store to `path`, or only the rows where `kept`, bool [rows], is true. Closes it.

        Raises UserError when no row is kept, ValueError when `kept` is not of so many rows.
        """
        if kept is not None and kept.shape != (self._rows,):
            raise ValueError(f"{self.work}: {kept.shape} rows kept of {self._rows}")
        self.flush()
        self._file.close()
        if kept is None or kept.all():
            move(self.work, path)
            return
        if not kept.any():
            raise UserError(f"{path}: not one clip to write; the ledger beside it says why each was left out")
        here, rows = ClipStore(self.work), np.flatnonzero(kept)
        fewer = self.work.with_name(f"fewer-{self.work.name}")  # beside the other, which is removed with it
        with _create(fewer, (len(rows), *self.row_shape), self._dtype, here.classes, here.settings) as file:
            _fill_clips(fewer, file, ((here.clip_ids[i], here.labels[i]) for i in rows), len(rows))
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                file["data"][start : start + len(block)] = here.data[block]
        move(fewer, path)
        self.work.unlink()


def write_store(
    path: Path,
    clip_ids: Sequence[str],
    labels: np.ndarray,
    data: np.ndarray,
    *,
    classes: list[str],
    settings: dict,
) -> None:
    """A store of what is at hand: labels uint8 [clips, classes] and data [clips, ...] of the store's type.

    Raises ValueError and UserError as `ClipStoreWriter`.
    """
    work = path.with_name(f".{path.name}.tmp")
    work.unlink(missing_ok=True)
    options = {"row_shape": data.shape[1:], "dtype": data.dtype, "classes": classes, "settings": settings}
    try:
        with ClipStoreWriter(work, zip(clip_ids, labels, strict=True), len(data), **options) as writer:
            for i, row in enumerate(data):
                writer[i] = row
            writer.publish(path)
    finally:
        work.unlink(missing_ok=True)


@contextmanager
def _create(path: Path, shape: tuple[int, ...], dtype, classes, settings) -> Iterator[h5py.File]:
    """A new store's file, which appears under its name when it is left; data and clips are still to come."""
    with atomic_write(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        file.attrs["version"] = VERSION
        file.attrs["classes"] = json.dumps(classes)
        file.attrs["settings"] = json.dumps(settings, sort_keys=True)
        for name, of, kind in (
            ("data", shape, dtype),
            ("labels", (shape[0], len(classes)), np.dtype(np.uint8)),
        ):
            # Contiguous and there from the start, but not written: rows come later, at their offsets.
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_layout(h5py.h5d.CONTIGUOUS)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            file.create_dataset(name, of, kind, dcpl=layout)
        yield file


def _fill_clips(path: Path, file: h5py.File, clips: Iterable[tuple[str, np.ndarray]], rows: int) -> None:
    """Labels and ids of all rows, in constant memory but for some 150 bytes a clip."""
    clips, ids = iter(clips), []
    labels = file["labels"]
    while block := list(itertools.islice(clips, min(_BLOCK, rows + 1 - len(ids)))):
        for clip_id, its_labels in block:
            if np.shape(its_labels) != labels.shape[1:] or not np.any(its_labels):
                raise ValueError(f"{path}: clip {clip_id!r} has no label among {labels.shape[1]} classes")
        start = len(ids)
        ids += [clip_id.encode() for clip_id, _ in block]
        if len(ids) > rows:
            raise ValueError(f"{path}: more clips than {rows} rows")
        labels[start : len(ids)] = np.array([its_labels for _, its_labels in block], np.uint8)
    if len(ids) != rows:
        raise ValueError(f"{path}: {len(ids)} clips for {rows} rows")
    ids = np.array(ids)
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < rows:
        raise ValueError(f"{path}: clip {unique[counts.argmax()].decode()!r} stands twice")
    file.create_dataset("clip_ids", data=ids)


class ClipStore:
    """A store opened for reading; `data` is memory-mapped, so opening costs nothing.

    Attributes:
        data: memory map [clips, ...]; int16 waveforms or float16 log-mel in dB.
        labels: uint8 [clips, classes], memory-mapped too.
        classes: list of str.
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
                self._ids: np.ndarray = file["clip_ids"][:]
                maps = [
                    (dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)
                    for dataset in (file["data"], file["labels"])
                ]
            if any(offset is None or shape[0] != len(self._ids) for _, _, offset, shape in maps):
                raise ValueError("its datasets do not fit each other")
            self.data, self.labels = (np.memmap(self.path, *layout) for layout in maps)
        except FileNotFoundError:
            raise UserError(f"{self.path}: no such file; make it with `dvc repro`") from None
        except (OSError, KeyError, ValueError) as error:
            raise UserError(
                f"{self.path}: damaged or not a clip store ({error}); delete it and run `dvc repro`"
            ) from None
        if settings is not None:
            self._require(settings)

    def __len__(self) -> int:
        return len(self._ids)

    @cached_property
    def clip_ids(self) -> list[str]:
        """In the order of the rows."""
        return [clip_id.decode() for clip_id in self._ids]

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
