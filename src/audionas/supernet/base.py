"""The supernet interface that calibration, scoring and training use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple

from torch import Tensor, nn

from audionas.search.space import Configuration, FiniteSpace
from audionas.supernet.statistics import NormStatistics


class SortableLayer(NamedTuple):
    """An elastic convolution whose output channels can be permuted. All attributes are module names.

    Attributes:
        layer: the convolution.
        norm: the BatchNorm after it.
        reader: the layer that takes its output channels as input in the largest sub-network.
    """

    layer: str
    norm: str
    reader: str


class Supernet(nn.Module, Generic[Configuration]):
    """A network that shares its weights with every sub-network of a search space.

    Attributes:
        sortable: elastic convolutions, in the order of the forward pass of the largest sub-network.
    """

    sortable: tuple[SortableLayer, ...] = ()

    def outputs(
        self,
        x: Tensor,
        subnetworks: Iterable[Configuration],
        *,
        keep: Tensor | None = None,
        statistics: NormStatistics | None = None,
    ) -> Iterator[tuple[Configuration, Tensor]]:
        """Yield each sub-network with its logits [batch, classes], in any order. Duplicates are kept.

        Args:
            x: input [batch, ...].
            subnetworks: sub-networks to run.
            keep: mask of x, False where the input is dropped.
            statistics: BatchNorm statistics to collect, or to use instead of the layers' running statistics;
                only without gradients.
        """
        raise NotImplementedError

    def prefix(self, subnetwork: Configuration) -> tuple[int, ...]:
        """Return a sort key that puts sub-networks with common first layers next to each other."""
        raise NotImplementedError

    def space(self, name: str, frames: int) -> FiniteSpace[Configuration]:
        """Return a search space of this supernet, with the costs for inputs of `frames` frames.

        Raises:
            UserError: there is no space of this name.
        """
        raise NotImplementedError

    def extracted(self, subnetwork: Configuration, statistics: NormStatistics | None = None) -> nn.Module:
        """Return a sub-network with copied weights and its BatchNorm statistics.

        Without statistics it has the running statistics of the supernet, which suffices to measure time.

        Raises:
            KeyError, RuntimeError: the statistics of a layer are missing, or have too few channels.
        """
        raise NotImplementedError
