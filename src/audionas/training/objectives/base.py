"""The interface between the training loop and its objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from audionas.tasks import Task
from audionas.training.feed import Batch


class Objective:
    """Maps a `Batch` and the iteration to a scalar loss.

    Attributes:
        network: network to train; maps x and keep (or None) of a batch to logits [batch, classes].
        task: gives the loss and the output activation.
        forward: the network, or its compiled form, that a step calls.
        allows_mixup: whether the batches may use mixup.
    """

    allows_mixup = True

    def __init__(self, network: nn.Module, task: Task):
        self.network, self.task = network, task
        self.forward: Callable[..., Tensor] = network

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """Return the mean loss of a batch as a scalar tensor."""
        raise NotImplementedError

    def compile(self) -> None:
        """Compile the forward pass of a training step with static shapes, as one graph per network.

        Validation is not compiled, because its batches have other sizes.
        """
        self.forward = compiled(self.network)

    def begin(self, iteration: int, companions: Iterable[tuple[str, Tensor]]) -> None:
        """Hook that runs before each iteration. It may permute weights, and must permute companions equally.

        Args:
            iteration: iteration that starts, from 0.
            companions: parameter names with tensors of the same shape, such as optimiser moments.
        """


def compiled(network: nn.Module) -> Callable[..., Tensor]:
    """Compile a network as one static graph. A graph break is an error, so that no step is silently slow."""
    return torch.compile(network, fullgraph=True, dynamic=False)
