"""3x3 convolutions in the memory layout in which they are computed fastest.

That is channels-last for networks whose widths are whole vectors, and else channels-first. One exception:
oneDNN's weight gradient of wide layers takes up to three times as long channels-last.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_VECTOR = 8  # float32 of AVX2
_WIDE = 64  # channels in and out, from which copying both tensors costs less than it saves (AVX2, two cores)


def in_fastest_layout(x: Tensor, channels: int) -> Tensor:
    """[batch, 1, time, mel] with the strides that the convolutions after it go by.

    `contiguous(memory_format=torch.channels_last)` leaves a tensor of one channel as it is, since any stride
    of that axis will do; convolutions look at the strides and go on channels-first, whatever comes later.

    Args:
        channels: of block 1. A step of 16 or 64 is 1.2 to 1.4 times as fast channels-last, one of 12 is
            slower (AVX2, two cores): there each place's channels do not fill vectors.
    """
    if channels % _VECTOR:
        return x.contiguous()
    return x.squeeze(1).contiguous().unsqueeze(3).permute(0, 3, 1, 2)


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """[batch, in_channels, time, mel] to [batch, out_channels, time, mel], padded by one, without a bias."""
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
    # As torch.nn.grad.conv2d_input and conv2d_weight, which lose x's layout.
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
    )
