"""Clip stores that are damaged, or made to harm: each is refused by name, whatever lies in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import limits
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.data.store import ClipStore, ClipStoreWriter, write_store
from audionas.runtime.errors import UserError

CLASSES, SETTINGS = ["a", "b", "c"], {"audio": {"sample_rate": 32_000}}
ROWS, SHAPE = 6, (6, 20, 8)


def make(path: Path) -> Path:
    rows = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float16)
    labels = np.eye(3, dtype=np.uint8)[np.arange(ROWS) % 3]
    ids = [f"c{i}" for i in range(ROWS)]
    write_store(path, ids, labels, rows, classes=CLASSES, settings=SETTINGS)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("store") / "whole.h5")


def contiguous(file: h5py.File, name: str, shape, dtype) -> None:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    file.create_dataset(name, shape, dtype, dcpl=layout)


def compact(file: h5py.File, name: str) -> None:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.COMPACT)
    file.create_dataset(name, SHAPE, np.float16, dcpl=layout)


def virtual(file: h5py.File, name: str, shape, dtype) -> None:
    layout = h5py.VirtualLayout(shape, dtype)
    layout[:] = h5py.VirtualSource("other.h5", name, shape)
    file.create_virtual_dataset(name, layout)


def soft_loop(file: h5py.File, name: str) -> None:
    file[name], file["loop"] = h5py.SoftLink("/loop"), h5py.SoftLink(f"/{name}")


def attribute(name: str, value):
    def put(file: h5py.File) -> None:
        file.attrs[name] = value

    return name, put


def text(name: str, value: str):
    return attribute(name, np.bytes_(value.encode()))


STRINGS, HALF = h5py.string_dtype(), np.float16
COMPOUND = np.dtype([("a", "f4"), ("b", STRINGS)])
#: What is put in place of a part of a whole store: its name, and how.
HOSTILE = {
    "external storage of ids": (
        "clip_ids",
        lambda f: f.create_dataset("clip_ids", (ROWS,), "S2", external=[("other.h5", 0, 48)]),
    ),
    "external storage of data": (
        "data",
        lambda f: f.create_dataset("data", SHAPE, HALF, external=[("other.h5", 0, 1920)]),
    ),
    **{
        f"external link to {name}": (
            name,
            lambda f, name=name: f.__setitem__(name, h5py.ExternalLink("other.h5", name)),
        )
        for name in ("data", "labels", "clip_ids", "checksums")
    },
    "soft link": ("data", lambda f: f.__setitem__("data", h5py.SoftLink("/labels"))),
    "dangling link": ("data", lambda f: f.__setitem__("data", h5py.SoftLink("/nowhere"))),
    "loop of links": ("data", lambda f: soft_loop(f, "data")),
    "virtual data": ("data", lambda f: virtual(f, "data", SHAPE, HALF)),
    "virtual ids": ("clip_ids", lambda f: virtual(f, "clip_ids", (ROWS,), "S2")),
    "compressed data": (
        "data",
        lambda f: f.create_dataset("data", SHAPE, HALF, chunks=(1, 20, 8), compression="gzip"),
    ),
    "compressed ids": (
        "clip_ids",
        lambda f: f.create_dataset(
            "clip_ids", (200_000_000,), "S64", chunks=(1_000_000,), compression="gzip"
        ),
    ),
    "endless ids": (
        "clip_ids",
        lambda f: f.create_dataset("clip_ids", (10**12,), "S64", chunks=(1_000_000,)),
    ),
    "long ids": ("clip_ids", lambda f: contiguous(f, "clip_ids", (ROWS,), "S300")),
    "ids of variable length": (
        "clip_ids",
        lambda f: f.create_dataset("clip_ids", data=["c"] * ROWS, dtype=STRINGS),
    ),
    "ids in two dimensions": (
        "clip_ids",
        lambda f: f.create_dataset("clip_ids", data=np.zeros((ROWS, 2), "S2")),
    ),
    "ids as numbers": ("clip_ids", lambda f: f.create_dataset("clip_ids", data=np.arange(ROWS))),
    "one id": ("clip_ids", lambda f: f.create_dataset("clip_ids", data=np.bytes_(b"x"))),
    "other ids": ("clip_ids", lambda f: f.create_dataset("clip_ids", data=np.array([b"\xff\xfe"] * ROWS))),
    "a group of ids": ("clip_ids", lambda f: f.create_group("clip_ids")),
    "a group of data": ("data", lambda f: f.create_group("data")),
    "data of variable length": ("data", lambda f: contiguous(f, "data", (ROWS,), STRINGS)),
    "references": ("data", lambda f: contiguous(f, "data", (ROWS,), h5py.ref_dtype)),
    "compounds": ("data", lambda f: contiguous(f, "data", (ROWS,), COMPOUND)),
    "other byte order": ("data", lambda f: contiguous(f, "data", SHAPE, ">f2")),
    "float64": ("data", lambda f: contiguous(f, "data", SHAPE, np.float64)),
    "objects by their size": ("data", lambda f: contiguous(f, "data", SHAPE, "V8")),
    "two dimensions": ("data", lambda f: contiguous(f, "data", (6, 20), HALF)),
    "a scalar": ("data", lambda f: contiguous(f, "data", (), HALF)),
    "nothing": ("data", lambda f: f.create_dataset("data", data=h5py.Empty(HALF))),
    "no rows": ("data", lambda f: f.create_dataset("data", (0, 20, 8), HALF)),
    "a row too few": ("data", lambda f: contiguous(f, "data", (5, 20, 8), HALF)),
    "compact": ("data", lambda f: compact(f, "data")),
    "wide labels": ("labels", lambda f: contiguous(f, "labels", (ROWS, 9), np.uint8)),
    "flat labels": ("labels", lambda f: contiguous(f, "labels", (ROWS,), np.uint8)),
    "float labels": ("labels", lambda f: contiguous(f, "labels", (ROWS, 3), np.float32)),
    "other labels": ("labels", lambda f: f.create_dataset("labels", data=np.ones((ROWS, 3), np.uint8))),
    "one checksum": ("checksums", lambda f: contiguous(f, "checksums", (1,), np.uint32)),
    "one thing more": ("", lambda f: f.create_group("more")),
    "one attribute more": ("", lambda f: f.attrs.__setitem__("more", 1)),
    "no data": ("data", lambda f: None),
    "classes: half": text("classes", "{"),
    "classes: 5": text("classes", "5"),
    "classes: names twice": text("classes", '["a", "a", "b"]'),
    "classes: numbers": text("classes", "[1, 2, 3]"),
    "classes: other": text("classes", '["a", "b", "d"]'),
    "classes: object": text("classes", '{"a": 1}'),
    "classes: nested": text("classes", "[" * 9_000 + "]" * 9_000),
    "classes: bytes": attribute("classes", np.bytes_(b"\xff")),
    "classes: an int": attribute("classes", 5),
    "classes: array": attribute("classes", np.arange(5)),
    "classes: of variable length": attribute("classes", json.dumps(CLASSES)),
    "settings: list": text("settings", "[1]"),
    "settings: section of a list": text("settings", '{"audio": [1]}'),
    "settings: digits": text("settings", '{"audio": {"sample_rate": ' + "9" * 20_000 + "}}"),
    "version: text": attribute("version", "x"),
    "version: array": attribute("version", np.array([1, 1])),
    "version: 1": attribute("version", 1),
    "checksum: other": attribute("checksum", np.uint32(1)),
    "no version": ("version", lambda f: None),
    "no checksum": ("checksum", lambda f: None),
}
#: Opens every file given and says what came of it, one a line; in a process of its own, which may crash.
OPEN = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30,) * 2)
from audionas.runtime.errors import UserError
from audionas.data.store import ClipStore
for path in sys.argv[1:]:
    try:
        ClipStore(path).clip_ids
        print(path, "opened", flush=True)
    except UserError as error:
        print(error, flush=True)
"""


def test_a_hostile_store_is_refused_by_name_and_not_followed(tmp_path: Path, whole: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "folder.h5").mkdir()
    paths = [tmp_path / "pipe.h5", tmp_path / "folder.h5"]
    for number, (part, put) in enumerate(HOSTILE.values()):
        path = tmp_path / f"{number}.h5"
        path.write_bytes(whole.read_bytes())
        with h5py.File(path, "r+", libver="latest") as file:
            for holder in (file, file.attrs):
                if part and part in holder:
                    del holder[part]
            put(file)
        paths.append(path)
    said = subprocess.run(
        [sys.executable, "-c", OPEN, *paths], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    lines = said.stdout.splitlines()
    assert said.returncode == 0 and len(lines) == len(paths), (said.returncode, said.stderr[-2_000:], lines)
    names = ["a pipe", "a folder", *HOSTILE]
    for name, path, line in zip(names, paths, lines, strict=True):
        assert line.startswith(f"{path}: ") and "opened" not in line, (name, line)


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_changes_nothing_or_is_noticed(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, at: float, bit: int
) -> None:
    content = bytearray(whole.read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "x.h5"
    path.write_bytes(content)
    good = ClipStore(whole)
    try:
        store = ClipStore(path)
        rows = store.data[:]
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert np.array_equal(rows, good.data[:]) and np.array_equal(store.labels, good.labels)
        assert (store.classes, store.settings, store.clip_ids) == (
            good.classes,
            good.settings,
            good.clip_ids,
        )


def test_a_damaged_row_is_named_by_its_clip_and_others_are_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = make(Path("data/logmel/x.h5"))
    offset = ClipStore(path).data.offset
    content = bytearray(path.read_bytes())
    content[offset + 3 * 320 + 7] ^= 1
    path.write_bytes(content)
    store = ClipStore(path)
    store.data[[0, 1, 2, 5]]
    with pytest.raises(UserError, match=r"x\.h5: damaged: data of clip 'c3' \(row 3\) .*; delete it and run"):
        store.data[2:4]


def test_a_row_that_was_never_written_is_noticed(tmp_path: Path) -> None:
    options = {"row_shape": SHAPE[1:], "dtype": HALF, "classes": CLASSES, "settings": SETTINGS}
    clips = [(f"c{i}", np.array([1, 0, 0])) for i in range(2)]
    with ClipStoreWriter(tmp_path / "work.h5", clips, 2, **options) as writer:
        writer[0] = np.ones(SHAPE[1:])
        writer.publish(tmp_path / "x.h5")
    store = ClipStore(tmp_path / "x.h5")
    assert (store.data[0] == 1).all()
    with pytest.raises(UserError, match="clip 'c1'"):
        store.data[1]


def test_a_store_that_is_cut_short_while_it_is_open_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = make(tmp_path / "x.h5")
    store = ClipStore(path)
    os.truncate(path, store.data.offset + 320)
    store.data[0]
    with pytest.raises(UserError, match=r"x\.h5: truncated during the read"):
        store.data[1]


@pytest.mark.parametrize("size", [0, 100, 1_000, 10_000, 30_000, 45_000])
def test_a_disk_that_fills_while_a_store_is_made_is_an_error_and_no_crash(tmp_path: Path, size: int) -> None:
    clips = [(f"clip{i}", np.array([1, 0, 0])) for i in range(2_000)]  # HDF5 crashes where it cannot write
    options = {"row_shape": (4,), "dtype": np.int16, "classes": CLASSES, "settings": SETTINGS}
    with limits.largest_file(size), pytest.raises(UserError, match=r"x\.h5: File too large; raise the limit"):
        ClipStoreWriter(tmp_path / "x.h5", clips, len(clips), **options)
    assert not list(tmp_path.iterdir())


def test_rows_are_chosen_as_numpy_chooses_them(whole: Path) -> None:
    data = ClipStore(whole).data
    rows = np.asarray(data)
    for index in (
        *(0, -1, np.int64(2), slice(None), slice(1, 4), slice(None, None, -2), slice(4, 2)),
        *([3, 1, 1], [], np.array([-1, 0]), np.arange(6) % 2 == 0),
    ):
        chosen = rows[np.array(index, int) if isinstance(index, list) else index]
        assert np.array_equal(data[index], chosen) and data[index].dtype == rows.dtype
    for wrong in (6, -7, [6], [-7], [[0, 1]]):
        with pytest.raises(IndexError):
            data[wrong]
    assert (len(data), data.nbytes) == (ROWS, rows.nbytes) and len(list(data)) == ROWS


@pytest.mark.parametrize("dtype, shape", [(np.float64, (20, 8)), (np.int16, (20, 8)), (object, (4,))])
def test_other_data_are_not_written(tmp_path: Path, dtype, shape) -> None:
    with pytest.raises(ValueError, match="are no clips"):
        ClipStoreWriter(
            tmp_path / "x.h5", [], 1, row_shape=shape, dtype=dtype, classes=CLASSES, settings=SETTINGS
        )


def test_many_long_names_of_classes_fit(tmp_path: Path) -> None:
    classes = [f"{i} {'long ' * 20}" for i in range(2_000)]  # beyond what HDF5 keeps in an object's header
    labels = np.eye(1, 2_000, dtype=np.uint8)
    rows = np.ones((1, 20, 8), HALF)
    write_store(tmp_path / "x.h5", ["c"], labels, rows, classes=classes, settings=SETTINGS)
    assert ClipStore(tmp_path / "x.h5", SETTINGS).classes == classes
