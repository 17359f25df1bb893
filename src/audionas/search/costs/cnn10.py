"""Parameters and multiply-adds of a CNN10, computed without building the network."""

from __future__ import annotations


def _conv_weights(widths: tuple[int, ...], depths: tuple[int, ...]) -> list[int]:
    """Number of convolution weights of each block."""
    inputs = (1, *widths[:-1])
    return [9 * a * w + (d == 2) * 9 * w * w for a, w, d in zip(inputs, widths, depths, strict=True)]


def count_parameters(
    widths: tuple[int, ...], depths: tuple[int, ...], hidden: int, num_classes: int, mels: int
) -> int:
    """Return the number of trainable parameters of a CNN10 with these block widths and depths."""
    norms = 2 * mels + sum(2 * w * d for w, d in zip(widths, depths, strict=True))
    linear = (widths[-1] + 1) * hidden + (hidden + 1) * num_classes
    return sum(_conv_weights(widths, depths)) + norms + linear


def count_multiply_adds(
    widths: tuple[int, ...], depths: tuple[int, ...], hidden: int, num_classes: int, mels: int, frames: int
) -> int:
    """Return the multiply-adds of the convolutions and linear layers for one clip of `frames` frames."""
    convolutions = sum(
        weights * (frames // 2**i) * (mels // 2**i) for i, weights in enumerate(_conv_weights(widths, depths))
    )
    return convolutions + widths[-1] * hidden + hidden * num_classes
