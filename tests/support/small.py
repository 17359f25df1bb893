"""A small CNN10 supernet and a batch for it."""

import torch
from torch import Tensor, nn

from audionas.search.cnn10 import Cnn10Architecture
from audionas.supernet.cnn10 import Cnn10Supernet

SMALL = Cnn10Architecture(num_classes=5, base_channels=8, mels=32)


def randomise(network: nn.Module) -> None:
    """Set distinct values in norm layers, so that a wrong slice is detected."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)


def small_supernet() -> Cnn10Supernet:
    """Return the supernet in eval mode, with distinct values in its norm layers."""
    torch.manual_seed(0)
    network = Cnn10Supernet(SMALL)
    randomise(network)
    return network.eval()


def small_batch() -> Tensor:
    """Return log-mel in dB [3, 40, 32]."""
    return torch.randn(3, 40, 32, generator=torch.Generator().manual_seed(1)) * 10 - 30
