"""Bandwidth and level: what recordings differ in that a network is not told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from audionas.audio.decode import resample
from audionas.audio.measure import measure, spread

RATE = 32_000


def noise(seconds=2.0, rate=RATE, level=0.1, seed=0):
    return np.random.default_rng(seed).normal(0, level, round(seconds * rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("level", [0.3, 0.003])
def test_a_clip_reaches_as_high_as_the_rate_it_was_recorded_at(rate, level):
    bandwidth = measure(resample(noise(rate=rate, level=level), rate, RATE), RATE).bandwidth
    assert 0.85 * min(rate, RATE) / 2 <= bandwidth <= min(rate, RATE) / 2 + 500


def test_low_sound_with_a_microphones_noise_reaches_the_top_and_without_it_does_not():
    low = sosfilt(butter(8, 2000, fs=RATE, output="sos"), noise(level=0.3)).astype(np.float32)
    assert measure(low, RATE).bandwidth < 7000
    assert measure(low + noise(level=1e-4, seed=1), RATE).bandwidth > 15_000


def test_clicks_and_padding_do_not_count():
    low = sosfilt(butter(12, 2000, fs=RATE, output="sos"), noise()).astype(np.float32)
    whole = measure(low, RATE)
    clicks = low.copy()
    clicks[::20_000] += 0.5
    padded = np.concatenate([low[: len(low) // 3], np.zeros(2 * RATE, np.float32)])
    for other in (clicks, padded):
        assert abs(measure(other, RATE).bandwidth - whole.bandwidth) <= 1000
        assert abs(measure(other, RATE).level - whole.level) < 1


def test_the_level_is_the_root_mean_square():
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    for gain in (1.0, 0.1, 1e-3):
        level = measure(gain * tone, RATE).level
        assert level == pytest.approx(20 * np.log10(gain / np.sqrt(2)), abs=0.2)
    assert measure(np.ones(4096, np.float32), RATE).level == pytest.approx(0, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.integers(0, 9))
def test_any_clip_has_both(samples, level, seed):
    wave = np.random.default_rng(seed).uniform(-level, level, samples).astype(np.float32)
    it = measure(wave, RATE)
    assert 0 <= it.bandwidth <= RATE / 2 and -120 <= it.level <= 0.01


def test_the_spread_is_over_decoded_clips():
    rows = [{"status": "ok", "bandwidth": str(100 * i), "level": str(-i)} for i in range(101)]
    rows.append({"status": "failed", "bandwidth": "", "level": ""})
    assert spread(rows) == {"bandwidth": [500.0, 5000.0, 9500.0], "level": [-95.0, -50.0, -5.0]}
    assert spread(rows[-1:]) == {}
