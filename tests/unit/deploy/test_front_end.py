"""The front end as matrix products equals `LogMel`, and the transform of NumPy in double precision."""

import numpy as np
import pytest
import torch

from audionas.audio.logmel import LogMel
from audionas.deploy.front_end import FrontEnd

# Window lengths: powers of two, even and odd numbers of rows, a prime, and a hop without a common divisor.
SETTINGS = [
    {"sample_rate": 32_000, "n_fft": 1024, "hop": 320},
    {"sample_rate": 32_000, "n_fft": 8192, "hop": 5000},
    {"sample_rate": 16_000, "n_fft": 400, "hop": 160, "mels": 40, "fmax": 8000.0},
    {"sample_rate": 16_000, "n_fft": 450, "hop": 160, "mels": 20, "fmin": 0.0, "fmax": 8000.0},
    {"sample_rate": 16_000, "n_fft": 509, "hop": 160, "mels": 10, "fmax": 8000.0},
    {"sample_rate": 16_000, "n_fft": 882, "hop": 333, "mels": 16, "fmin": 300.0, "fmax": 3000.0},
]


def in_double_precision(wave: np.ndarray, logmel: LogMel) -> np.ndarray:
    """Log-mel [frames, mels] by numpy.fft in float64."""
    n = logmel.n_fft
    padded = np.pad(wave.astype(np.float64), n // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n)[:: logmel.hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    return 10 * np.log10(np.maximum(power @ logmel.filters.double().numpy(), logmel.FLOOR))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: str(settings["n_fft"]))
def test_equals_logmel_and_the_transform_in_double_precision(settings):
    logmel = LogMel(**settings)
    for samples in (settings["n_fft"] // 2 + 1, 16_000, 40_001):
        waves = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))
        waves[1] *= 1e-3
        expected = np.stack([in_double_precision(wave, logmel) for wave in waves.numpy()])
        for compact in (False, True):
            found = FrontEnd(logmel, compact)(waves)
            assert found.shape == logmel(waves).shape
            assert (found - logmel(waves)).abs().max() < 1e-4
            assert np.abs(found.numpy() - expected).max() < 1e-4


def test_silence_is_the_floor_of_logmel():
    logmel = LogMel()
    silence = torch.zeros(1, 4000)
    assert (FrontEnd(logmel)(silence) - logmel(silence)).abs().max() < 2e-5


def test_filters_that_are_no_triangles_are_refused():
    logmel = LogMel()
    logmel.filters[100, 3] = 1.0
    logmel.filters[100, 60] = 1.0
    with pytest.raises(ValueError, match="not neighbours"):
        FrontEnd(logmel)
