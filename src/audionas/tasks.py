"""Tasks: the loss, the output activation and the metric for a kind of label.

To add a task, write a class here. Objectives, prediction and validation use its methods.
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
    """The interface of a task.

    Attributes:
        name: as model files record it.
        metric_name: name of the metric in curves and model files, as in `valid_mAP`.
    """

    name: str
    metric_name: str

    def check(self, labels: np.ndarray, path: Path) -> None:
        """Raise UserError if the labels [clips, classes] of the store `path` do not fit the task."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits [batch, classes] as a scalar.

        Args:
            logits: outputs of the network [batch, classes].
            target: probabilities [batch, classes]: labels, mixed labels or a teacher's outputs. The loss is
                linear in the target.
        """

    def activation(self, logits: Tensor) -> Tensor:
        """Return the probabilities [batch, classes] of logits [batch, classes]."""

    def metric(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """Return the metric of labels and probabilities [clips, classes]. Larger is better.

        Raises:
            ValueError: the shapes differ, or a probability is not finite.
        """

    def measured(self, labels: np.ndarray) -> np.ndarray:
        """Return which classes affect the metric, bool [classes], for labels [clips, classes]."""


class MultiLabel:
    """Any number of classes per clip: binary cross-entropy, sigmoid, mean average precision.

    This is the usual task of audio tagging (PANNs, Kong et al., 2020; AudioSet, Gemmeke et al., 2017).
    """

    name = "multi-label"
    metric_name = "mAP"

    def check(self, labels: np.ndarray, path: Path) -> None:
        """Accept any labels."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy, averaged over clips and classes; see `Task`."""
        return F.binary_cross_entropy_with_logits(logits, target)

    def activation(self, logits: Tensor) -> Tensor:
        """Sigmoid of each logit."""
        return torch.sigmoid(logits)

    def metric(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """Mean average precision over the measurable classes; NaN if there is none."""
        return mean_average_precision(labels, probabilities)

    def measured(self, labels: np.ndarray) -> np.ndarray:
        """Classes with both a positive and a negative clip."""
        return measurable(labels)


class SingleLabel:
    """Exactly one class per clip: cross-entropy, softmax, accuracy.

    This is the usual task of acoustic scene classification (DCASE task 1, Mesaros et al., 2018) and keyword
    spotting (Speech Commands, Warden, 2018).
    """

    name = "single-label"
    metric_name = "accuracy"

    def check(self, labels: np.ndarray, path: Path) -> None:
        """Raise UserError if a clip does not have exactly one label."""
        counts = np.count_nonzero(labels, axis=1)
        if wrong := np.flatnonzero(counts != 1).tolist():
            raise UserError(
                f"{path}: row {wrong[0]} has {counts[wrong[0]]} labels, but this task needs exactly one; "
                "give each clip one label in the lists that params.yaml names, or use a multi-label system"
            )

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, averaged over clips; see `Task`."""
        return F.cross_entropy(logits, target)

    def activation(self, logits: Tensor) -> Tensor:
        """Softmax over the classes."""
        return torch.softmax(logits, dim=1)

    def metric(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """Return the fraction of clips whose label has the largest probability.

        Raises:
            ValueError: the shapes differ, a probability is not finite, or a clip does not have exactly one
                label.
        """
        return accuracy(labels, probabilities)

    def measured(self, labels: np.ndarray) -> np.ndarray:
        """Classes with at least one clip."""
        return np.asarray(labels).any(axis=0)


MULTI_LABEL = MultiLabel()
TASKS: dict[str, Task] = {task.name: task for task in (MULTI_LABEL, SingleLabel())}
