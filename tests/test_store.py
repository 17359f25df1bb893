"""The HDF5 clip store."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.errors import UserError
from audionas.store import ClipStore, ClipStoreWriter, join_stores

SETTINGS = {"audio": {"sample_rate": 32000}, "features": {"hop": 320, "fmin": 50.0}}


def write(path, rows, **changes):
    options = {"row_shape": (4, 3), "dtype": np.float16, "classes": ["a", "b"], "settings": SETTINGS}
    with ClipStoreWriter(path, **(options | changes)) as writer:
        for i, row in enumerate(rows):
            writer.add(f"clip{i}", row, [1, i % 2])


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 600), seed=st.integers(0, 9))
def test_rows_come_back(tmp_path_factory, n, seed):
    path = tmp_path_factory.mktemp("store") / "x.h5"
    rows = np.random.default_rng(seed).normal(size=(n, 4, 3)).astype(np.float16)
    write(path, rows)
    store = ClipStore(path, SETTINGS)
    assert np.array_equal(store.data, rows) and isinstance(store.data, np.memmap)
    assert len(store) == n and store.clip_ids[-1] == f"clip{n - 1}" and store.classes == ["a", "b"]
    assert np.array_equal(store.labels[:, 1], np.arange(n) % 2)
    with h5py.File(path) as file:
        assert file["data"].chunks is None  # contiguous


def test_same_content_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, np.ones((5, 4, 3)))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_other_settings_are_refused_by_name(tmp_path):
    write(tmp_path / "x.h5", np.ones((2, 4, 3)))
    wanted = {"features": {"hop": 640, "fmin": 50.0}}
    with pytest.raises(UserError, match=r"x.h5: made with other settings: features.hop is 320 .* 640 here"):
        ClipStore(tmp_path / "x.h5", wanted)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.h5"
    write(path, np.ones((2, 4, 3)))
    before = path.read_bytes()
    with (
        pytest.raises(RuntimeError),
        ClipStoreWriter(path, row_shape=(4, 3), dtype=np.float16, classes=["a", "b"], settings={}) as writer,
    ):
        writer.add("one", np.zeros((4, 3)), [1, 0])
        raise RuntimeError
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x.h5"]


@pytest.mark.parametrize(
    "row, labels, message",
    [
        (np.zeros((4, 2)), [1, 0], "shape"),
        (np.full((4, 3), np.nan), [1, 0], "not finite"),
        (np.zeros((4, 3)), [0, 0], "no label"),
        (np.zeros((4, 3)), [1], "no label"),
    ],
)
def test_bad_rows_are_refused(tmp_path, row, labels, message):
    with (
        pytest.raises(ValueError, match=message),
        ClipStoreWriter(
            tmp_path / "x.h5", row_shape=(4, 3), dtype=np.float16, classes=["a", "b"], settings={}
        ) as writer,
    ):
        writer.add("one", row, labels)
    assert not (tmp_path / "x.h5").exists()


def test_an_empty_store_is_an_error(tmp_path):
    with pytest.raises(UserError, match="not one clip"):
        write(tmp_path / "x.h5", [])


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_a_damaged_file_is_named(tmp_path, keep):
    path = tmp_path / "x.h5"
    write(path, np.ones((500, 4, 3)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"x\.h5: damaged"):
        ClipStore(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        ClipStore(tmp_path / "x.h5")


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=4))
def test_joined_parts_equal_one_store_to_the_byte(tmp_path_factory, sizes):
    folder = tmp_path_factory.mktemp("parts")
    rows = np.random.default_rng(0).normal(size=(sum(sizes), 4, 3)).astype(np.float16)
    write(folder / "whole.h5", rows)
    parts, start = [], 0
    for number, size in enumerate(sizes):
        options = {"row_shape": (4, 3), "dtype": np.float16, "classes": ["a", "b"], "settings": SETTINGS}
        with ClipStoreWriter(folder / f"{number}.h5", **options) as writer:
            for i in range(start, start + size):
                writer.add(f"clip{i}", rows[i], [1, i % 2])
        parts.append(folder / f"{number}.h5")
        start += size
    join_stores(parts, folder / "joined.h5")
    assert (folder / "joined.h5").read_bytes() == (folder / "whole.h5").read_bytes()


def test_parts_of_other_settings_are_not_joined(tmp_path):
    write(tmp_path / "a.h5", np.ones((2, 4, 3)))
    write(tmp_path / "b.h5", np.ones((2, 4, 3)), settings={})
    with pytest.raises(UserError, match=r"b\.h5: made otherwise"):
        join_stores([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()
