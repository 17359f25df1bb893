"""Elastic layers, which compute with their first channels only (Once-for-all, Cai et al., 2020).

Each is a plain `nn` layer with another `forward`, so that state-dict keys and shapes stay those of the layer.
The number of input channels is read from the input; a convolution is told its number of output channels.
BatchNorm is elastic in every network (`audionas.models.layers.normalisation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from audionas.models.layers.convolution import conv3x3


class DynamicConv2d(nn.Conv2d):
    """Maps [batch, a, time, mel] to [batch, out_channels, time, mel] with the first filters and channels."""

    def forward(self, x: Tensor, out_channels: int) -> Tensor:
        """See the class."""
        weight = self.weight[:out_channels, : x.shape[1]]
        return conv3x3(x, weight)

    def widening(self, x: Tensor, widths: Sequence[int]) -> Iterator[Tensor]:
        """`self(x[:, :w], w)` for each of the rising `widths`, the common terms computed once.

        A convolution is a sum over input channels, so each width only adds the terms of its further channels:
        together they cost as much as the widest. For use without gradients: a later width adds in place to
        the tensor of the width before.
        """
        start, total = 0, None
        for width in widths:
            added = conv3x3(x[:, start:width], self.weight[: widths[-1], start:width])
            total = added if total is None else total.add_(added)
            yield total[:, :width]
            start = width


class DynamicLinear(nn.Linear):
    """Maps [batch, a] to [batch, out_features] with the first `a` input features."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.linear(x, self.weight[:, : x.shape[1]], self.bias)
