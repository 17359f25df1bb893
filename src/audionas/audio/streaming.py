"""Read recordings of any length block by block, in constant memory. Does not need PyTorch."""

from __future__ import annotations

import io
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Event
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from audionas.audio import ffmpeg
from audionas.audio.containers import Size, Truncated, container, missing_sizes, mpeg_start
from audionas.audio.reading import (
    AUDIBLE,
    BY_MAGIC,
    CANCELLED,
    HIGHEST_RATE,
    LOWEST_RATE,
    MOST_CHANNELS,
    NO_LENGTH,
    DecodeError,
    floats,
    mix,
    sound_blocks,
    sound_file,
)
from audionas.runtime.errors import UserError

#: Maximum size of a file in bytes, beyond any real recording.
LARGEST = 1 << 50
#: Sample formats of raw PCM, with their type in NumPy.
RAW = {"s16le": "<i2", "s32le": "<i4", "u8": "u1", "f32le": "<f4"}
_BLOCK = 1 << 16  # frames
_HIGHEST_RATE = 10_000_000  # Hz
_LIVE = 10  # blocks per second of raw PCM
_HEAD = 1 << 21  # bytes that are searched for MPEG audio


@dataclass(frozen=True)
class Stream:
    """A recording that is read once, from its beginning to its end.

    Attributes:
        rate: Hz.
        seconds: length that the header states; None if it states none.
        blocks: samples float32 [n, channels]; they raise DecodeError where the file is damaged.
    """

    rate: int
    seconds: float | None
    blocks: Iterator[np.ndarray]


@contextmanager
def open_stream(file: BinaryIO) -> Iterator[Stream]:
    """Open the stream of an encoded file.

    Args:
        file: a regular file, open for reading; in any format that libsndfile or ffmpeg reads.

    Raises:
        DecodeError: as `audionas.audio.reading.read`, but damage in the middle of the file is raised by the
            blocks, and `no length`: a WAV or AIFF file of more than 4 GiB that states no length.
    """
    if os.fstat(file.fileno()).st_size == 0:
        raise DecodeError("empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        kind, head = container(data), data[:_HEAD]
        try:
            sizes = missing_sizes(data)
        except Truncated:
            raise DecodeError("truncated") from None
    if kind.extension in BY_MAGIC:
        sound = sound_file(_Completed(file, sizes) if sizes else _named(file))
        spool = nullcontext()
    else:
        sound, spool = _open_mpeg(file, head)
    with spool:
        if sound is not None:
            with sound:
                known = 0 < sound.frames < NO_LENGTH
                seconds = sound.frames / sound.samplerate if known else None
                yield Stream(_rate(sound.samplerate), seconds, _sound_blocks(sound))
            return
        if not kind.demuxer:
            raise DecodeError("not audio")
        try:
            program = ffmpeg.find()
            ffmpeg.version(program)
        except UserError:
            raise DecodeError(f"needs ffmpeg ({kind.extension})") from None
        try:
            with ffmpeg.Decoding(program, file, kind.demuxer) as decoding:
                yield Stream(_rate(decoding.rate), None, decoding.blocks(_BLOCK))
        except ffmpeg.FfmpegError as error:
            raise DecodeError("not audio" if "matches no streams" in str(error) else "damaged") from None


def _rate(rate: int) -> int:
    if rate < LOWEST_RATE:
        raise DecodeError("sample rate below 1 kHz")
    return rate


def _open_mpeg(file: BinaryIO, head: bytes) -> tuple[soundfile.SoundFile | None, object]:
    """Open a file without magic bytes, and a context to close with it; see `reading.open_sound`.

    The caller uses the context.
    """
    sound = sound_file(_named(file))
    if sound is None and (start := mpeg_start(head)):
        rest = tempfile.TemporaryFile(prefix="audionas-")  # noqa: SIM115 (the caller closes it)
        file.seek(start)
        shutil.copyfileobj(file, rest)
        rest.flush()
        return sound_file(_named(rest)), rest
    return sound, nullcontext()


def _named(file: BinaryIO) -> str | BinaryIO:
    """Return a path of an open file for libsndfile; the file itself if the system has none.

    Reads through a path are faster. Beside this path there is no resource fork; see `reading._from_own_file`.
    """
    file.seek(0)
    path = f"/dev/fd/{file.fileno()}"
    return path if os.path.exists(path) else file  # noqa: PTH110


def _sound_blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    frames = 0
    for block in sound_blocks(sound, _BLOCK):
        frames += len(block)
        yield block
    if sound.format == "FLAC" and frames < sound.frames < NO_LENGTH:  # libsndfile skips unreadable data
        raise DecodeError("truncated")


class _Completed(io.RawIOBase):
    """A file whose headers have other sizes."""

    def __init__(self, file: BinaryIO, sizes: tuple[Size, ...]):
        self._file = file
        try:
            self._places = [(at, struct.pack(form, value)) for at, form, value in sizes]
        except struct.error:
            raise DecodeError("no length") from None
        file.seek(0)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:
        first = self._file.tell()
        data = bytearray(self._file.read(len(buffer)))
        for at, value in self._places:
            for place, byte in enumerate(value, start=at - first):
                if 0 <= place < len(data):
                    data[place] = byte
        buffer[: len(data)] = bytes(data)
        return len(data)


@contextmanager
def spooled(file: BinaryIO) -> Iterator[BinaryIO]:
    """Yield a temporary file on disk with the rest of a file, such as a pipe, that cannot be read twice.

    Raises ValueError if the file is opened as text.
    """
    with tempfile.TemporaryFile(prefix="audionas-") as copy:
        try:
            shutil.copyfileobj(file, copy)
        except TypeError:
            raise ValueError("opened as text; open it in binary mode") from None
        copy.flush()
        yield copy


def sample_stream(samples: np.ndarray | Iterable[np.ndarray], rate: int) -> Stream:
    """Return a stream of samples [n] or [n, channels], or of blocks of them; types as in `reading.floats`.

    Raises:
        DecodeError: the rate is below 1 kHz.
        ValueError: the rate is not a rate, or the samples are of another type or shape. Blocks raise it when
            they are read.
    """
    if not 0 < rate <= HIGHEST_RATE:
        raise ValueError(f"a rate of {rate} Hz; give samples per second")
    if isinstance(samples, np.ndarray):
        block = floats(samples)
        parts = (block[at : at + _BLOCK] for at in range(0, len(block), _BLOCK))
        return Stream(_rate(int(rate)), len(block) / rate, parts)
    return Stream(_rate(int(rate)), None, map(floats, samples))


def raw_stream(
    file: BinaryIO, rate: int, channels: int = 1, kind: str = "s16le", stop: Event | None = None
) -> Stream:
    """Return a stream of raw PCM, such as the output of another program, read as it arrives.

    Args:
        file: interleaved samples; an incomplete frame at the end is ignored.
        rate: Hz.
        channels: number of channels.
        kind: a sample format of `RAW`.
        stop: set to end the stream after the next samples.

    Raises:
        DecodeError: the rate is below 1 kHz.
        ValueError: the rate or the number of channels is out of range, or the file has a header.
    """
    if not 0 < channels <= MOST_CHANNELS:
        raise ValueError(f"{channels} channels; give 1 to {MOST_CHANNELS}")
    if rate > _HIGHEST_RATE:
        raise ValueError(f"a rate of {rate} Hz; give at most {_HIGHEST_RATE}")
    frame = channels * np.dtype(RAW[kind]).itemsize
    first = file.read(frame * max(1, rate // _LIVE))
    found = container(first).extension
    if found not in ("bin", "mp3", "aac"):  # two bytes identify those; raw samples may have them too
        raise ValueError(f"an encoded file ({found}), not raw samples; omit the rate")

    def blocks() -> Iterator[np.ndarray]:
        data = first
        while len(data) >= frame and not (stop and stop.is_set()):
            samples = np.frombuffer(data[: len(data) // frame * frame], RAW[kind])
            yield samples.astype(samples.dtype.newbyteorder("=")).reshape(-1, channels)
            data = file.read(len(first))

    return sample_stream(blocks(), rate)


def waveform(stream: Stream, rate: int) -> Iterator[np.ndarray]:
    """Yield blocks float32 [n] of the mono waveform in -1..1: the mean over the channels, resampled.

    The blocks, joined, equal `decode.resample` of the whole recording to the bit.

    Args:
        stream: the recording.
        rate: of the result, in Hz.

    Raises:
        DecodeError: `no samples`, `non-finite`, `truncated after N s`, `damaged after N s`, `channels
            cancel`.
    """
    resampler = soxr.ResampleStream(stream.rate, rate, 1, "float32", "HQ")
    frames = channels = 0
    loudest = loudest_mix = 0.0
    blocks = iter(stream.blocks)
    while True:
        try:
            block = next(blocks, None)
        except (DecodeError, ffmpeg.FfmpegError) as error:
            reason = error if isinstance(error, DecodeError) else "damaged"
            raise DecodeError(f"{reason} after {frames / stream.rate:.1f} s") from None
        if block is None:
            break
        mono, peak = mix(block)
        frames, channels = frames + len(block), block.shape[1]
        loudest, loudest_mix = max(loudest, peak), max(loudest_mix, float(np.abs(mono).max(initial=0.0)))
        yield resampler.resample_chunk(mono).clip(-1, 1)  # the filter overshoots at steps
    if frames == 0:
        raise DecodeError("no samples")
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True).clip(-1, 1)
    if channels > 1 and loudest >= AUDIBLE and loudest_mix < CANCELLED * min(loudest, 1.0):
        raise DecodeError("channels cancel")
