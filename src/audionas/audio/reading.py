"""Encoded audio read to its end, with a defined outcome for every bad file. Needs no PyTorch."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile

_BLOCK = 1 << 16  # frames read at a time
_FULL_SCALE = 1 - 2**-14  # what a 16-bit recorder writes when it is overdriven
_LONGEST_CLIP = 60  # seconds that are looked at for sound
_LOWEST_RATE = 1000  # Hz; no recorder goes so low, a damaged header does
AUDIBLE = 0.5 / 32_767  # below it the stored 16-bit row would be all zeros


class DecodeError(Exception):
    """The file gives no clip; the message is a reason for the ledger.

    One of `empty`, `not audio`, `truncated`, `non-finite`, `silent`, `too short`, `sample rate below 1 kHz`.
    """


def inspect(data: bytes, min_seconds: float = 0.0) -> tuple[int, float]:
    """Rate in Hz and length in seconds of an encoded file, decoded to its end.

    Raises:
        DecodeError: as `decode`.
    """
    mono, rate, _, frames, _ = read(data, _LONGEST_CLIP, min_seconds)
    if np.abs(mono).max(initial=0) < AUDIBLE:
        raise DecodeError("silent")
    return rate, frames / rate


def read(data: bytes, keep_seconds: float, min_seconds: float) -> tuple[np.ndarray, int, int, int, float]:
    """`_read`, of a file that is whole and long enough."""
    if not data:
        raise DecodeError("empty")
    if _cut_short(data):
        raise DecodeError("truncated")
    read = _read(data, keep_seconds)
    _, rate, _, frames, _ = read
    if frames == 0:
        raise DecodeError("empty")
    if frames / rate < min_seconds:
        raise DecodeError("too short")
    return read


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
