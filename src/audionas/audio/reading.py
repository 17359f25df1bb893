"""Read encoded audio to its end, with a defined error for every bad file. Does not need PyTorch."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from miniaudio import ffi, lib

from audionas.audio import ffmpeg
from audionas.audio.containers import Truncated, completed, container, mpeg_start
from audionas.runtime.errors import UserError

_BLOCK = 1 << 16  # frames read at a time
_FULL_SCALE = 1 - 2**-14  # reached by an overdriven 16-bit recorder
_LONGEST_CLIP = 60  # seconds that are checked for sound
CANCELLED = 1e-3  # of the channels' peak, -60 dB: a quieter mix is only rounding noise
_LARGEST = 1 << 25  # samples decoded at once; a megabyte of FLAC may hold hours of silence
BY_MAGIC = {"ogg", "wav", "w64", "flac", "aiff", "au", "caf"}  # libsndfile knows them by their first bytes
HIGHEST_RATE = 10_000_000  # Hz
MOST_CHANNELS = 64  # more means that the axes are swapped
_MOST = 16.0  # times full scale; larger floats are integer values
NO_LENGTH = 1 << 62  # frames; libsndfile's value for an unknown length
LOWEST_RATE = 1000  # Hz; a lower rate is a damaged header
AUDIBLE = 0.5 / 32_767  # below it the stored 16-bit row is all zeros


class DecodeError(Exception):
    """The file cannot become a clip; the message is a reason for the ledger.

    One of:
        `empty`: the file has no bytes.
        `no samples`: the file has a header only.
        `not audio`: neither libsndfile nor ffmpeg reads the format.
        `needs ffmpeg (EXTENSION)`: ffmpeg reads the format, but is not available.
        `truncated`: the file is shorter than its headers state, or cannot be read to its end.
        `damaged`: ffmpeg reports an error in the file.
        `non-finite`: a sample is NaN or infinite.
        `silent`: the whole recording is silent.
        `silent in its first N s`: the clip is silent, the rest of the recording is not.
        `silent below N kHz`: all sound is above half the wanted sample rate.
        `channels cancel`: the channels have sound, but their mean does not (antiphase).
        `too short`, `sample rate below 1 kHz`.
    """


@dataclass(frozen=True)
class Recording:
    """A file that was read to its end.

    Attributes:
        mono: float32 [n] in -1..1, the mean over channels of the first seconds, at the file's rate.
        rate: Hz.
        channels, frames: of the whole file.
        full_scale: share of frames that reach full scale, from 0 to 1.
        peak: the largest magnitude in any channel of the whole file, at most 1.
        first_peak: the same in the requested seconds.
        decoder: `ffmpeg:VERSION` if ffmpeg decoded the file, else "".
    """

    mono: np.ndarray
    rate: int
    channels: int
    frames: int
    full_scale: float
    peak: float
    first_peak: float
    decoder: str = ""

    @property
    def seconds(self) -> float:
        """Length of the file in seconds."""
        return self.frames / self.rate

    @property
    def cancels(self) -> bool:
        """Whether the first seconds have sound in the channels but not in their mean."""
        mix = np.abs(self.mono).max(initial=0)
        return self.channels > 1 and self.first_peak >= AUDIBLE and mix < CANCELLED * self.first_peak


def inspect(data: bytes, min_seconds: float = 0.0) -> tuple[int, float]:
    """Return rate in Hz and length in seconds of an encoded file, after decoding it to its end.

    Raises:
        DecodeError: as `decode`.
    """
    recording = read(data, _LONGEST_CLIP, min_seconds)
    if recording.peak < AUDIBLE:
        raise DecodeError("silent")
    if recording.cancels:
        raise DecodeError("channels cancel")
    return recording.rate, recording.seconds


def read(data: bytes, keep_seconds: float, min_seconds: float = 0.0) -> Recording:
    """Read an encoded file to its end, so that damage is detected.

    Args:
        data: a file of any format that libsndfile or ffmpeg reads.
        keep_seconds: seconds of the mono mix that are kept, plus a tenth for the resampling filter.
        min_seconds: shorter recordings are refused.

    Raises:
        DecodeError: see its reasons; the caller checks for silence.
    """
    if not data:
        raise DecodeError("empty")
    try:
        data = completed(data)
    except Truncated:
        raise DecodeError("truncated") from None
    recording = _read_flac(data, keep_seconds) or _read_any(data, keep_seconds)
    if recording.frames == 0:
        raise DecodeError("no samples")
    if recording.seconds < min_seconds:
        raise DecodeError("too short")
    return recording


def from_samples(samples: np.ndarray, rate: int, keep_seconds: float, min_seconds: float = 0.0) -> Recording:
    """Return a recording of samples, like those of a WAV file.

    Args:
        samples: [n] or [n, channels]; floats in -1..1 (clipped beyond), int16, int32 or uint8.
        rate: Hz.
        keep_seconds, min_seconds: as `read`.

    Raises:
        DecodeError: as `read`.
        ValueError: another type or shape, or floats beyond 16 times full scale.
    """
    samples = floats(samples)
    if not 0 < rate <= HIGHEST_RATE:
        raise ValueError(f"a rate of {rate} Hz; give samples per second")
    if samples.size == 0:
        raise DecodeError("no samples")
    recording = _gather([samples], int(rate), samples.shape[1], keep_seconds)
    if recording.seconds < min_seconds:
        raise DecodeError("too short")
    return recording


def floats(samples: np.ndarray) -> np.ndarray:
    """Convert samples to float32 [n, channels], full scale 1.

    Args:
        samples: [n] or [n, channels]; floats, int16, int32 or uint8.

    Raises:
        ValueError: another type or shape, or floats beyond 16 times full scale.
    """
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 0 < samples.shape[1] <= MOST_CHANNELS):
        raise ValueError(f"samples of shape {samples.shape}; give [n] or [n, channels]")
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype in (np.int16, np.int32):
        samples = (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    elif samples.dtype.kind != "f":
        raise ValueError(f"samples of type {samples.dtype}; give floats in -1..1, int16, int32 or uint8")
    if samples.dtype.kind == "f" and np.nanmax(np.abs(samples), initial=0) > _MOST:
        raise ValueError(f"floats up to {np.nanmax(np.abs(samples)):g}; divide them, so that full scale is 1")
    channels = samples.shape[1] if samples.ndim == 2 else 1
    return samples.astype(np.float32).reshape(len(samples), channels)


def _keep(seconds: float, rate: int) -> int:
    return int(seconds * rate) + rate // 10 + 4096  # the length of the filter beyond the end


def _read_flac(data: bytes, keep_seconds: float) -> Recording | None:
    """Read a valid 16-bit FLAC file; return None for any other, so that libsndfile reports the error.

    Copies of AudioSet are such files, and dr_flac takes half of libsndfile's time.
    """
    if data[:4] != b"fLaC" or len(data) < 26:
        return None
    header = int.from_bytes(data[18:26], "big")  # of STREAMINFO, always the first block
    rate, channels = header >> 44, (header >> 41 & 7) + 1
    bits, frames = (header >> 36 & 31) + 1, header & (1 << 36) - 1
    if bits != 16 or rate < LOWEST_RATE or not 0 < frames * channels <= _LARGEST:
        return None
    samples = _decoded_flac(data, rate, channels, frames)
    if samples is None:
        return None
    limit, full = int(_FULL_SCALE * 32_768), 0
    peak = max(int(samples.max()), -int(samples.min()))
    if peak >= limit:
        full = np.count_nonzero(np.abs(samples.astype(np.int32)).max(axis=1) >= limit)
    # Conversion of a contiguous array is faster than of each channel.
    first = samples[: round(keep_seconds * rate)]
    first_peak = max(int(first.max(initial=0)), -int(first.min(initial=0))) / 32_768
    columns = samples[: _keep(keep_seconds, rate)].astype(np.float32).T
    mono = sum(columns[1:], start=columns[0])
    mono /= np.float32(32_768 * channels)
    return Recording(mono, rate, channels, frames, full / frames, peak / 32_768, first_peak)


def _decoded_flac(data: bytes, rate: int, channels: int, frames: int) -> np.ndarray | None:
    """Decode int16 [frames, channels] with dr_flac; return None for an invalid or different file.

    It decodes into the array directly: miniaudio's own function copies the samples twice.
    """
    flac = lib.ma_dr_flac_open_memory(data, len(data), ffi.NULL)
    if not flac:
        return None
    try:
        if (flac.sampleRate, flac.channels) != (rate, channels):
            return None
        samples = np.empty((frames + 1, channels), np.int16)  # one more, to detect extra frames
        got = lib.ma_dr_flac_read_pcm_frames_s16(flac, len(samples), ffi.from_buffer("short[]", samples))
        return samples[:frames] if got == frames else None
    finally:
        lib.ma_dr_flac_close(flac)


def _read_any(data: bytes, keep_seconds: float) -> Recording:
    """Read with libsndfile, or with ffmpeg if libsndfile does not know the format; hold only what is kept."""
    file = open_sound(data)
    if file is None:
        return _read_ffmpeg(data, keep_seconds)
    with file:
        recording = _gather(sound_blocks(file), file.samplerate, file.channels, keep_seconds)
        # libsndfile skips unreadable FLAC data. A FLAC stream may have no length.
        if file.format == "FLAC" and recording.frames < file.frames < NO_LENGTH:
            raise DecodeError("truncated")
    return recording


def open_sound(data: bytes) -> soundfile.SoundFile | None:
    """Open a file with libsndfile; return None for an unknown format."""
    kind = container(data).extension
    if kind in BY_MAGIC:
        return sound_file(io.BytesIO(data))
    file = _from_own_file(data)
    if file is None and (start := mpeg_start(data)):  # after a recorder's own header, or a partial frame
        file = _from_own_file(data[start:])
    return file


def sound_file(source: BinaryIO | str) -> soundfile.SoundFile | None:
    """Open a file or a path with libsndfile; return None if it cannot read the format."""
    try:
        return soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, RuntimeError, ValueError):
        return None


def _from_own_file(data: bytes) -> soundfile.SoundFile | None:
    """Open the bytes with libsndfile as a file in an otherwise empty folder.

    For formats without magic bytes, such as MP3 without a tag, libsndfile first looks for a resource fork
    `._NAME` beside the file. For a buffer, which has no name, it looks for `._` in the working folder. macOS
    leaves files of that name on shared disks; with one, every such recording would be "not audio".
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with open(os.memfd_create("audionas"), "w+b") as own:  # noqa: PTH123 (a descriptor)
            own.write(data)
            own.flush()
            return sound_file(f"/proc/self/fd/{own.fileno()}")
    with tempfile.TemporaryDirectory(prefix="audionas-") as folder:
        path = Path(folder) / "audio"
        path.write_bytes(data)
        return sound_file(str(path))


def sound_blocks(file: soundfile.SoundFile, frames: int = _BLOCK) -> Iterator[np.ndarray]:
    """Yield float32 [n, channels] of at most `frames` samples. Raises DecodeError: truncated."""
    while True:
        try:
            block = file.read(frames, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError):
            raise DecodeError("truncated") from None
        if len(block) == 0:
            return
        yield block


def _read_ffmpeg(data: bytes, keep_seconds: float) -> Recording:
    kind = container(data)
    if not kind.demuxer:
        raise DecodeError("not audio")
    try:
        program = ffmpeg.find()
        decoder = f"ffmpeg:{ffmpeg.version(program)}"
    except UserError:
        raise DecodeError(f"needs ffmpeg ({kind.extension})") from None
    try:
        with ffmpeg.Decoding(program, data, kind.demuxer) as decoding:
            blocks = decoding.blocks(_BLOCK)
            recording = _gather(blocks, decoding.rate, decoding.channels, keep_seconds)
    except ffmpeg.FfmpegError as error:
        raise DecodeError("not audio" if "matches no streams" in str(error) else "damaged") from None
    return replace(recording, decoder=decoder)


def mix(block: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the mean over the channels of float32 [n, channels], and the largest magnitude in any of them.

    Raises DecodeError: non-finite.
    """
    columns, loudest = _columns(block)
    return _mean(columns), float(loudest.max(initial=0.0))


def _columns(block: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the channels, and the largest magnitude of each frame [n]."""
    if not np.isfinite(block).all():
        raise DecodeError("non-finite")
    # By channel: a reduction over the short last axis takes fifteen times as long.
    columns = [np.ascontiguousarray(column) for column in block.T]
    return columns, np.maximum.reduce([np.abs(c) for c in columns])


def _mean(columns: list[np.ndarray]) -> np.ndarray:
    return sum(np.clip(c, -1, 1) for c in columns) / np.float32(len(columns))


def _gather(blocks: Iterable[np.ndarray], rate: int, channels: int, keep_seconds: float) -> Recording:
    """Return a recording of float32 [n, channels] blocks."""
    if rate < LOWEST_RATE:
        raise DecodeError("sample rate below 1 kHz")
    keep, first = _keep(keep_seconds, rate), round(keep_seconds * rate)
    kept, frames, full = [], 0, 0
    peak = first_peak = 0.0
    for block in blocks:
        columns, loudest = _columns(block)
        full += np.count_nonzero(loudest >= _FULL_SCALE)
        peak = max(peak, float(loudest.max()))
        if frames < first:
            first_peak = max(first_peak, float(loudest[: first - frames].max()))
        if frames < keep:
            kept.append(_mean(columns)[: keep - frames])
        frames += len(block)
    mono = np.concatenate(kept) if kept else np.zeros(0, np.float32)
    mono = mono.astype(np.float32, copy=False)
    # Floats beyond full scale count as full scale, as in the mix.
    return Recording(
        mono, rate, channels, frames, full / max(frames, 1), min(peak, 1.0), min(first_peak, 1.0)
    )
