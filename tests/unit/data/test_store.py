"""The HDF5 clip store."""

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.data.store import ClipStore, ClipStoreWriter, write_store
from audionas.runtime.errors import UserError

SETTINGS = {"audio": {"sample_rate": 32000}, "features": {"hop": 320, "fmin": 50.0}}


OPTIONS = {"row_shape": (4, 3), "dtype": np.float16, "classes": ["a", "b"], "settings": SETTINGS}


def clips(n):
    return [(f"clip{i}", np.array([1, i % 2])) for i in range(n)]


def write(path, rows, settings=SETTINGS):
    ids, labels = zip(*clips(len(rows)), strict=True) if len(rows) else ((), np.zeros((0, 2)))
    write_store(path, ids, np.array(labels), np.float16(rows), classes=["a", "b"], settings=settings)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 600), seed=st.integers(0, 9))
def test_rows_come_back(tmp_path_factory, n, seed):
    path = tmp_path_factory.mktemp("store") / "x.h5"
    rows = np.random.default_rng(seed).normal(size=(n, 4, 3)).astype(np.float16)
    write(path, rows)
    store = ClipStore(path, SETTINGS)
    assert np.array_equal(store.data, rows)
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
    with pytest.raises(ValueError, match="not finite"):
        write(path, np.array([np.ones((4, 3)), np.full((4, 3), np.nan)]))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x.h5"]


def test_bad_rows_are_refused(tmp_path):
    with ClipStoreWriter(tmp_path / "x.h5", clips(2), 2, **OPTIONS) as writer:
        for row, data, message in (
            (0, np.zeros((4, 2)), "shape"),
            (1, np.full((4, 3), np.inf), "not finite"),
            (2, np.zeros((4, 3)), "row 2 of 2"),
            (-1, np.zeros((4, 3)), "row -1 of 2"),
        ):
            with pytest.raises(ValueError, match=message):
                writer[row] = data


@pytest.mark.parametrize(
    "ids, labels, message",
    [
        (["one", "two"], [[1], [1]], "'one' has labels that do not match 2"),
        (["one", "one"], [[1, 0], [0, 1]], "'one' appears twice"),
        (["one"], [[1, 0]], "1 clips for 2 rows"),
        (["one", "two", "three"], [[1, 0]] * 3, "more clips than 2 rows"),
    ],
)
def test_bad_clips_are_refused(tmp_path, ids, labels, message):
    with pytest.raises(ValueError, match=message):
        ClipStoreWriter(tmp_path / "x.h5", zip(ids, labels, strict=True), 2, **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_an_empty_store_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no clip to write"):
        write(tmp_path / "x.h5", np.zeros((0, 4, 3)))
    with ClipStoreWriter(tmp_path / "work.h5", clips(2), 2, **OPTIONS) as writer:
        with pytest.raises(UserError, match="no clip to write"):
            writer.publish(tmp_path / "x.h5", np.zeros(2, bool))
        with pytest.raises(ValueError, match="of 2"):
            writer.publish(tmp_path / "x.h5", np.ones(1, bool))
    assert not (tmp_path / "x.h5").exists()


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


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 600), seed=st.integers(0, 99))
def test_any_order_and_rows_left_out_give_the_store_of_the_rest_to_the_byte(tmp_path_factory, n, seed):
    folder, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(seed)
    rows, kept = rng.normal(size=(n, 4, 3)).astype(np.float16), rng.random(n) < 0.8
    kept[rng.integers(n)] = True
    with ClipStoreWriter(folder / "work.h5", clips(n), n, **OPTIONS) as writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(writer.__setitem__, order := rng.permutation(n)[: n // 2].tolist(), rows[order]))
    with ClipStoreWriter(folder / "work.h5", iter(()), n, **OPTIONS) as writer:  # as after a kill
        for i in set(np.flatnonzero(kept).tolist()) - set(order):
            writer[i] = rows[i]
        writer.publish(folder / "x.h5", kept)
    ids, labels = zip(*[clip for clip, keep in zip(clips(n), kept, strict=True) if keep], strict=True)
    write_store(folder / "y.h5", ids, np.array(labels), rows[kept], classes=["a", "b"], settings=SETTINGS)
    assert (folder / "x.h5").read_bytes() == (folder / "y.h5").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["x.h5", "y.h5"]


def test_work_of_other_clips_or_settings_is_refused(tmp_path):
    ClipStoreWriter(tmp_path / "x.h5", clips(2), 2, **OPTIONS).__exit__()
    with pytest.raises(UserError, match="made for other clips"):
        ClipStoreWriter(tmp_path / "x.h5", clips(3), 3, **OPTIONS)
    with pytest.raises(UserError, match="made for other clips"):
        ClipStoreWriter(tmp_path / "x.h5", clips(2), 2, **(OPTIONS | {"classes": ["a", "c"]}))
    with pytest.raises(UserError, match="made with other settings"):
        ClipStoreWriter(tmp_path / "x.h5", clips(2), 2, **(OPTIONS | {"settings": {"features": {"hop": 1}}}))


def test_a_full_disk_is_an_error_and_no_crash(tmp_path, monkeypatch):
    with ClipStoreWriter(tmp_path / "x.h5", clips(2), 2, **OPTIONS) as writer:
        monkeypatch.setattr("os.pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(UserError, match=r"x\.h5: No space left on device; make room .* is kept"):
            writer[0] = np.ones((4, 3))


def test_a_store_is_copied_to_another_disk(tmp_path, monkeypatch):
    replace = Path.replace

    def across(self, target):
        if self.parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", across)
    with ClipStoreWriter(tmp_path / "work.h5", clips(2), 2, **OPTIONS) as writer:
        writer[0] = writer[1] = np.ones((4, 3))
        writer.publish(tmp_path / "there" / "x.h5")
    assert (ClipStore(tmp_path / "there" / "x.h5").data[:] == 1).all() and not (tmp_path / "work.h5").exists()
