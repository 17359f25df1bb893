"""BatchNorm calibration of all sub-networks in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from audionas.search.space import Configuration
from audionas.supernet.base import Supernet
from audionas.supernet.statistics import NormStatistics


@torch.no_grad()
def calibrate_all(
    supernet: Supernet[Configuration], subnetworks: Sequence[Configuration], batches: Iterable[Tensor]
) -> NormStatistics:
    """Estimate the BatchNorm statistics of every sub-network over batches [batch, ...].

    Sub-networks with common first layers share statistics. The weights and the running statistics of the
    layers do not change.
    """
    statistics = NormStatistics()
    supernet.eval()
    for x in batches:
        for _ in supernet.outputs(x, subnetworks, statistics=statistics):
            pass
    statistics.collecting = False
    return statistics
