"""Parameters, multiply-adds and layers of a CNN10, computed without building the network."""

from __future__ import annotations

from audionas.search.costs.layers import Layer


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


def list_layers(
    widths: tuple[int, ...], depths: tuple[int, ...], hidden: int, num_classes: int, mels: int, frames: int
) -> list[Layer]:
    """Return the layers for one clip of `frames` frames. BatchNorm is folded into the convolutions.

    bn0 normalises the input in place; the padding after it prevents folding.
    """
    layers, inputs, time, bins = [Layer("input.bn0", frames * mels, 0, biases=2 * mels)], 1, frames, mels
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        places = time * bins
        for number in range(1, depth + 1):
            weights = 9 * inputs * width
            shape = inputs * places, width * places, weights, width, weights * places
            layers.append(Layer(f"block{i}.conv{number}", *shape))
            inputs = width
        time, bins = time // 2, bins // 2
        layers.append(Layer(f"block{i}.pool", width * places, width * time * bins))
    layers.append(Layer("head.mean", inputs * time * bins, inputs * time))
    layers.append(Layer("head.pool", inputs * time, inputs))
    for name, a, b in (("fc1", inputs, hidden), ("fc2", hidden, num_classes)):
        layers.append(Layer(f"head.{name}", a, b, a * b, b, a * b))
    return layers
