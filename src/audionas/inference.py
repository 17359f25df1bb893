"""A network put to use: what is heard in a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from audionas.audio.decode import decode
from audionas.audio.logmel import LogMel
from audionas.audio.reading import DecodeError
from audionas.errors import UserError
from audionas.models.modelfile import load_model


class Classifier:
    """A model file with the front end that it was trained behind; all it needs is in the file.

    Attributes:
        classes: what it tells apart, AudioSet's ids or a folder's labels.

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
        self._rate, self._samples = audio["sample_rate"], round(audio["sample_rate"] * audio["clip_seconds"])
        self._min_seconds = audio["min_seconds"]
        try:
            self._front_end = LogMel(sample_rate=self._rate, **features)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @torch.inference_mode()
    def __call__(self, recording: str | Path) -> np.ndarray:
        """The probability of each class, float32 [classes], in the first `clip_seconds` of an audio file.

        Raises:
            UserError: the file is not there, or can't be decoded.
        """
        try:
            data = Path(recording).read_bytes()
            clip = decode(data, self._rate, self._samples, self._min_seconds)
        except (OSError, DecodeError) as error:
            raise UserError(f"{recording}: {getattr(error, 'strerror', None) or error}") from None
        spectrogram = self._front_end(torch.from_numpy(clip.waveform)[None])
        return self.network(spectrogram)[0].sigmoid().numpy()
