"""Inference: classify recordings with a model file."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import nn

from audionas.audio.decode import Decoded, fit
from audionas.audio.logmel import LogMel
from audionas.audio.measure import measure
from audionas.audio.reading import DecodeError, Recording, from_samples, read
from audionas.models.files import load_model
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import LARGEST_RECORDING, UnfitFileError, read_bounded
from audionas.tasks import MULTI_LABEL, TASKS

log = logging.getLogger(__name__)

_WIDER, _LOUDER = (
    1.25,
    20.0,
)  # factor and dB beyond the training clips; recordings that exceed them cause a warning
_REMEDIES = {
    "not audio": "give WAV, FLAC, Ogg, MP3, M4A, AAC, WebM or WMA, or convert it with ffmpeg",
    "needs ffmpeg": "run pip install 'audionas[ffmpeg]', set AUDIONAS_FFMPEG to an ffmpeg, or convert the "
    "file to WAV",
    "truncated": "record or copy it again",
    "damaged": "record or copy it again",
    "silent in its first": "cut it where the sound begins",
    "channels cancel": "the channels are in antiphase: provide one channel",
}


@dataclass(frozen=True)
class Prediction:
    """The prediction for a recording.

    Attributes:
        probabilities: probability per class, float32 [classes].
        seconds: length of the recording in seconds; the network uses only the first `clip_seconds`.
        warnings: differences between the recording and the training clips, one sentence each.
    """

    probabilities: np.ndarray
    seconds: float
    warnings: tuple[str, ...]


class Classifier:
    """A network with its front end, loaded from a model file.

    Args:
        path: the model file.

    Attributes:
        classes: class ids: those of AudioSet, or the labels of a folder.
        clip_seconds: seconds at the beginning of a recording that the network uses.

    Raises:
        UserError: the file is missing, damaged, a supernet, or has no settings.
    """

    def __init__(self, path: str | Path):
        self.network, about = load_model(path)
        try:
            audio, features = about["settings"]["audio"], about["settings"].get("features")
            self._task = TASKS[about.get("task", MULTI_LABEL.name)]
            self.classes: list[str] = list(about["classes"])
        except (AttributeError, KeyError, TypeError):
            raise UserError(
                f"{path}: settings, classes or task are missing or unknown; make it with `dvc repro`"
            ) from None
        if not features and "mels" in self.network.spec:
            raise UserError(
                f"{path}: the settings of the log-mel features are missing; make it with `dvc repro`"
            )
        self.clip_seconds: float = audio["clip_seconds"]
        self._rate, self._samples = audio["sample_rate"], round(audio["sample_rate"] * audio["clip_seconds"])
        self._min_seconds = audio["min_seconds"]
        try:
            self._front_end = LogMel(sample_rate=self._rate, **features) if features else nn.Identity()
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        self._heard = _heard(about.get("heard"), path)

    def __call__(
        self, recording: str | os.PathLike | BinaryIO | np.ndarray, rate: int | None = None
    ) -> np.ndarray:
        """Return the probability per class for the first `clip_seconds` of a recording.

        Differences between the recording and the training clips are logged as warnings; see `predict`.

        Args:
            recording: path of an audio file, a file opened in binary mode (read from its position), or
                samples [n] or [n, channels]: floats in -1..1, or int16, int32 or uint8 in their full range.
                Samples give the same result as a WAV file with them.
            rate: sample rate in Hz; required for samples, and not allowed for files.

        Returns:
            float32 [classes].

        Raises:
            UserError: the file is missing, or the file or samples cannot be used.
        """
        heard = self.predict(recording, rate)
        for warning in heard.warnings:
            log.warning("%s: %s", _name(recording), warning)
        return heard.probabilities

    @torch.inference_mode()
    def predict(
        self, recording: str | os.PathLike | BinaryIO | np.ndarray, rate: int | None = None
    ) -> Prediction:
        """Classify a recording, and return its length and warnings as well.

        Args:
            recording, rate: see `__call__`.

        Raises:
            UserError: the file is missing, or the file or samples cannot be used.
        """
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
        probabilities = self._task.activation(self.network(spectrogram))[0].numpy()
        return Prediction(probabilities, clip.seconds, self._warnings(clip))

    def _read(self, recording: str | os.PathLike | BinaryIO | np.ndarray, rate: int | None) -> Recording:
        if isinstance(recording, str | os.PathLike):
            if rate is not None:
                raise ValueError("a file states its own rate; omit `rate`")
            return read(read_bounded(recording), self.clip_seconds, self._min_seconds)
        if hasattr(recording, "read"):
            data = recording.read(LARGEST_RECORDING + 1)
            if not isinstance(data, bytes):
                raise ValueError("opened as text; open it in binary mode")
            if len(data) > LARGEST_RECORDING:
                raise ValueError(f"too large (more than {LARGEST_RECORDING:,} bytes)")
            return read(data, self.clip_seconds, self._min_seconds)
        if rate is None:
            raise ValueError("samples have no rate; pass `rate` in Hz")
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
                f"sound up to {it.bandwidth / 1000:.1f} kHz, but the training clips have sound up to "
                f"{widest / 1000:.1f} kHz: predictions may be wrong; low-pass the recording to that, or "
                "train on similar clips"
            )
        if not quietest - _LOUDER <= it.level <= loudest + _LOUDER:
            found.append(
                f"a level of {it.level:.0f} dBFS, but the training clips have {quietest:.0f} to "
                f"{loudest:.0f} dBFS: predictions may be wrong; adjust the gain, or train on similar clips"
            )
        return tuple(found)


def _heard(given: Any, path: str | Path) -> dict[str, list[float]]:
    """Return the bandwidth and level of the training clips from a model file; empty if the file has none."""
    if given is None or given == {}:
        return {}
    kinds = [given.get(kind) for kind in ("bandwidth", "level")] if isinstance(given, dict) else [None]
    for values in kinds:
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, float) for v in values):
            raise UserError(f"{path}: about.heard does not have three numbers each; make it with `dvc repro`")
    return {kind: given[kind] for kind in ("bandwidth", "level")}


def _name(recording: object) -> str:
    if isinstance(recording, str | os.PathLike):
        return os.fspath(recording)
    return str(getattr(recording, "name", "recording"))
