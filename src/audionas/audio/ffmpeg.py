"""Find ffmpeg, and decode with it the formats that libsndfile cannot read."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from audionas.runtime.errors import UserError
from audionas.runtime.extras import optional

_SECONDS = 300.0  # timeout of a block; hours of AAC take less
_HEADER = struct.Struct(">4sIIIII")  # of AU: magic, offset of the samples, size, encoding, rate, channels
_FLOAT = 6  # AU's number for 32-bit floats
_MESSAGE_BYTES = 1 << 16  # bytes of messages that are kept


class FfmpegError(Exception):
    """ffmpeg cannot decode the data to its end; the message is ffmpeg's."""


def find() -> str:
    """Return the path of ffmpeg: AUDIONAS_FFMPEG of the environment, or imageio-ffmpeg's pinned binary.

    An ffmpeg on PATH is not used, because versions cut and decode differently.

    Raises:
        UserError: imageio-ffmpeg is not installed, or has no binary for this machine.
    """
    wanted = os.environ.get("AUDIONAS_FFMPEG")
    if wanted:
        return wanted
    with optional("ffmpeg, which decodes this format"):
        import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise UserError(
            "ffmpeg: imageio-ffmpeg has no binary for this machine; install ffmpeg, and set AUDIONAS_FFMPEG "
            "to its path"
        ) from None


@cache
def version(path: str) -> str:
    """Return the version of an ffmpeg, such as `7.0.2`. Raises UserError if it cannot run."""
    try:
        done = subprocess.run([path, "-version"], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        said = re.match(rb"ffmpeg version ([\w.+~-]+)", done.stdout)
    except (OSError, subprocess.TimeoutExpired):
        said = None
    if said is None:
        raise UserError(
            f"ffmpeg: {path} cannot be run; set AUDIONAS_FFMPEG to the path of an ffmpeg, or unset it for "
            "the one of imageio-ffmpeg"
        )
    return said[1].decode()


class Decoding:
    """Decode the first audio stream of an encoded file with ffmpeg, block by block.

    Bytes are written to a temporary file, because MP4 is read from its end. The demuxer is fixed and only the
    protocol `file` is allowed, so that the data cannot make ffmpeg open an address.

    Args:
        program: ffmpeg's path.
        source: the encoded bytes, or a regular file that is open for reading and stays open.
        demuxer: ffmpeg's name of its container.

    Attributes:
        rate: Hz.
        channels: number of channels of the stream.

    Raises:
        FfmpegError: no audio stream, or damaged before the first sample.
    """

    def __init__(self, program: str, source: bytes | BinaryIO, demuxer: str):
        command = [program, "-hide_banner", "-nostdin", "-loglevel", "error", "-xerror", "-threads", "1"]
        command += ["-protocol_whitelist", "file", "-f", demuxer]
        with _named(source) as (path, descriptors):
            command += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
            self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._messages,
                pass_fds=descriptors,
            )
            try:
                head = self._read(_HEADER.size)  # returns after ffmpeg has opened the file
                if len(head) < _HEADER.size:
                    self._require_success()
                    raise FfmpegError("no audio")
                magic, offset, _, encoding, self.rate, self.channels = _HEADER.unpack(head)
                if magic != b".snd" or encoding != _FLOAT or not self.channels or not self.rate:
                    raise FfmpegError("no AU header")
                self._read(offset - _HEADER.size)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Decoding:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process if it still runs."""
        self._process.kill()
        self._process.stdout.close()
        self._process.wait()
        self._messages.close()

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """Yield float32 [n, channels] of at most `frames` samples. Raises FfmpegError for damaged data."""
        size = 4 * self.channels
        while data := self._read(frames * size):
            samples = np.frombuffer(data[: len(data) // size * size], ">f4").astype(np.float32)
            yield samples.reshape(-1, self.channels)
        self._require_success()

    def _read(self, size: int) -> bytes:
        """Read from ffmpeg, and kill it if that takes too long. The time between two reads does not count."""
        timer = threading.Timer(_SECONDS, self._process.kill)
        timer.start()
        try:
            return self._process.stdout.read(size)
        finally:
            timer.cancel()

    def _require_success(self) -> None:
        """Raise FfmpegError if the process failed or wrote a message."""
        code = self._process.wait()
        self._messages.seek(0)
        said = self._messages.read(_MESSAGE_BYTES).decode("utf-8", "replace").strip()
        if code or said:
            raise FfmpegError(said or f"exit code {code}")


@contextmanager
def _named(source: bytes | BinaryIO) -> Iterator[tuple[str | Path, tuple[int, ...]]]:
    """Yield a path of the file for a child process, and the descriptors that the child needs for it."""
    if not isinstance(source, bytes):
        source.seek(0)  # on macOS the child shares the position
        yield f"/dev/fd/{source.fileno()}", (source.fileno(),)
        return
    with tempfile.TemporaryDirectory(prefix="audionas-") as folder:
        path = Path(folder) / "audio"
        path.write_bytes(source)  # removed once ffmpeg has opened it, also after most kills
        yield path, ()
