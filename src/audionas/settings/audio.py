"""Sections `audio`, `features` and `augment` of `params.yaml`."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from audionas.settings.values import Count, Positive, Seconds, Section

_LARGEST_CLIP = 100_000_000  # samples, or values of a spectrogram

_LARGEST_TRANSFORM = 1_000_000_000  # values: frames or mels, times window samples

_STEP = math.log(6.4) / 27  # of Slaney's mel scale above 1 kHz; it is linear below


def _mel(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < 1_000 else 15 + math.log(hertz / 1_000) / _STEP


def _htk_mel(hertz: float | np.ndarray) -> float | np.ndarray:
    return 1_127 * np.log(1 + hertz / 700)


class Audio(Section):
    """Waveforms: mono, of one rate and one length."""

    sample_rate: Annotated[int, Field(gt=0, le=768_000)] = 32_000  # Hz
    clip_seconds: Annotated[Seconds, Field(gt=0)] = 10.0
    min_seconds: Seconds = 0.1  # shorter recordings are skipped

    @property
    def clip_samples(self) -> int:
        """Number of samples of a clip."""
        return round(self.sample_rate * self.clip_seconds)


class Features(Section):
    """The log-mel front end; defaults are PANNs' (Kong et al., 2020).

    `front_end: ced` computes what sherpa-onnx does for its audio tagging; see `audionas.audio.logmel`.
    Settings in files lack the key if it is `panns`, so that files from before it stay valid.
    """

    n_fft: Annotated[int, Field(gt=0, le=1 << 20)] = 1024  # samples; the window is as long
    hop: Positive = 320  # samples
    mels: Annotated[int, Field(gt=0, le=4_096)] = 64
    fmin: Annotated[float, Field(ge=0)] = 50.0  # Hz
    fmax: Annotated[float, Field(gt=0)] = 14_000.0  # Hz
    front_end: Literal["panns", "ced"] = "panns"

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        return {"front_end": "panns", **values} if isinstance(values, dict) else values

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = handler(self)
        return {key: value for key, value in values.items() if (key, value) != ("front_end", "panns")}

    def frames(self, samples: int) -> int:
        """Return the number of frames of a clip: PANNs centres them on hops, CED between hops."""
        if self.front_end == "ced":
            return (samples + self.hop // 2) // self.hop
        return 1 + samples // self.hop

    def empty_filters(self, sample_rate: int) -> int:
        """Return the number of mel filters without a frequency bin, as in `LogMel` but without PyTorch."""
        if self.front_end == "ced":
            bins = np.arange(self.n_fft // 2, dtype=np.float32) * np.float32(sample_rate / self.n_fft)
            ends = np.linspace(_htk_mel(self.fmin), _htk_mel(self.fmax), self.mels + 2, dtype=np.float32)
            return _without_bins(_htk_mel(bins), ends)
        bins = np.linspace(0, sample_rate // 2, self.n_fft // 2 + 1, dtype=np.float32)
        ends = np.linspace(_mel(self.fmin), _mel(self.fmax), self.mels + 2, dtype=np.float32)
        rising = 1_000 * np.exp((ends - 15) * np.float32(_STEP))
        ends = np.where(ends < 15, ends * np.float32(200 / 3), rising)
        return _without_bins(bins, ends)


def _without_bins(bins: np.ndarray, ends: np.ndarray) -> int:
    """Return the number of triangles between every third of the sorted `ends` that hold none of the bins."""
    first = np.searchsorted(bins, ends[:-2], side="right")
    after = np.searchsorted(bins, ends[2:], side="left")
    return int((after <= first).sum())


def check_front_end(audio: Audio, features: Features) -> None:
    """Raise ValueError if clips and log-mel transform do not fit each other or exceed memory."""
    nyquist = audio.sample_rate / 2
    if features.fmax > nyquist or features.fmin >= features.fmax:
        raise ValueError(
            f"features.fmin {features.fmin:g} must be below features.fmax {features.fmax:g}, and that at "
            f"most {nyquist:g} Hz, half of audio.sample_rate; change them"
        )
    if features.front_end == "ced" and (
        features.n_fft & (features.n_fft - 1) or features.hop > features.n_fft
    ):
        raise ValueError(
            f"features.front_end ced needs features.n_fft {features.n_fft} to be a power of two, and "
            f"features.hop {features.hop} at most that; change them"
        )
    samples, frames = audio.clip_samples, features.frames(audio.clip_samples)
    if max(samples, frames * features.mels) > _LARGEST_CLIP:
        raise ValueError(
            f"a clip of {samples:,} samples and {frames:,} frames x {features.mels:,} mels is too large; "
            "lower audio.clip_seconds, or raise features.hop"
        )
    if features.n_fft // 2 >= samples:
        raise ValueError(
            f"features.n_fft {features.n_fft} does not fit into a clip of {samples} samples; lower it, or "
            "raise audio.clip_seconds"
        )
    if max(frames, features.mels) * features.n_fft > _LARGEST_TRANSFORM:
        raise ValueError(
            f"a transform of {features.n_fft:,} samples for each of {frames:,} frames and "
            f"{features.mels:,} mels is too large; lower features.n_fft, or raise features.hop"
        )
    if empty := features.empty_filters(audio.sample_rate):
        raise ValueError(
            f"features.mels: {empty} of {features.mels} mel filters hold no frequency bin of a transform of "
            f"{features.n_fft} samples; lower features.mels or raise features.n_fft"
        )


class Augment(Section):
    """SpecAugment: masks of each clip, filled with 0 after bn0; the paper gives 2 and 2, not the widths."""

    time_masks: Annotated[int, Field(ge=0, le=1_000)] = 2
    time_mask_frames: Count = 64
    mel_masks: Annotated[int, Field(ge=0, le=1_000)] = 2
    mel_mask_bins: Count = 8
