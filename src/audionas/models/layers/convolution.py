"""3x3 convolutions in the fastest memory layout.

Channels-last is fastest for networks whose widths fill whole vectors, channels-first for others. The weight
gradient of wide layers in oneDNN is an exception: it takes up to three times as long in channels-last.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_VECTOR = 8  # float32 of AVX2
_WIDE = 64  # least channels in and out for which copying both tensors pays off (AVX2, two cores)


def in_fastest_layout(x: Tensor, channels: int) -> Tensor:
    """Return [batch, 1, time, mel] with strides that select the layout of the following convolutions.

    `contiguous(memory_format=torch.channels_last)` does not change a tensor of one channel, because any
    stride of that axis is valid. Convolutions would then use channels-first, which follows from the strides.

    Args:
        x: the input [batch, 1, time, mel].
        channels: channels of block 1. With 16 or 64 channels, a step is 1.2 to 1.4 times as fast in
            channels-last (AVX2, two cores). With 12 channels, which do not fill vectors, it is slower.
    """
    if channels % _VECTOR:
        return x.contiguous()
    return x.squeeze(1).contiguous().unsqueeze(3).permute(0, 3, 1, 2)


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve [batch, in_channels, time, mel] to [batch, out_channels, time, mel], padding 1, no bias."""
    wide = x.device.type == "cpu" and min(weight.shape[:2]) >= _WIDE
    if wide and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
        return _WideConvolution.apply(x, weight)
    return F.conv2d(x, weight, padding=1)


class _WideConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight = ctx.needs_input_grad
        of_x, of_weight = None, None
        if for_x:
            of_x, _, _ = _backward(gradient, x, weight, [True, False, False])
        if for_weight:
            _, of_weight, _ = _backward(gradient.contiguous(), x.contiguous(), weight, [False, True, False])
        return of_x, of_weight


def _backward(gradient: Tensor, x: Tensor, weight: Tensor, mask: list[bool]):
    # torch.nn.grad.conv2d_input and conv2d_weight compute the same but lose the layout of x.
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
    )
