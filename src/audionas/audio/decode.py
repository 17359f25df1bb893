"""Encoded audio to one mono waveform of exact rate and length, with a defined outcome for every bad file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from audionas.audio.reading import AUDIBLE, DecodeError, Recording, read

_CLIPPED_SHARE = 1e-3  # of the samples at full scale; a single peak that touches it is no clipping


@dataclass(frozen=True)
class Decoded:
    """A decoded clip.

    Attributes:
        waveform: float32 [clip_samples] in -1..1.
        note: what was done to it, codes joined by `;`: `downmixed`, `upsampled` (with the rate, such as
            `upsampled:8000`), `clipped`, `padded`, `trimmed`, `ffmpeg` (with the version that decoded it).
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
        data: an encoded file of any format that libsndfile reads, or ffmpeg (AAC, MP4, WebM, WMA, AMR).
        sample_rate: wanted, in Hz.
        clip_samples: wanted length at that rate.
        min_seconds: shorter recordings are refused.

    Raises:
        DecodeError: see there. Truncation is seen in WAV, W64, CAF and AU (by sizes), Ogg (by the
            end-of-stream page), AIFF (by its FORM chunk's size) and FLAC (by its frame count); MP3 and what
            was written to a pipe carry nothing to see it by.
    """
    return fit(read(data, clip_samples / sample_rate, min_seconds), sample_rate, clip_samples)


def fit(recording: Recording, sample_rate: int, clip_samples: int) -> Decoded:
    """The clip of a recording whose first seconds were kept: see `decode`. Raises DecodeError for silence."""
    wave = resample(recording.mono, recording.rate, sample_rate)
    notes = []
    if recording.channels > 1:
        notes.append("downmixed")
    if recording.rate < sample_rate:
        notes.append(f"upsampled:{recording.rate}")
    if recording.full_scale > _CLIPPED_SHARE:
        notes.append("clipped")
    length = round(recording.frames * sample_rate / recording.rate)
    if length != clip_samples:
        notes.append("padded" if length < clip_samples else "trimmed")
    if recording.decoder:
        notes.append(recording.decoder)
    wave = wave[:clip_samples]
    if len(wave) < clip_samples:
        wave = np.pad(wave, (0, clip_samples - len(wave)))
    peak = max(wave.max(), -wave.min())
    if recording.cancels:
        raise DecodeError("channels cancel")
    if peak < AUDIBLE:
        raise DecodeError(_why_silent(recording, sample_rate, clip_samples))
    if peak > 1:  # the filter overshoots at steps
        np.clip(wave, -1, 1, out=wave)
    return Decoded(wave, ";".join(notes), recording.rate, recording.channels, recording.seconds)


def _why_silent(recording: Recording, sample_rate: int, clip_samples: int) -> str:
    if recording.first_peak >= AUDIBLE:
        return f"silent below {sample_rate / 2000:g} kHz"
    if recording.peak >= AUDIBLE:
        return f"silent in its first {clip_samples / sample_rate:g} s"
    return "silent"


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Band-limited resampling: float32 [n] at `rate` Hz to [round(n * new_rate / rate)] at `new_rate` Hz.

    soxr's HQ: aliases at least 130 dB down, ripple below 0.01 dB. `python -m benchmarks resample` compares
    it with others; torchaudio's default lets aliases through at -8 dB.
    """
    return soxr.resample(wave, rate, new_rate, "HQ")
