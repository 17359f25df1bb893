"""Decoding: every kind of bad input has its outcome, and resampling does not alias."""

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from audionas.audio.decode import decode, resample
from audionas.audio.reading import DecodeError, _read_any, _read_flac, inspect

RATE, SAMPLES = 32_000, 32_000


def tone(seconds=1.0, rate=RATE, hertz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encode(samples, rate=RATE, kind="WAV", subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def got(data, min_seconds=0.1):
    result = decode(data, RATE, SAMPLES, min_seconds)
    assert result.waveform.shape == (SAMPLES,) and result.waveform.dtype == np.float32
    assert np.isfinite(result.waveform).all() and np.abs(result.waveform).max() <= 1
    return result


def reason(data, min_seconds=0.1):
    with pytest.raises(DecodeError) as error:
        decode(data, RATE, SAMPLES, min_seconds)
    return str(error.value)


@pytest.mark.parametrize(
    ("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_24")]
)
def test_plain_file_comes_through(kind, subtype):
    result = got(encode(tone(), kind=kind, subtype=subtype))
    assert result.note == "" and (result.original_rate, result.channels, result.seconds) == (RATE, 1, 1.0)
    np.testing.assert_allclose(result.waveform, tone(), atol=1e-4)


def test_24_bit_keeps_its_depth():
    quiet = tone(level=2e-5)  # below one step of 16 bits
    np.testing.assert_allclose(got(encode(quiet, subtype="PCM_24")).waveform, quiet, atol=2e-7)


def test_stereo_is_the_mean():
    result = got(encode(np.stack([tone(level=0.2), tone(level=0.6)], axis=1)))
    assert result.channels == 2 and result.note == "downmixed"
    np.testing.assert_allclose(result.waveform, tone(level=0.4), atol=1e-4)


def test_8_khz_is_upsampled_and_said_so():
    result = got(encode(tone(rate=8_000), 8_000))
    assert result.note == "upsampled:8000" and result.original_rate == 8_000
    np.testing.assert_allclose(result.waveform[500:-500], tone()[500:-500], atol=1e-3)


def test_clipped_is_kept_limited_and_said_so():
    assert got(encode(tone(level=1.8), subtype="FLOAT")).note == "clipped"
    assert got(encode(np.clip(tone(level=1.8), -1, 1))).note == "clipped"
    assert got(encode(tone(level=0.99))).note == ""


def test_length_is_exact():
    short, long = got(encode(tone(0.5))), got(encode(tone(2.5)))
    assert short.note == "padded" and not short.waveform[SAMPLES // 2 :].any()
    assert long.note == "trimmed" and long.seconds == 2.5
    np.testing.assert_allclose(long.waveform, tone(2.5)[:SAMPLES], atol=1e-4)


def test_no_samples_are_told_from_no_bytes():
    assert reason(b"") == "empty"
    assert reason(encode(np.zeros(0, np.float32))) == "no samples"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_fails(value):
    samples = tone()
    samples[1234] = value
    assert reason(encode(samples, subtype="FLOAT")) == "non-finite"


def test_silence_fails_with_the_reason_why_nothing_is_heard():
    silence = np.zeros(RATE, np.float32)
    assert reason(encode(silence)) == "silent"
    assert reason(encode(np.stack([silence, silence], axis=1))) == "silent"
    for kind in ("WAV", "FLAC"):
        assert reason(encode(np.concatenate([silence, tone()]), kind=kind)) == "silent in its first 1 s"
        opposite = np.stack([tone(), -tone()], axis=1)
        assert reason(encode(opposite, kind=kind)) == "channels cancel"
        rounded = opposite - np.array([0, 1 / 32_768], np.float32)  # nor does a rest of one step count
        assert reason(encode(rounded, kind=kind)) == "channels cancel"
    high = tone(rate=96_000, hertz=30_000) * np.hanning(96_000)
    assert reason(encode(high, 96_000, subtype="FLOAT")) == "silent below 16 kHz"
    spike = np.stack([tone(), tone()], axis=1)
    spike[100] = 1e30, -1e30
    assert got(encode(spike, subtype="FLOAT"))
    one_sided = np.stack([tone(), silence], axis=1)
    assert got(encode(one_sided)).note == "downmixed"


def test_what_the_download_looks_at_is_the_whole_recording():
    later = np.concatenate([np.zeros(70 * 8000, np.float32), tone(rate=8000)])
    assert inspect(encode(later, 8000)) == (8000, 71.0)
    for bad, why in ((np.zeros((800, 2)), "silent"), (np.stack([tone(), -tone()], 1), "channels cancel")):
        with pytest.raises(DecodeError) as error:
            inspect(encode(bad))
        assert str(error.value) == why


def test_too_short_fails():
    assert reason(encode(tone(0.09))) == "too short"
    assert got(encode(tone(0.11))).note == "padded"


NOISE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
WHOLE = {
    "wav": encode(NOISE),
    "flac": encode(NOISE, kind="FLAC"),
    "aiff": encode(NOISE, kind="AIFF"),
    "ogg": encode(NOISE, kind="OGG", subtype="VORBIS"),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_fails(kind, share):
    assert got(WHOLE[kind])
    assert reason(WHOLE[kind][: int(len(WHOLE[kind]) * share)]) == "truncated"


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_flac_is_read_as_libsndfile_reads_it(channels):
    samples = np.random.default_rng(channels).normal(0, 0.4, (70_001, channels)).clip(-1, 1)
    data = encode(samples, 44_100, kind="FLAC")
    fast, other = _read_flac(data, 1.0), _read_any(data, 1.0)
    assert np.array_equal(fast.mono, other.mono) and fast.mono.dtype == np.float32
    assert fast.full_scale == other.full_scale > 0
    for name in ("rate", "channels", "frames", "seconds", "peak", "first_peak"):
        assert getattr(fast, name) == getattr(other, name)


def test_only_whole_16_bit_flac_is_read_the_fast_way():
    whole = WHOLE["flac"]
    damaged = bytearray(whole)
    damaged[20_000:20_032] = b"\0" * 32  # the frame's checksum is wrong then
    endless = bytearray(whole)
    endless[21:26] = bytes([endless[21] & 0xF0, 0, 0, 0, 0])  # the number of frames is not given
    longer = bytearray(whole)
    longer[24] -= 1  # 256 frames more than are promised
    deep = encode(NOISE, kind="FLAC", subtype="PCM_24")
    for data in (deep, whole[:20_000], damaged, endless, longer, whole[:25]):
        assert _read_flac(bytes(data), 1.0) is None
    assert reason(bytes(damaged)) == "truncated"
    assert got(bytes(endless)).seconds == 1.0


@pytest.mark.parametrize("data", [b"<html>not found</html>" * 50, b"\0" * 5000, b"PK\x03\x04" + b"x" * 999])
def test_what_is_no_audio_fails(data):
    assert reason(data) == "not audio"


def test_a_rate_that_no_recorder_has_fails():
    for rate in (1, 8, 999):
        assert reason(encode(tone(), rate=rate)) == LOW
    assert got(encode(tone(rate=1000, hertz=100), rate=1000)).note == "upsampled:1000"


LOW = "sample rate below 1 kHz"
REASONS = {
    "empty",
    "no samples",
    "not audio",
    "truncated",
    "damaged",
    "non-finite",
    "silent",
    "too short",
    LOW,
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 40_000), st.binary(min_size=1, max_size=64))
def test_damage_gives_a_clip_or_a_reason_and_nothing_else(kind, at, junk):
    data = bytearray(WHOLE[kind])
    at %= len(data)
    data[at : at + len(junk)] = junk
    try:
        got(bytes(data))
    except DecodeError as error:
        assert str(error) in REASONS


def test_a_tone_above_the_new_nyquist_vanishes():
    high = tone(rate=44_100, hertz=15_000)
    assert np.abs(resample(high, 44_100, 16_000)[500:-500]).max() < 0.5 * 10 ** (-80 / 20)
    assert np.abs(high[::3]).max() > 0.4  # as it would not by leaving samples out


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampler_is_scipys(rate):
    rng = np.random.default_rng(rate)
    spectrum = np.fft.rfft(rng.normal(size=rate))
    spectrum[int(0.4 * min(rate, RATE)) :] = 0  # below the transition band both are transparent
    wave = np.fft.irfft(spectrum, rate).astype(np.float32) * 0.3
    ours = resample(wave, rate, RATE)
    up, down = RATE // np.gcd(rate, RATE), rate // np.gcd(rate, RATE)
    theirs = resample_poly(wave.astype(float), up, down, window=("kaiser", 14.0))
    assert len(ours) == RATE
    inner = slice(2000, -2000)
    error = np.sqrt(np.mean((ours - theirs)[inner] ** 2) / np.mean(theirs[inner] ** 2))
    assert error < 0.02, error


def test_resampler_is_librosas_on_recordings(shared_data):
    librosa = pytest.importorskip("librosa")
    path = sorted((shared_data / "esc10" / "audio").glob("*.ogg"))[0]
    wave, rate = soundfile.read(path, dtype="float32")
    theirs = librosa.resample(wave, orig_sr=rate, target_sr=16_000, res_type="soxr_vhq")
    ours = resample(wave, rate, 16_000)
    n = min(len(ours), len(theirs))
    power = [np.abs(np.fft.rfft(x[:n])) ** 2 for x in (ours, theirs)]
    below = slice(0, int(n * 7_000 / 16_000))  # 7 kHz of 8
    assert abs(10 * np.log10(power[0][below].sum() / power[1][below].sum())) < 0.01


def test_a_rate_without_a_short_ratio_costs_no_memory():
    wave = resample(tone(rate=11_127), 11_127, RATE)
    assert abs(len(wave) - RATE) <= 1
    np.testing.assert_allclose(wave[500:31_000], tone()[500:31_000], atol=2e-3)


def test_all_recordings_decode(shared_data):
    for path in sorted((shared_data / "esc10" / "audio").glob("*.ogg"))[::20]:
        result = decode(path.read_bytes(), RATE, 160_000, 0.1)
        assert np.abs(result.waveform).max() > 1e-3, path


def test_decoding_needs_no_log_mel():
    code = "import sys, audionas.audio.decode; assert 'audionas.audio.logmel' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    from audionas.audio import LogMel
    from audionas.audio.logmel import LogMel as direct

    assert LogMel is direct
