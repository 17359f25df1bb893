"""HDF5 clip store: rows of one shape with labels, written in place, each with a checksum.

Layout of a file: datasets `data` [clips, ...] (int16 waveforms [clips, samples] or float16 log-mel [clips,
frames, mels]), `labels` uint8 [clips, classes], `checksums` uint32 [clips], the CRC-32 of each row of `data`,
and `clip_ids` (UTF-8 in fixed-length bytes); attributes `version`, `classes` and `settings` (JSON), and
`checksum`, the CRC-32 of all but `data`. Every dataset is contiguous and in the file itself. A file with any
other content is refused before it is read: HDF5 can also hold pointers and filters, and refer to other files.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5o, h5s, h5t

from audionas.runtime.artifacts import remedy
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.filearray import Descriptor, FileArray
from audionas.runtime.files import atomic_write, move

VERSION = 2
_BLOCK = 256  # rows copied at a time, to stay in constant memory
_DATA = {np.dtype(np.int16): 2, np.dtype(np.float16): 3}  # type: number of dimensions
_DATASETS = ("checksums", "clip_ids", "data", "labels")
_ATTRIBUTES = ("checksum", "classes", "settings", "version")
_ID_BYTES = 256  # of the longest clip id
_TEXT_BYTES = 16 << 20  # of the longest attribute


class ClipStoreWriter:
    """Writer of a store with a fixed row for every clip; rows are written in any order by any thread.

    The file stays at a working path until `publish`, so it survives a killed process. Opening it again keeps
    what was written. The caller records which rows are done, and names the path after the inputs of the
    clips.

    Args:
        work: path to write at; an existing file is resumed.
        clips: (clip id, labels uint8 [classes]) of every row, read once and only for a new file.
        rows: number of clips.
        row_shape: shape of one clip's data, such as (samples,) or (frames, mels).
        dtype: int16 for rows [samples], float16 for rows [frames, mels].
        classes: class names, in the order of the label columns.
        settings: settings that the data are computed with; a reader with other settings refuses the file.

    Raises:
        ValueError: another type of data, a clip with another number of labels, or an id that is repeated or
            too long.
        UserError: `rows` is 0, the file at `work` has other rows, classes or settings, or the disk is full.
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
            raise UserError(f"{self.work}: no clip to write; see the ledger of the previous stage")
        if _DATA.get(np.dtype(dtype)) != 1 + len(self.row_shape):
            raise ValueError(f"{self.work}: rows {self.row_shape} of {np.dtype(dtype)} are no clips")
        if not self.work.exists():
            with _create(self.work, (rows, *row_shape), np.dtype(dtype), classes, settings) as file:
                _fill_clips(self.work, file, iter(clips), rows)
        store = ClipStore(self.work, settings)
        self._dtype, self._rows = store.data.dtype, len(store)
        if (self._dtype, store.data.shape, store.classes) != (
            np.dtype(dtype),
            (rows, *row_shape),
            [*classes],
        ):
            raise UserError(f"{self.work}: made for other clips; delete it and run again")
        with self._os_errors():
            self._file = Descriptor(self.work, os.O_RDWR)
        self._data, self._checksums = (
            FileArray(self._file, array.offset, array.shape, array.dtype)
            for array in (store.data, store.data.checksums)
        )

    def __enter__(self) -> ClipStoreWriter:
        return self

    def __exit__(self, *_) -> None:
        del self._data, self._checksums, self._file

    def __setitem__(self, row: int, data: np.ndarray) -> None:
        """Write one clip's data, of `row_shape`; safe in threads.

        Raises ValueError: the row does not exist, another shape, values that are not finite.
        """
        data = np.ascontiguousarray(data, dtype=self._dtype)
        if data.shape != self.row_shape:
            raise ValueError(f"{self.work}: row {row} has shape {data.shape}, not {self.row_shape}")
        if not 0 <= row < self._rows:
            raise ValueError(f"{self.work}: row {row} of {self._rows}")
        if self._dtype.kind == "f" and not np.isfinite(data).all():
            raise ValueError(f"{self.work}: row {row} holds values that are not finite")
        with self._os_errors():
            self._data[row] = data
            self._checksums[row] = np.array(zlib.crc32(data), np.uint32)

    def flush(self) -> None:
        """Wait until all rows are on disk (on macOS, in the disk's cache)."""
        with self._os_errors():
            os.fsync(self._file.number)

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        """Turn an OSError of this file into a UserError."""
        try:
            yield
        except OSError as error:
            raise os_error(error, self.work) from error

    def publish(self, path: Path, kept: np.ndarray | None = None) -> None:
        """Move the store to `path`; with `kept`, bool [rows], only the rows where it is true.

        Raises UserError if no row is kept, ValueError if `kept` has another length.
        """
        if kept is not None and kept.shape != (self._rows,):
            raise ValueError(f"{self.work}: {kept.shape} rows kept of {self._rows}")
        self.flush()
        if kept is None or kept.all():
            move(self.work, path)
            return
        if not kept.any():
            raise UserError(f"{path}: no clip to write; the ledger beside it gives the reason for each")
        here, rows = ClipStore(self.work), np.flatnonzero(kept)
        fewer = self.work.with_name(f"fewer-{self.work.name}")  # same folder, so it is removed with the other
        with _create(fewer, (len(rows), *self.row_shape), self._dtype, here.classes, here.settings) as file:
            _fill_clips(fewer, file, ((here.clip_ids[i], here.labels[i]) for i in rows), len(rows))
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                file["data"][start : start + len(block)] = here.data[block]
                file["checksums"][start : start + len(block)] = here.data.checksums[block]
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
    """Write a store from arrays in memory.

    Args:
        path: of the store.
        clip_ids: id of each clip.
        labels: uint8 [clips, classes].
        data: int16 [clips, samples] or float16 [clips, frames, mels].
        classes, settings: as `ClipStoreWriter`.

    Raises:
        ValueError, UserError: as `ClipStoreWriter`.
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
    texts = {
        "classes": json.dumps(classes).encode(),
        "settings": json.dumps(settings, sort_keys=True).encode(),
    }
    with atomic_write(path) as temporary, _ErrorRecordingFile(temporary, "r+") as raw:
        with h5py.File(raw, "w", libver="latest") as file:
            file.attrs["version"] = VERSION
            for name, text in texts.items():
                file.attrs[name] = np.bytes_(text)  # of fixed length: in the header, whose size is known
            for name, of, kind in (
                ("data", shape, dtype),
                ("labels", (shape[0], len(classes)), np.dtype(np.uint8)),
                ("checksums", shape[:1], np.dtype(np.uint32)),
            ):
                # Contiguous and there from the start, but not written: rows come later, at their offsets.
                layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                layout.set_layout(h5d.CONTIGUOUS)
                layout.set_alloc_time(h5d.ALLOC_TIME_EARLY)
                layout.set_fill_time(h5d.FILL_TIME_NEVER)
                file.create_dataset(name, of, kind, dcpl=layout)
            yield file
        if raw.error:
            raise os_error(raw.error, path) from raw.error


class _ErrorRecordingFile(io.FileIO):
    """File for HDF5 that records write errors instead of raising them: HDF5 would end the process.

    Attributes:
        error: the first write error, or None.
    """

    error: OSError | None = None

    def write(self, data) -> int:
        """Write all of `data`; see `io.FileIO`."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = self.error or error
        return size

    def truncate(self, size: int | None = None) -> int:
        """See `io.FileIO`."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


def _fill_clips(path: Path, file: h5py.File, clips: Iterable[tuple[str, np.ndarray]], rows: int) -> None:
    """Write labels and ids of all rows, in constant memory plus some 150 bytes a clip."""
    clips, ids, checksum = iter(clips), [], 0
    labels = file["labels"]
    while block := list(itertools.islice(clips, min(_BLOCK, rows + 1 - len(ids)))):
        for clip_id, its_labels in block:
            if np.shape(its_labels) != labels.shape[1:]:
                raise ValueError(
                    f"{path}: clip {clip_id!r} has labels that do not match {labels.shape[1]} classes"
                )
        start = len(ids)
        ids += [clip_id.encode() for clip_id, _ in block]
        if len(ids) > rows:
            raise ValueError(f"{path}: more clips than {rows} rows")
        part = np.array([its_labels for _, its_labels in block], np.uint8)
        labels[start : len(ids)], checksum = part, zlib.crc32(part, checksum)
    if len(ids) != rows:
        raise ValueError(f"{path}: {len(ids)} clips for {rows} rows")
    ids = np.array(ids)
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < rows:
        raise ValueError(f"{path}: clip {unique[counts.argmax()].decode()!r} appears twice")
    if not 1 <= ids.itemsize <= _ID_BYTES or not unique[0]:
        raise ValueError(f"{path}: a clip id of {ids.itemsize} bytes, or of none")
    file.create_dataset("clip_ids", data=ids)
    texts = (file.attrs[name].tobytes() for name in ("classes", "settings"))
    file.attrs["checksum"] = np.uint32(_checksum(checksum, ids, *texts))


def _checksum(of_labels: int, *rest) -> int:
    """Return the CRC-32 of labels, clip ids, classes and settings, in this order."""
    for part in rest:
        of_labels = zlib.crc32(part, of_labels)
    return of_labels


class ClipRows(FileArray):
    """Data of a store; each row is verified against its checksum on its first read.

    Attributes:
        checksums: uint32 [clips], in the file.
    """

    def __init__(self, checksums: FileArray, ids: np.ndarray, *layout):
        super().__init__(*layout)
        self.checksums, self._ids = checksums, ids
        self._expected = checksums[:]
        self._left = np.ones(len(self), bool)  # rows not yet verified

    def _read(self, rows) -> np.ndarray:
        out = super()._read(rows)
        rows = np.asarray(rows, np.int64)
        for place in np.flatnonzero(self._left[rows]):
            row = rows[place]
            if zlib.crc32(out[place]) != self._expected[row]:
                clip = self._ids[row].decode(errors="replace")
                raise UserError(
                    f"{self.file.path}: damaged: data of clip {clip!r} (row {row}) does not match its "
                    f"checksum; {remedy(self.file.path)}"
                )
            self._left[row] = False
        return out


class ClipStore:
    """Store opened for reading: labels and ids are read at once, data on access.

    Attributes:
        data: rows [clips, ...] in the file, as `FileArray`; int16 waveforms or float16 log-mel in dB.
        labels: uint8 [clips, classes].
        classes: list of str.
        settings: dict of dicts that the data were computed with.

    Raises:
        UserError: the file is missing, damaged, not as `ClipStoreWriter` writes it, or made with settings
            other than `settings`. A damaged row raises when it is read.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any] | None = None):
        self.path = Path(path)
        try:
            file = Descriptor(self.path)
            status = os.fstat(file.number)
        except FileNotFoundError:
            raise UserError(f"{self.path}: no such file; make it with `dvc repro`") from None
        except OSError as error:
            raise os_error(error, self.path) from None
        try:
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("not a regular file")
            with h5py.File(self.path, "r") as opened:
                self._read_head(opened, file, status.st_size)
        except UserError:
            raise
        except Exception as error:  # h5py raises many kinds for a damaged file
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{self.path}: damaged or not a clip store ({why}); {remedy(self.path)}"
            ) from None
        if settings is not None:
            self._require(settings)

    def _read_head(self, opened: h5py.File, file: Descriptor, size: int) -> None:
        """Read all but the data; check every part before reading it. Raises UserError and ValueError."""
        version = _integer(opened, "version", np.int64)
        if version != VERSION:
            raise UserError(
                f"{self.path}: store version {version}, but this program reads version {VERSION}; make it "
                "again with `dvc repro`"
            )
        for what, found, expected in (
            ("datasets", opened.id.get_num_objs(), len(_DATASETS)),
            ("attributes", h5a.get_num_attrs(opened.id), len(_ATTRIBUTES)),
            ("bytes before it", opened.userblock_size, 0),
        ):
            if found != expected:
                raise ValueError(f"{found} {what}, not {expected}")
        datasets = {name: _dataset(opened, name, size) for name in _DATASETS}
        kinds = {name: dataset.dtype for name, dataset in datasets.items()}
        shapes = {name: dataset.shape for name, dataset in datasets.items()}
        if _DATA.get(kinds["data"]) != len(shapes["data"]):
            raise ValueError(f"dataset 'data' {shapes['data']} of {kinds['data']}")
        rows = shapes["data"][0]
        if kinds["clip_ids"].itemsize > _ID_BYTES or shapes["clip_ids"] != (rows,):
            raise ValueError(f"dataset 'clip_ids' {shapes['clip_ids']} of {kinds['clip_ids']}")
        if shapes["checksums"] != (rows,):
            raise ValueError(f"dataset 'checksums' {shapes['checksums']}")
        classes, values = _text(opened, "classes"), _text(opened, "settings")
        self.classes, self.settings = _parsed_classes(classes), _parsed_settings(values)
        if shapes["labels"] != (rows, len(self.classes)):
            raise ValueError(f"dataset 'labels' {shapes['labels']} for {len(self.classes)} classes")

        arrays = {
            name: FileArray(file, dataset.get_offset(), shapes[name], kinds[name])
            for name, dataset in datasets.items()
        }
        self.labels, self._ids = arrays["labels"][:], arrays["clip_ids"][:]
        checksum = _checksum(zlib.crc32(self.labels), self._ids, classes, values)
        if checksum != _integer(opened, "checksum", np.uint32):
            raise ValueError("labels, clip ids, classes or settings do not match their checksum")
        if self.labels.max() > 1:
            raise ValueError("dataset 'labels' holds values other than 0 and 1")
        data = arrays["data"]
        self.data = ClipRows(arrays["checksums"], self._ids, file, data.offset, data.shape, data.dtype)

    def __len__(self) -> int:
        return len(self._ids)

    @cached_property
    def clip_ids(self) -> list[str]:
        """Clip ids in the order of the rows. Raises UserError for ids that are not text."""
        try:
            return [clip_id.decode() for clip_id in self._ids.tolist()]
        except UnicodeDecodeError:
            raise UserError(f"{self.path}: dataset 'clip_ids' is not in UTF-8; {remedy(self.path)}") from None

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
                "run `dvc repro` to make it again, or restore params.yaml"
            )


_KINDS = {
    "checksums": (np.dtype(np.uint32),),
    "labels": (np.dtype(np.uint8),),
    "data": tuple(_DATA),
}


def _dataset(file: h5py.File, name: str, size: int) -> h5d.DatasetID:
    """Return a contiguous dataset of this file of `size` bytes. Raises ValueError otherwise."""
    links = file.id.links
    if not links.exists(name.encode()):
        raise ValueError(f"no dataset {name!r}")
    if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"dataset {name!r} is a link")
    dataset = h5o.open(file.id, name.encode())
    if not isinstance(dataset, h5d.DatasetID):
        raise ValueError(f"{name!r} is not a dataset")
    kind, space, made = dataset.get_type(), dataset.get_space(), dataset.get_create_plist()
    if made.get_layout() != h5d.CONTIGUOUS or made.get_external_count() or made.get_nfilters():
        raise ValueError(f"dataset {name!r} is not contiguous in this file")
    if name == "clip_ids":
        fits = isinstance(kind, h5t.TypeStringID) and not kind.is_variable_str()
        fits = fits and kind == h5t.py_create(np.dtype(f"S{kind.get_size()}"))
    else:
        fits = any(kind == h5t.py_create(of) for of in _KINDS[name])
    if not fits:
        raise ValueError(f"dataset {name!r} is of another type")
    if space.get_simple_extent_type() != h5s.SIMPLE or not all(dataset.shape):
        raise ValueError(f"dataset {name!r} is not an array, or empty")
    offset, length = dataset.get_offset(), math.prod(dataset.shape) * kind.get_size()
    if offset is None or offset + length > size:
        raise ValueError(f"dataset {name!r} ends after the file")
    return dataset


def _attribute(file: h5py.File, name: str) -> h5a.AttrID:
    if not h5a.exists(file.id, name.encode()):
        raise ValueError(f"no attribute {name!r}")
    attribute = h5a.open(file.id, name.encode())
    if attribute.get_space().get_simple_extent_type() != h5s.SCALAR:
        raise ValueError(f"attribute {name!r} is not a single value")
    return attribute


def _integer(file: h5py.File, name: str, dtype) -> int:
    attribute = _attribute(file, name)
    if attribute.get_type() != h5t.py_create(np.dtype(dtype)):
        raise ValueError(f"attribute {name!r} is of another type")
    return int(file.attrs[name])


def _text(file: h5py.File, name: str) -> bytes:
    kind = _attribute(file, name).get_type()
    if not isinstance(kind, h5t.TypeStringID) or kind.is_variable_str() or kind.get_size() > _TEXT_BYTES:
        raise ValueError(f"attribute {name!r} is not text of fixed length")
    return bytes(file.attrs[name])


def _parsed_classes(text: bytes) -> list[str]:
    classes = _json("classes", text)
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        raise ValueError("attribute 'classes' is not a list of names")
    if not classes or len(set(classes)) < len(classes):
        raise ValueError("attribute 'classes' names a class twice, or none")
    return classes


def _parsed_settings(text: bytes) -> dict[str, dict[str, Any]]:
    settings = _json("settings", text)
    if not isinstance(settings, dict) or not all(isinstance(section, dict) for section in settings.values()):
        raise ValueError("attribute 'settings' has no sections")
    return settings


def _json(name: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"attribute {name!r} is not JSON: {error}") from None
