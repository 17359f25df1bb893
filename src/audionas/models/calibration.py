"""Recalibration of BatchNorm statistics, which sub-networks of a supernet need before evaluation.

Dropout is off and clips are not augmented, so that the statistics match evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def calibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Reset the running statistics of a network, and average them over batches.

    Args:
        network: the network; it is in eval mode afterwards.
        batches: inputs of the network, such as log-mel in dB [batch, frames, mels].
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    for x in batches:
        network(x)
    for norm in norms:
        norm.momentum = 0.1
    network.eval()
