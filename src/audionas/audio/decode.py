"""Encoded audio to one mono waveform of exact rate and length, with a defined outcome for every bad file."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
import torchaudio

from audionas.audio.reading import AUDIBLE, DecodeError, read

_CLIPPED_SHARE = 1e-3  # of the samples at full scale; a single peak that touches it is no clipping
_LONGEST_RATIO = 2000  # terms of a rate ratio; longer ones need kernels of gigabytes


@dataclass(frozen=True)
class Decoded:
    """A decoded clip.

    Attributes:
        waveform: float32 [clip_samples] in -1..1.
        note: what was done to it, codes joined by `;`: `downmixed`, `upsampled` (with the rate, such as
            `upsampled:8000`), `clipped`, `padded`, `trimmed`.
        original_rate: Hz. channels: of the file. seconds: length of the file.
    """

    waveform: np.ndarray
    note: str
    original_rate: int
    channels: int
    seconds: float


def decode(data: bytes, sample_rate: int, clip_samples: int, min_seconds: float = 0.0) -> Decoded:
    """Decode, mix to mono (the mean), resample, and pad with zeros or trim at the end.

    Args:
        data: an encoded file of any format that libsndfile reads.
        sample_rate: wanted, in Hz.
        clip_samples: wanted length at that rate.
        min_seconds: shorter recordings are refused.

    Raises:
        DecodeError: see there. Truncation is seen in WAV (by chunk sizes), Ogg (by the end-of-stream page),
            AIFF (by the same) and FLAC (by its frame count); MP3 carries nothing to see it by.
    """
    mono, rate, channels, frames, share = read(data, clip_samples / sample_rate, min_seconds)
    wave = resample(mono, rate, sample_rate)
    notes = []
    if channels > 1:
        notes.append("downmixed")
    if rate < sample_rate:
        notes.append(f"upsampled:{rate}")
    if share > _CLIPPED_SHARE:
        notes.append("clipped")
    length = round(frames * sample_rate / rate)
    if length != clip_samples:
        notes.append("padded" if length < clip_samples else "trimmed")
    wave = np.clip(wave[:clip_samples], -1, 1)  # the filter overshoots at steps
    if np.abs(wave).max(initial=0) < AUDIBLE:
        raise DecodeError("silent")
    wave = np.pad(wave, (0, clip_samples - len(wave)))
    return Decoded(wave, ";".join(notes), rate, channels, frames / rate)


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Band-limited resampling: float32 [n] at `rate` Hz to [ceil(n * new_rate / rate)] at `new_rate` Hz.

    torchaudio's windowed sinc with the Kaiser window of resampy's `kaiser_best`: more than 80 dB down
    above the new Nyquist frequency's transition band.
    """
    if rate == new_rate:
        return wave
    return _resampler(rate, new_rate)(torch.from_numpy(wave)).numpy()


@lru_cache(maxsize=8)
def _resampler(rate: int, new_rate: int) -> torchaudio.transforms.Resample:
    # A rate such as 11,127 Hz has no short ratio to 32 kHz; the nearest is at most 1 / _LONGEST_RATIO off.
    ratio = Fraction(rate, new_rate).limit_denominator(_LONGEST_RATIO)
    return torchaudio.transforms.Resample(
        ratio.numerator,
        ratio.denominator,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        beta=14.769656459379492,
    )
