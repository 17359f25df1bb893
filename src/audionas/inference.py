"""A network put to use: what is heard in a recording."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from audionas.audio.decode import Decoded, fit
from audionas.audio.logmel import LogMel
from audionas.audio.measure import measure
from audionas.audio.reading import DecodeError, Recording, from_samples, read
from audionas.models.files import load_model
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import LARGEST_RECORDING, UnfitFileError, read_bounded

log = logging.getLogger(__name__)

_WIDER, _LOUDER = 1.25, 20.0  # times, and dB, beyond what the network learned from
_REMEDIES = {
    "not audio": "give WAV, FLAC, Ogg, MP3, M4A, AAC, WebM or WMA, or convert it with ffmpeg",
    "needs ffmpeg": "run pip install 'audionas[ffmpeg]', set AUDIONAS_FFMPEG to an ffmpeg, or convert the "
    "file to WAV",
    "truncated": "record or copy it again",
    "damaged": "record or copy it again",
    "silent in its first": "cut it where its sound begins",
    "channels cancel": "they are in antiphase: give one of them",
}


@dataclass(frozen=True)
class Heard:
    """What a network hears in a recording.

    Attributes:
        probabilities: of each class, float32 [classes].
        seconds: length of the recording; only its first `clip_seconds` are heard.
        warnings: how the recording differs from all that the network learned from, a sentence each.
    """

    probabilities: np.ndarray
    seconds: float
    warnings: tuple[str, ...]


class Classifier:
    """A model file with the front end that it was trained behind; all it needs is in the file.

    Attributes:
        classes: what it tells apart, AudioSet's ids or a folder's labels.
        clip_seconds: how much of the beginning of a recording is heard.

    Raises:
        UserError: no such file, damaged, a supernet, or written without its settings.
    """

    def __init__(self, path: str | Path):
        self.network, about = load_model(path)
        try:
            audio, features = about["settings"]["audio"], about["settings"]["features"]
            self.classes: list[str] = list(about["classes"])
        except (KeyError, TypeError):
            raise UserError(
                f"{path}: it does not say what it was trained on; make it with `dvc repro`"
            ) from None
        self.clip_seconds: float = audio["clip_seconds"]
        self._rate, self._samples = audio["sample_rate"], round(audio["sample_rate"] * audio["clip_seconds"])
        self._min_seconds = audio["min_seconds"]
        try:
            self._front_end = LogMel(sample_rate=self._rate, **features)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        self._heard = _heard(about.get("heard"), path)

    def __call__(
        self, recording: str | os.PathLike | BinaryIO | np.ndarray, rate: int | None = None
    ) -> np.ndarray:
        """The probability of each class, float32 [classes], in the first `clip_seconds` of a recording.

        Args:
            recording: the path of an audio file; or one that is open in binary mode, which is read from where
                it stands to its end; or samples, [n] or [n, channels]: floats in -1..1, int16, int32 or uint8
                over their whole range. Samples give what a WAV file of them gives.
            rate: of samples, in Hz; needed for them, and for nothing else.

        Raises:
            UserError: the file is not there, or it or the samples can't be used; says why.

        How the recording differs from those the network learned from is logged as a warning; see `hear`.
        """
        heard = self.hear(recording, rate)
        for warning in heard.warnings:
            log.warning("%s: %s", _name(recording), warning)
        return heard.probabilities

    @torch.inference_mode()
    def hear(self, recording: str | os.PathLike | BinaryIO | np.ndarray, rate: int | None = None) -> Heard:
        """As a call, with the length of the recording and the warnings. Raises UserError as there."""
        name = _name(recording)
        try:
            clip = fit(self._read(recording, rate), self._rate, self._samples)
        except DecodeError as error:
            remedy = next((text for reason, text in _REMEDIES.items() if str(error).startswith(reason)), None)
            raise UserError(f"{name}: {error}" + (f"; {remedy}" if remedy else "")) from None
        except (UnfitFileError, ValueError) as error:
            raise UserError(f"{name}: {error}") from None
        except FileNotFoundError:
            raise UserError(f"{name}: no such file; fix the path") from None
        except OSError as error:
            raise os_error(error, name) from None
        spectrogram = self._front_end(torch.from_numpy(clip.waveform)[None])
        return Heard(self.network(spectrogram)[0].sigmoid().numpy(), clip.seconds, self._warnings(clip))

    def _read(self, recording: str | os.PathLike | BinaryIO | np.ndarray, rate: int | None) -> Recording:
        if isinstance(recording, str | os.PathLike):
            if rate is not None:
                raise ValueError("a file says its own rate; leave `rate` out")
            return read(read_bounded(recording), self.clip_seconds, self._min_seconds)
        if hasattr(recording, "read"):
            data = recording.read(LARGEST_RECORDING + 1)
            if not isinstance(data, bytes):
                raise ValueError("opened as text; open it in binary mode")
            if len(data) > LARGEST_RECORDING:
                raise ValueError(f"too large (more than {LARGEST_RECORDING:,} bytes)")
            return read(data, self.clip_seconds, self._min_seconds)
        if rate is None:
            raise ValueError("samples without a rate; give it as `rate`, in Hz")
        return from_samples(recording, rate, self.clip_seconds, self._min_seconds)

    def _warnings(self, clip: Decoded) -> tuple[str, ...]:
        if not self._heard:
            return ()
        it = measure(clip.waveform, self._rate)
        widest = self._heard["bandwidth"][-1]
        quietest, loudest = self._heard["level"][0], self._heard["level"][-1]
        found = []
        if it.bandwidth > _WIDER * widest:
            found.append(
                f"sound up to {it.bandwidth / 1000:.1f} kHz, and the network learned from clips of up to "
                f"{widest / 1000:.1f} kHz: its answers may be wrong; low-pass recordings to that, or train "
                "on clips like them"
            )
        if not quietest - _LOUDER <= it.level <= loudest + _LOUDER:
            found.append(
                f"a level of {it.level:.0f} dBFS, and the network learned from clips of {quietest:.0f} to "
                f"{loudest:.0f} dBFS: its answers may be wrong; set the gain to match, or train on clips "
                "like them"
            )
        return tuple(found)


def _heard(given: Any, path: str | Path) -> dict[str, list[float]]:
    """The range of the training clips that a model file tells; empty for an older file, which tells none."""
    if given is None or given == {}:
        return {}
    kinds = [given.get(kind) for kind in ("bandwidth", "level")] if isinstance(given, dict) else [None]
    for values in kinds:
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, float) for v in values):
            raise UserError(f"{path}: about.heard is not three numbers each; make it with `dvc repro`")
    return {kind: given[kind] for kind in ("bandwidth", "level")}


def _name(recording: object) -> str:
    if isinstance(recording, str | os.PathLike):
        return os.fspath(recording)
    return str(getattr(recording, "name", "recording"))
