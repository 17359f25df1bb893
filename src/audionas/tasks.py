"""What the labels of a clip mean: the loss, the output activation and the metric of each kind of task.

To add a task, write a class here; objectives, prediction and validation take what they need from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audionas.evaluation.metrics import accuracy, mean_average_precision, measurable
from audionas.runtime.errors import UserError


class Task(Protocol):
    """The loss, the output activation and the metric of a kind of label.

    Attributes:
        metric_name: name of the metric in curves and model files, as in `valid_mAP`.
    """

    metric_name: str

    def check(self, labels: np.ndarray, path: Path) -> None:
        """Raise UserError, naming the store, where its labels [clips, classes] are not of this kind."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean loss (scalar) of logits [batch, classes].

        Args:
            target: probabilities [batch, classes]: labels, mixed labels, or a teacher's outputs. The loss
                is linear in them.
        """

    def activation(self, logits: Tensor) -> Tensor:
        """Probabilities [batch, classes] of logits [batch, classes]."""

    def metric(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """The metric, larger is better, of labels and probabilities [clips, classes].

        Raises ValueError: shapes that differ, or probabilities that are not finite.
        """

    def measured(self, labels: np.ndarray) -> np.ndarray:
        """Which classes bear on the metric under these labels [clips, classes]: bool [classes]."""


class MultiLabel:
    """Any number of classes on a clip: binary cross-entropy, sigmoid, mean average precision.

    The usual recipe of audio tagging (PANNs, Kong et al., 2020; AudioSet, Gemmeke et al., 2017).
    """

    metric_name = "mAP"

    def check(self, labels: np.ndarray, path: Path) -> None:
        """Any labels will do."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over clips and classes; see `Task`."""
        return F.binary_cross_entropy_with_logits(logits, target)

    def activation(self, logits: Tensor) -> Tensor:
        """A sigmoid for each class."""
        return torch.sigmoid(logits)

    def metric(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """Mean average precision over the measurable classes; NaN where none is."""
        return mean_average_precision(labels, probabilities)

    def measured(self, labels: np.ndarray) -> np.ndarray:
        """Classes with a positive and a negative clip."""
        return measurable(labels)


class SingleLabel:
    """Exactly one class on a clip: cross-entropy, softmax, accuracy.

    The usual recipe of acoustic scenes (DCASE task 1, Mesaros et al., 2018) and of keyword spotting (Speech
    Commands, Warden, 2018).
    """

    metric_name = "accuracy"

    def check(self, labels: np.ndarray, path: Path) -> None:
        """Raises UserError for a clip that does not have exactly one label."""
        counts = np.count_nonzero(labels, axis=1)
        if wrong := np.flatnonzero(counts != 1).tolist():
            raise UserError(
                f"{path}: row {wrong[0]} has {counts[wrong[0]]} labels, and this task needs exactly one; "
                "give each clip one label in the lists that params.yaml names, or use a multi-label system"
            )

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, the mean over clips; see `Task`."""
        return F.cross_entropy(logits, target)

    def activation(self, logits: Tensor) -> Tensor:
        """A softmax over classes."""
        return torch.softmax(logits, dim=1)

    def metric(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """The share of clips whose largest probability is that of their class.

        Raises ValueError also for a clip that does not have exactly one label.
        """
        return accuracy(labels, probabilities)

    def measured(self, labels: np.ndarray) -> np.ndarray:
        """Classes with a clip."""
        return np.asarray(labels).any(axis=0)
