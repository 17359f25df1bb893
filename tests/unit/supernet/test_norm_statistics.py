"""Kept BatchNorm statistics: a network that is cut out with them is the one that was calibrated."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SMALL, small_batch, small_supernet

from audionas.models.calibration import calibrate
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import Cnn10Space
from audionas.supernet.calibration import calibrate_all
from audionas.supernet.cnn10 import extract
from audionas.supernet.statistics import NormStatistics, read_statistics, write_statistics

SPACE = Cnn10Space("x-x-x", SMALL, 40)


@pytest.fixture(scope="module")
def supernet():
    return small_supernet()


@pytest.fixture(scope="module")
def batches():
    return [small_batch(), small_batch() - 5, small_batch()[:2] * 1.5]


@pytest.fixture(scope="module")
def kept(supernet, batches, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("statistics") / "kept.npz"
    write_statistics(path, calibrate_all(supernet, SPACE, batches), "0123456789ab")
    return path


@torch.no_grad()
def test_a_network_cut_out_with_kept_statistics_is_the_calibrated_one(supernet, batches, kept):
    statistics = read_statistics(kept, "0123456789ab")
    for subnetwork in SPACE[::23]:
        network = extract(supernet, subnetwork)
        calibrate(network, batches)
        other = supernet.extracted(subnetwork, statistics)
        assert (network(batches[0]) - other(batches[0])).abs().max() < 1e-5
        assert not torch.allclose(extract(supernet, subnetwork)(batches[0]), other(batches[0]), atol=1e-2)


def test_parts_that_ranks_collected_are_those_of_one(supernet, batches, kept, tmp_path):
    whole = read_statistics(kept, "0123456789ab")
    ordered = sorted(SPACE, key=supernet.prefix)
    for size in (2, 3, 7):
        parts = [ordered[len(ordered) * i // size : len(ordered) * (i + 1) // size] for i in range(size)]
        collected = [calibrate_all(supernet, part, batches).on_cpu() for part in parts]
        joined = NormStatistics.union([*collected, NormStatistics()])
        assert joined.values.keys() == whole.values.keys() and not joined.collecting
        for key, (mean, variance, count) in whole.values.items():
            torch.testing.assert_close(joined.values[key][0], mean, atol=1e-4, rtol=1e-5)
            torch.testing.assert_close(joined.values[key][1], variance, atol=1e-4, rtol=1e-4)
            assert joined.values[key][2] == count == 3


def test_equal_statistics_give_equal_bytes(supernet, batches, kept, tmp_path):
    again = calibrate_all(supernet, list(reversed(SPACE)), batches)
    write_statistics(tmp_path / "again.npz", again, "0123456789ab")
    assert (tmp_path / "again.npz").read_bytes() == kept.read_bytes()
    read = read_statistics(kept, "0123456789ab")
    write_statistics(tmp_path / "read.npz", read, "0123456789ab")
    assert (tmp_path / "read.npz").read_bytes() == kept.read_bytes()


def changed(path: Path, **arrays) -> None:
    with np.load(path) as file:
        np.savez(path, **{**file, **arrays})


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({"supernet": np.array("ffffffffffff")}, "another supernet"),
        ({"supernet": np.array(3)}, "supernet: not a text"),
        ({"means": np.zeros(3, np.float32)}, "means: 3 values, expected"),
        ({"variances": np.zeros(3)}, "variances: float64"),
        ({"channels": np.zeros((2, 2), np.int32)}, "channels: int32 of shape"),
        ({"lengths": np.array([-1], np.int32)}, "lengths: a value is negative"),
        ({"lengths": np.array([1], np.int32)}, "differ in length"),
        ({"keys": np.array([1], np.int32)}, "keys: 1 values, expected"),
        ({"keys": np.array([{}], object)}, "allow_pickle"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(kept, tmp_path, arrays, said):
    path = tmp_path / "kept.npz"
    shutil.copy(kept, path)
    changed(path, **arrays)
    with pytest.raises(UserError, match=rf"kept\.npz: .*{said}.*; give a file that `dvc repro` made"):
        read_statistics(path, "0123456789ab")


def test_values_that_are_not_finite_are_refused(kept, tmp_path):
    path = tmp_path / "kept.npz"
    for name, value in (("means", np.nan), ("variances", -1.0), ("variances", np.inf)):
        shutil.copy(kept, path)
        with np.load(path) as file:
            array = file[name].copy()
        array[5] = value
        changed(path, **{name: array})
        with pytest.raises(UserError, match=f"{name}: a value is negative or not finite"):
            read_statistics(path, "0123456789ab")


def test_damaged_or_missing_files_are_refused(kept, tmp_path):
    path = tmp_path / "kept.npz"
    with pytest.raises(UserError, match="no such file"):
        read_statistics(path, "0123456789ab")
    content = kept.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (b"", b"PK", content[: len(content) // 2], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not a readable file of BatchNorm statistics"):
            read_statistics(path, "0123456789ab")
