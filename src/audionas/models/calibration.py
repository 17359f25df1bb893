"""BatchNorm statistics estimated anew, as slimmable networks and once-for-all need before any score.

Dropout is off and the clips are not augmented: the statistics are to be those of evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from audionas.models.cnn10 import Cnn10


@torch.no_grad()
def calibrate(network: Cnn10, batches: Iterable[Tensor]) -> None:
    """Reset a network's running statistics and average them over batches [batch, frames, mels]."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
        norm.train()
    for x in batches:
        network(x)
    for norm in norms:
        norm.momentum = 0.1
    network.eval()
