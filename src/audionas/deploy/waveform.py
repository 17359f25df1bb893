"""A network with its front end and activation as one module, and the inputs it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audionas.audio.logmel import LogMel
from audionas.deploy.front_end import FrontEnd
from audionas.runtime.errors import UserError
from audionas.settings.audio import Audio, Features
from audionas.tasks import MULTI_LABEL, TASKS, Task

_LONGEST = 1 << 20  # frames or samples up to which the shortest input is searched


class Probabilities(nn.Module):
    """Map waveforms [batch, samples], or features, to probabilities [batch, classes].

    Args:
        network: maps the output of `front_end` to logits [batch, classes].
        task: its activation gives the probabilities.
        front_end: maps waveforms to features; by default the input is that of the network.
    """

    def __init__(self, network: nn.Module, task: Task, front_end: nn.Module | None = None):
        super().__init__()
        self.front_end = front_end or nn.Identity()
        self.network, self.activation = network, task.activation

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.activation(self.network(self.front_end(x)))


@dataclass(frozen=True)
class Described:
    """What the metadata of a model file state about its network.

    Attributes:
        classes: ids.
        task: gives the activation.
        audio: rate and length of the training clips.
        features: settings of the log-mel, or None for a network of waveforms.
    """

    classes: list[str]
    task: Task
    audio: Audio
    features: Features | None

    @classmethod
    def of(cls, about: dict[str, Any], where: object) -> Described:
        """Read the metadata of a model file.

        Args:
            about: the metadata.
            where: the file, for the message.

        Raises:
            UserError: classes or settings are missing, or the task is unknown.
        """
        try:
            settings = about["settings"]
            features = Features(**settings["features"]) if settings.get("features") else None
            task = TASKS[about.get("task", MULTI_LABEL.name)]
            return cls(list(about["classes"]), task, Audio(**settings["audio"]), features)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(
                f"{where}: settings, classes or task are missing or unknown; make it with `dvc repro`"
            ) from None

    def logmel(self) -> LogMel | None:
        """Return the front end, or None for a network of waveforms."""
        if self.features is None:
            return None
        return LogMel(sample_rate=self.audio.sample_rate, **self.features.model_dump())

    def front_end(self, compact: bool = False) -> FrontEnd | None:
        """Return the front end as matrix products, or None for a network of waveforms."""
        logmel = self.logmel()
        return None if logmel is None else FrontEnd(logmel, compact)

    def features_of(self, length: int, batch: int = 1) -> tuple[int, ...]:
        """Return the shape of an input of the network: `length` frames or samples."""
        return (batch, length) if self.features is None else (batch, length, self.features.mels)

    def samples_of(self, length: int) -> int:
        """Return the fewest samples that give `length` inputs of the network (frames, or samples)."""
        if self.features is None:
            return length
        n_fft, hop = self.features.n_fft, self.features.hop
        fewest = (
            length * hop - hop // 2 if self.features.front_end == "ced" else (length - 1) * hop + n_fft % 2
        )
        return max(fewest, n_fft // 2 + 1)


@torch.inference_mode()
def shortest_input(network: nn.Module, described: Described) -> int:
    """Return the fewest frames, or samples of a network of waveforms, that a network maps to finite logits.

    Pooling halves the length several times; an input that becomes empty is an error.

    Raises:
        UserError: the network refuses inputs of any length.
    """

    def fits(length: int) -> bool:
        try:
            return bool(network(torch.zeros(described.features_of(length))).isfinite().all())
        except (RuntimeError, IndexError, ValueError):
            return False

    high = 1
    while not fits(high):
        high *= 2
        if high > _LONGEST:
            raise UserError("the network refuses inputs of any length; see its `forward`")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
