"""Layers that run with their first channels only (section 2.2; Once-for-all, Cai et al., 2020).

Each is the plain `nn` layer with another `forward`, so that state-dict keys and shapes stay CNN10's.
The number of input channels is read from the input; only a convolution is told how many to put out.
BatchNorm does so in every network (`audionas.models.normalisation`).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from audionas.models.convolution import conv3x3


class DynamicConv2d(nn.Conv2d):
    """Maps [batch, a, time, mel] to [batch, out_channels, time, mel] with the first filters and channels."""

    def forward(self, x: Tensor, out_channels: int) -> Tensor:
        """See the class."""
        weight = self.weight[:out_channels, : x.shape[1]]
        return conv3x3(x, weight)


class DynamicLinear(nn.Linear):
    """Maps [batch, a] to [batch, out_features] with the first `a` input features."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.linear(x, self.weight[:, : x.shape[1]], self.bias)
