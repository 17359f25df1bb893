"""Encoded audio read to its end, with a defined outcome for every bad file. Needs no PyTorch."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
import soundfile
from miniaudio import ffi, lib

_BLOCK = 1 << 16  # frames read at a time
_FULL_SCALE = 1 - 2**-14  # what a 16-bit recorder writes when it is overdriven
_LONGEST_CLIP = 60  # seconds that are looked at for sound
_LARGEST = 1 << 25  # samples decoded at once; a megabyte of FLAC can hold hours of silence
_LOWEST_RATE = 1000  # Hz; no recorder goes so low, a damaged header does
AUDIBLE = 0.5 / 32_767  # below it the stored 16-bit row would be all zeros


class DecodeError(Exception):
    """The file gives no clip; the message is a reason for the ledger.

    One of `empty`, `not audio`, `truncated`, `non-finite`, `silent`, `too short`, `sample rate below 1 kHz`.
    """


@dataclass(frozen=True)
class Recording:
    """A file that was read to its end.

    Attributes:
        mono: float32 [n] in -1..1, the mean over channels of the first seconds, at the file's rate.
        rate: Hz. channels, frames: of the whole file.
        full_scale: share of all frames that touch full scale, from 0 to 1.
    """

    mono: np.ndarray
    rate: int
    channels: int
    frames: int
    full_scale: float

    @property
    def seconds(self) -> float:
        """Length of the file."""
        return self.frames / self.rate


def inspect(data: bytes, min_seconds: float = 0.0) -> tuple[int, float]:
    """Rate in Hz and length in seconds of an encoded file, decoded to its end.

    Raises:
        DecodeError: as `decode`.
    """
    recording = read(data, _LONGEST_CLIP, min_seconds)
    if np.abs(recording.mono).max(initial=0) < AUDIBLE:
        raise DecodeError("silent")
    return recording.rate, recording.seconds


def read(data: bytes, keep_seconds: float, min_seconds: float = 0.0) -> Recording:
    """An encoded file of any format that libsndfile reads, read to its end so that damage is seen.

    Args:
        keep_seconds: of the mono mix that are kept, with a tenth of a second more for a filter's reach.
        min_seconds: shorter recordings are refused.

    Raises:
        DecodeError: see there; silence is for the caller to judge.
    """
    if not data:
        raise DecodeError("empty")
    if _cut_short(data):
        raise DecodeError("truncated")
    recording = _read_flac(data, keep_seconds) or _read_any(data, keep_seconds)
    if recording.frames == 0:
        raise DecodeError("empty")
    if recording.seconds < min_seconds:
        raise DecodeError("too short")
    return recording


def _keep(seconds: float, rate: int) -> int:
    return int(seconds * rate) + rate // 10 + 4096  # the filter's reach beyond the end


def _read_flac(data: bytes, keep_seconds: float) -> Recording | None:
    """A sound 16-bit FLAC file; None for any other, damaged ones too: libsndfile says what is wrong.

    AudioSet's copies are such files, and dr_flac takes half of libsndfile's time.
    """
    if data[:4] != b"fLaC" or len(data) < 26:
        return None
    header = int.from_bytes(data[18:26], "big")  # of STREAMINFO, which always comes first
    rate, channels = header >> 44, (header >> 41 & 7) + 1
    bits, frames = (header >> 36 & 31) + 1, header & (1 << 36) - 1
    if bits != 16 or rate < _LOWEST_RATE or not 0 < frames * channels <= _LARGEST:
        return None
    samples = _decoded_flac(data, rate, channels, frames)
    if samples is None:
        return None
    limit, full = int(_FULL_SCALE * 32_768), 0
    if max(int(samples.max()), -int(samples.min())) >= limit:
        full = np.count_nonzero(np.abs(samples.astype(np.int32)).max(axis=1) >= limit)
    # Converted as one, then added: conversions of every second value take longer.
    columns = samples[: _keep(keep_seconds, rate)].astype(np.float32).T
    mono = sum(columns[1:], start=columns[0])
    mono /= np.float32(32_768 * channels)
    return Recording(mono, rate, channels, frames, full / frames)


def _decoded_flac(data: bytes, rate: int, channels: int, frames: int) -> np.ndarray | None:
    """int16 [frames, channels] by dr_flac; None for what it does not find sound and of this format.

    Straight into the array: miniaudio's own function copies the samples twice more.
    """
    flac = lib.ma_dr_flac_open_memory(data, len(data), ffi.NULL)
    if not flac:
        return None
    try:
        if (flac.sampleRate, flac.channels) != (rate, channels):
            return None
        samples = np.empty((frames + 1, channels), np.int16)  # there might be more than is promised
        got = lib.ma_dr_flac_read_pcm_frames_s16(flac, len(samples), ffi.from_buffer("short[]", samples))
        return samples[:frames] if got == frames else None
    finally:
        lib.ma_dr_flac_close(flac)


def _read_any(data: bytes, keep_seconds: float) -> Recording:
    """By libsndfile, block by block; held only as far as it is needed."""
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except (soundfile.LibsndfileError, RuntimeError, ValueError):
        raise DecodeError("not audio") from None
    with file:
        rate, channels, promised = file.samplerate, file.channels, file.frames
        if rate < _LOWEST_RATE:
            raise DecodeError("sample rate below 1 kHz")
        keep = _keep(keep_seconds, rate)
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
            # Channel by channel: a reduction over the short last axis takes fifteen times as long.
            columns = [np.ascontiguousarray(column) for column in block.T]
            full += np.count_nonzero(np.maximum.reduce([np.abs(c) for c in columns]) >= _FULL_SCALE)
            if frames < keep:
                mean = sum(np.clip(c, -1, 1) for c in columns) / np.float32(channels)
                kept.append(mean[: keep - frames])
            frames += len(block)
    if frames < promised and file.format == "FLAC":
        raise DecodeError("truncated")
    mono = np.concatenate(kept) if kept else np.zeros(0, np.float32)
    return Recording(mono.astype(np.float32, copy=False), rate, channels, frames, full / max(frames, 1))


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
