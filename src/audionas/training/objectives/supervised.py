"""Training on the labels alone."""

from __future__ import annotations

from torch import Tensor

from audionas.training.feed import Batch
from audionas.training.objectives.base import Objective


class Supervised(Objective):
    """The task's loss with the labels: binary cross-entropy for several labels, cross-entropy for one."""

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See `Objective`."""
        return self.task.loss(self.forward(batch.x, batch.keep), batch.y)
