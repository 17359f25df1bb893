"""Record blocks from a microphone with sounddevice (PortAudio), an optional package."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from threading import Event

import numpy as np

from audionas.audio.streaming import Stream, sample_stream
from audionas.runtime.errors import UserError
from audionas.runtime.extras import optional

log = logging.getLogger(__name__)

_PER_SECOND = 10  # blocks
_WAITING = 600  # blocks, a minute, that wait for a slow network; later ones are lost


def open_microphone(device: str = "", stop: Event | None = None) -> Stream:
    """Return the stream of a microphone, mono at the rate of the device, which ends when `stop` is set.

    Recording starts with the first block that is read.

    Args:
        device: number of the device, or part of its name, as `python -m sounddevice` lists them; by default
            the input of the system.
        stop: set to end the stream.

    Raises:
        UserError: sounddevice or PortAudio is not installed, there is no such device, or it cannot record.
            The blocks raise it too.
    """
    with optional("the microphone"):
        try:
            import sounddevice
        except OSError as error:  # the wheel for Linux has no PortAudio
            raise UserError(
                f"the microphone: {error}; install it, on Debian: apt install libportaudio2"
            ) from None
    stop = stop or Event()
    which = int(device) if device.isdecimal() else device or None
    failures = (ValueError, sounddevice.PortAudioError)
    try:
        rate = round(sounddevice.query_devices(which, "input")["default_samplerate"])
    except failures as error:
        raise _unusable(device, error) from None

    def blocks() -> Iterator[np.ndarray]:
        waiting: queue.Queue[np.ndarray] = queue.Queue(_WAITING)
        lost = 0

        def take(samples: np.ndarray, frames: int, time: object, status: object) -> None:
            nonlocal lost
            try:
                waiting.put_nowait(samples.copy())  # PortAudio uses the buffer again
            except queue.Full:
                lost += 1

        try:
            with sounddevice.InputStream(
                samplerate=rate,
                channels=1,
                dtype="float32",
                device=which,
                blocksize=rate // _PER_SECOND,
                callback=take,
            ):
                while not stop.is_set():
                    try:
                        yield waiting.get(timeout=1 / _PER_SECOND)
                    except queue.Empty:
                        continue
                for _ in range(waiting.qsize()):  # heard before the stop
                    yield waiting.get_nowait()
        except failures as error:
            raise _unusable(device, error) from None
        if lost:
            log.warning(
                "the microphone: %.1f s were lost, because the network is slower than the sound; use a "
                "longer hop or a smaller network",
                lost / _PER_SECOND,
            )

    return sample_stream(blocks(), rate)


def _unusable(device: str, error: Exception) -> UserError:
    return UserError(
        f"the microphone{f' {device}' if device else ''}: {error}; give --microphone the number of a "
        "device with inputs: `python -m sounddevice` lists them"
    )
