"""Programs of `torch.export` with fixed shapes, and what PyTorch computes for their inputs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audionas.deploy.fixed import with_fixed_shapes
from audionas.deploy.targets.front_end import FixedFrontEnd
from audionas.deploy.waveform import Described
from audionas.runtime.errors import UserError
from audionas.runtime.text import line
from audionas.tasks import Task

_FLAT = 1e-4  # range of a clip without sound: dB, or samples


class _Program(nn.Module):
    """A network with its front end. Exported files name the output, and call the input as `forward` does.

    Both forms have the same class name, so that the tensors of the network have the same names in both.

    Args:
        front_end: maps the input to that of the network.
        network: maps features to logits.
        task: its activation gives the probabilities.
    """

    def __init__(self, front_end: nn.Module, network: nn.Module, task: Task):
        super().__init__()
        self.front_end, self.network, self._activation = front_end, network, task.activation

    def _probabilities(self, x: Tensor) -> dict[str, Tensor]:
        return {"probabilities": self._activation(self.network(self.front_end(x)))}


def _of_waveform(self: _Program, waveform: Tensor) -> dict[str, Tensor]:
    return self._probabilities(waveform)


def _of_features(self: _Program, features: Tensor) -> dict[str, Tensor]:
    return self._probabilities(features)


_FORMS = {
    name: type("Program", (_Program,), {"forward": forward})
    for name, forward in (("waveform", _of_waveform), ("features", _of_features))
}


class Source:
    """What to export: a network in PyTorch, with the shapes and the task of its model file.

    Args:
        network: in eval mode.
        about: metadata of its model file.
        input: waveform or features; see `audionas export`.
        where: name of the model in messages.

    Attributes:
        features: input of the network without its front end: `features`, or `waveform` if it has none.
        rate, samples: of a clip; exported files take clips of this length.
        shape: of the input, one clip.

    Raises:
        UserError: the metadata are incomplete, or the network has no features.
    """

    def __init__(
        self, network: nn.Module, about: dict[str, Any], input: str = "waveform", where: object = "model"
    ):
        self.network, self.about, self.input = network, about, input
        self.described = Described.of(about, where)
        features = self.described.features
        if input not in _FORMS or (input == "features" and features is None):
            raise UserError(
                f"{where}: input {input!r}: the input of this network is one of waveform, features"
            )
        self.rate, self.samples = self.described.audio.sample_rate, self.described.audio.clip_samples
        self._frames = features.frames(self.samples) if features else 0
        self.features = "waveform" if features is None else "features"
        self.shape = (1, self._frames, features.mels) if input == "features" else (1, self.samples)
        self._log_mel, self._where = self.described.logmel(), where

    def inputs(self, waveforms: np.ndarray) -> np.ndarray:
        """Return the input of an exported file for waveforms [clips, samples]."""
        if self.input == "waveform":
            return waveforms.astype(np.float32)
        return np.concatenate([self._features(clip).numpy() for clip in waveforms])

    def sound_features(self, clips: np.ndarray | None) -> np.ndarray:
        """Return training clips as inputs of the network without its front end, for the ranges of int8.

        Args:
            clips: waveforms [clips, samples], or log-mel [clips, frames, mels].

        Raises:
            UserError: there are none, they have another shape, or they are silent.
        """
        if clips is None or not len(clips):
            raise UserError(f"{self._where}: int8 needs training clips to calibrate on; give `--calibration`")
        if clips.ndim == 2 and clips.shape[1] == self.samples and self._log_mel is not None:
            clips = np.concatenate([self._features(clip).numpy() for clip in clips])
        shape = self.described.features_of(self._frames or self.samples)[1:]
        if clips.shape[1:] != shape:
            raise UserError(
                f"{self._where}: calibration clips of shape {clips.shape[1:]}, but the network takes "
                f"{shape}; give clips of the length of the training clips"
            )
        if float(np.ptp(clips.astype(np.float32), axis=tuple(range(1, clips.ndim))).max()) < _FLAT:
            raise UserError(
                f"{self._where}: the calibration clips are silent, so the ranges of int8 would be wrong; "
                "give clips with sound"
            )
        return clips.astype(np.float32)

    @torch.inference_mode()
    def probabilities(self, waveforms: np.ndarray) -> np.ndarray:
        """Return the probabilities [clips, classes] that PyTorch computes, with `LogMel`."""
        return np.concatenate([self.probabilities_of(self._features(clip).numpy()) for clip in waveforms])

    @torch.inference_mode()
    def probabilities_of(self, features: np.ndarray) -> np.ndarray:
        """Return the probabilities [clips, classes] that PyTorch computes for inputs of the network."""
        return self.described.task.activation(self.network(torch.from_numpy(features))).numpy()

    @torch.inference_mode()
    def _features(self, clip: np.ndarray) -> Tensor:
        waveform = torch.from_numpy(clip.astype(np.float32))[None]
        return self._log_mel(waveform) if self._log_mel else waveform

    def save(self, path: Path) -> None:
        """Write the program for `torch.export.load`.

        Raises:
            UserError: an operation of the network cannot be exported.
        """
        inside = self._log_mel is not None and self.input == "waveform"
        front_end = FixedFrontEnd(self._log_mel) if inside else nn.Identity()
        try:
            network = with_fixed_shapes(self.network, self._frames) if self._log_mel else self.network
            module = _FORMS[self.input](front_end, network, self.described.task).eval()
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                program = torch.export.export(module, (), {self.input: torch.zeros(self.shape)})
        except (RuntimeError, ValueError) as error:  # torch.export raises many subclasses of both
            why = line((str(error).strip() or type(error).__name__).splitlines()[0])
            raise UserError(f"{self._where}: the network cannot be exported: {why}") from None
        torch.export.save(program, path)
