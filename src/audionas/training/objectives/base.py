"""The interface between the training loop and what it minimises."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from audionas.tasks import Task
from audionas.training.feed import Batch


class Objective:
    """Maps a `Batch` and the iteration to a scalar loss.

    Attributes:
        network: what is trained; maps a batch's x, and keep or None, to logits [batch, classes].
        task: its labels; gives the loss and the output activation.
        forward: the network, or its compiled form, as a step calls it.
        allows_mixup: whether batches may be mixed.
    """

    allows_mixup = True

    def __init__(self, network: nn.Module, task: Task):
        self.network, self.task = network, task
        self.forward: Callable[..., Tensor] = network

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See the class."""
        raise NotImplementedError

    def compile(self) -> None:
        """Compile what a step runs in one static form: one graph a network, whose shapes never change.

        Validation, whose batches are of other sizes, runs uncompiled.
        """
        self.forward = compiled(self.network)

    def begin(self, iteration: int, companions: Iterable[tuple[str, Tensor]]) -> None:
        """Called before the batch of every iteration; may rearrange the network, and its companions alike.

        Args:
            companions: names of parameters, and tensors that belong to them element by element.
        """


def compiled(network: nn.Module) -> Callable[..., Tensor]:
    """The network by torch.compile, in one graph: what cannot be compiled is an error, not a slow step."""
    return torch.compile(network, fullgraph=True, dynamic=False)
