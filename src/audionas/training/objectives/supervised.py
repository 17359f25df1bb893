"""Supervised training with labels."""

from __future__ import annotations

from torch import Tensor

from audionas.training.feed import Batch
from audionas.training.objectives.base import Objective


class Supervised(Objective):
    """The loss of the task with labels as target: binary cross-entropy or cross-entropy."""

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See `Objective`."""
        return self.task.loss(self.forward(batch.x, batch.keep), batch.y)
