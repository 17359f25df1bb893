"""Parity: differences are measured against PyTorch, and a file that differs is refused."""

import numpy as np
import pytest
import torch
from exported import RATE, about, logmel, network, sounds

from audionas.deploy import parity
from audionas.deploy.waveform import Described
from audionas.runtime.errors import UserError
from audionas.tasks import TASKS

OF, DESCRIBED = network(), Described.of(about(), "test")


def pytorch(x, shift=0.0):
    with torch.inference_mode():
        return torch.sigmoid(OF(logmel()(torch.from_numpy(x))) + shift).numpy()


def compare(run, **options):
    return parity.compare(OF, DESCRIBED, run, **{"seconds": (0.5, 1.0), **options})


def test_equal_outputs_pass():
    found = compare(pytorch)
    assert [(row.seconds, row.sounds) for row in found.rows] == [(0.5, 6), (1.0, 6)]
    assert found.measured < 1e-6  # PyTorch's float32 against its float64
    found.require("a")
    assert found.summary()["below"] <= 1e-6


def test_a_shift_of_logits_is_measured_and_refused():
    found = compare(lambda x: pytorch(x, 0.01), recordings=sounds(7, 1.0))
    assert found.rows[0].sounds == 7 and found.source == "7 recordings"
    for row in found.rows:
        assert row.largest_logit == pytest.approx(0.01, rel=0.02)
        assert row.mean_logit == pytest.approx(0.01, rel=0.02)
        assert 1e-4 < row.mean <= row.largest <= 0.0026
    with pytest.raises(UserError, match=r"a: not written: the largest difference .* above 0.0001"):
        found.require("a")
    compare(lambda x: pytorch(x, 0.01), quantized=True).require("a")
    with pytest.raises(UserError, match=r"the mean difference .* above 0.05; calibrate on"):
        compare(lambda x: pytorch(x, 3.0), quantized=True).require("a")


def test_what_is_not_a_number_is_refused():
    with pytest.raises(UserError, match="not written"):
        compare(lambda x: pytorch(x) * np.nan).require("a")


def test_softmax_logits_are_compared_up_to_a_constant():
    described = Described.of(about(task="single-label"), "test")

    def run(x):
        with torch.inference_mode():
            return torch.softmax(OF(logmel()(torch.from_numpy(x))) + 5, 1).numpy()

    found = parity.compare(OF, described, run, seconds=(1.0,))
    assert TASKS["single-label"] is described.task
    assert found.rows[0].largest_logit < 1e-3


def test_lengths_that_the_network_refuses_are_listed_and_something_must_remain():
    found = compare(pytorch, seconds=(0.1, 1.0), shortest=RATE // 2)
    assert [row.sounds for row in found.rows] == [0, 6]
    assert "too short for the network" in found.text()
    found.require("a")
    with pytest.raises(UserError, match="cannot be checked"):
        compare(pytorch, seconds=(0.1,), shortest=RATE).require("a")


def test_recordings_are_cut_and_repeated():
    wave = np.arange(10, dtype=np.float32)[None]
    assert parity.repeated(wave, 4).tolist() == [[0, 1, 2, 3]]
    assert parity.repeated(wave, 23)[0].tolist() == [*range(10), *range(10), 0, 1, 2]


@pytest.mark.parametrize("samples", [320, RATE, 20 * RATE])
def test_signals_are_sound_of_16_bits(samples):
    signals = parity.test_signals(RATE, samples)
    assert signals.shape == (6, samples) and signals.dtype == np.float32
    assert (np.abs(signals).max(axis=1) > 1e-4).all() and np.abs(signals).max() <= 1
    assert np.array_equal(np.rint(signals * 32_768), signals * 32_768)
