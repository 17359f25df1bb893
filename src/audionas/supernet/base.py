"""What a supernet offers to calibration, scoring and training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple

from torch import Tensor, nn

from audionas.search.space import Configuration
from audionas.supernet.statistics import NormStatistics


class SortableLayer(NamedTuple):
    """An elastic convolution whose output channels can be put in another order, by the names of modules.

    Attributes:
        layer: the convolution.
        norm: the BatchNorm that follows it.
        reader: the layer that takes its channels as inputs in the largest sub-network.
    """

    layer: str
    norm: str
    reader: str


class Supernet(nn.Module, Generic[Configuration]):
    """A network whose weights hold those of every sub-network of a search space.

    Attributes:
        sortable: elastic convolutions in the order in which the largest sub-network runs them.
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
        """Sub-networks with their logits [batch, classes] for x, in any order; one given twice comes twice.

        Args:
            x: input [batch, ...].
            keep: mask of x, False where the input is dropped.
            statistics: BatchNorm statistics to collect or to use in place of the layers' own; no gradients.
        """
        raise NotImplementedError

    def prefix(self, subnetwork: Configuration) -> tuple[int, ...]:
        """Sort key: sub-networks that share their first layers are neighbours."""
        raise NotImplementedError
