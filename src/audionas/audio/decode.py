"""Encoded audio to one mono waveform of exact rate and length, with a defined outcome for every bad file."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import soundfile
import torch
import torchaudio

_BLOCK = 1 << 16  # frames read at a time
_FULL_SCALE = 1 - 2**-14  # what a 16-bit recorder writes when it is overdriven
_CLIPPED_SHARE = 1e-3  # of the samples at full scale; a single peak that touches it is no clipping
_AUDIBLE = 0.5 / 32_767  # below it the stored 16-bit row would be all zeros
_LOWEST_RATE = 1000  # Hz; no recorder goes so low, a damaged header does
_LONGEST_RATIO = 2000  # terms of a rate ratio; longer ones need kernels of gigabytes


class DecodeError(Exception):
    """The file gives no clip; the message is a reason for the ledger.

    One of `empty`, `not audio`, `truncated`, `non-finite`, `silent`, `too short`, `sample rate below 1 kHz`.
    """


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
    if not data:
        raise DecodeError("empty")
    if _cut_short(data):
        raise DecodeError("truncated")
    keep_seconds = clip_samples / sample_rate
    mono, rate, channels, frames, share = _read(data, keep_seconds)
    if frames == 0:
        raise DecodeError("empty")
    if frames / rate < min_seconds:
        raise DecodeError("too short")
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
    if np.abs(wave).max(initial=0) < _AUDIBLE:
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


def _read(data: bytes, keep_seconds: float) -> tuple[np.ndarray, int, int, int, float]:
    """Mono float32 of the first seconds, rate, channels, frames of the file, share at full scale.

    The file is read to its end, so that damage is seen, and held only as far as it is needed.
    """
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except (soundfile.LibsndfileError, RuntimeError, ValueError):
        raise DecodeError("not audio") from None
    with file:
        rate, channels, promised = file.samplerate, file.channels, file.frames
        if rate < _LOWEST_RATE:
            raise DecodeError("sample rate below 1 kHz")
        keep = int(keep_seconds * rate) + rate // 10 + 4096  # the filter's reach beyond the end
        kept, frames, full = [], 0, 0
        while True:
            try:
                block = file.read(_BLOCK, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, RuntimeError):
                raise DecodeError("truncated") from None
            if len(block) == 0:
                break
            if not np.isfinite(block).all():
                raise DecodeError("non-finite")
            full += int((np.abs(block) >= _FULL_SCALE).any(axis=1).sum())
            if frames < keep:
                kept.append(np.clip(block, -1, 1).mean(axis=1, dtype=np.float32)[: keep - frames])
            frames += len(block)
    if frames < promised and file.format == "FLAC":
        raise DecodeError("truncated")
    mono = np.concatenate(kept) if kept else np.zeros(0, np.float32)
    return np.ascontiguousarray(mono, dtype=np.float32), rate, channels, frames, full / max(frames, 1)


def _cut_short(data: bytes) -> bool:
    """Whether a WAV, AIFF or Ogg file ends before its own headers say."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _wav_cut_short(data)
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return struct.unpack_from(">I", data, 4)[0] + 8 > len(data)
    return data[:4] == b"OggS" and _ogg_cut_short(data)


def _wav_cut_short(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"data":
            # A recorder that writes to a pipe cannot know the size and puts 0xFFFFFFFF or thereabouts.
            return size < 0xFFFF_0000 and at + 8 + size > len(data)
        at += 8 + size + size % 2
    promised = struct.unpack_from("<I", data, 4)[0] + 8
    return promised > len(data)  # not even the start of the data


def _ogg_cut_short(data: bytes) -> bool:
    at = data.rfind(b"OggS")
    if at + 27 > len(data):
        return True
    segments = data[at + 26]
    end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
    last_page = data[at + 5] & 0x04
    return not last_page or end > len(data)
