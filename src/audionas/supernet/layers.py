"""Elastic layers, which use only their first channels (Once-for-all, Cai et al., 2020).

Each class is an `nn` layer with a different `forward`, so state-dict keys and shapes do not change. The input
gives the number of input channels; the caller of a convolution gives the number of output channels.
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
        """Apply the layer; see the class for shapes."""
        weight = self.weight[:out_channels, : x.shape[1]]
        return conv3x3(x, weight)

    def widening(self, x: Tensor, widths: Sequence[int]) -> Iterator[Tensor]:
        """Yield `self(x[:, :w], w)` for each of the increasing `widths`. Common terms are computed once.

        A convolution is a sum over input channels, so each width only adds the terms of its additional
        channels. All widths together cost as much as the widest. Use it without gradients: each width adds
        in place to the tensor of the previous width.
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
        """Apply the layer; see the class for shapes."""
        return F.linear(x, self.weight[:, : x.shape[1]], self.bias)
