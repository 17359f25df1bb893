"""What a sub-network is, and what it costs, by arithmetic alone (section 2.2 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

from audionas.config import Config


@dataclass(frozen=True, order=True)
class Subnetwork:
    """A configuration of the three dynamic blocks 2, 3 and 4.

    Attributes:
        ratios: share of each block's channels that is kept, the first ones.
        depths: convolutions kept in each block, 1 or 2.
    """

    ratios: tuple[float, float, float]
    depths: tuple[int, int, int]

    def __str__(self) -> str:
        return " ".join(f"{ratio:g}x{depth}" for ratio, depth in zip(self.ratios, self.depths, strict=True))


LARGEST = Subnetwork((1.0, 1.0, 1.0), (2, 2, 2))


@dataclass(frozen=True)
class Architecture:
    """The full network that sub-networks are cut from: a CNN10 of some width.

    Args:
        num_classes: how many classes.
        base_channels: channels of block 1; every further block doubles them.
        mels: mel bins of the input.
        width_rounding: `floor` keeps int(ratio * channels), `nearest` rounds; the paper does not say.
    """

    num_classes: int = 527
    base_channels: int = 64
    mels: int = 64
    width_rounding: str = "floor"

    @classmethod
    def of(cls, config: Config) -> Architecture:
        """The largest network of an experiment."""
        network = config.network
        return cls(network.num_classes, network.base_channels, config.features.mels, network.width_rounding)

    @property
    def hidden(self) -> int:
        """Width of the first linear layer's output, which is static."""
        return 8 * self.base_channels

    def widths(self, subnetwork: Subnetwork) -> tuple[int, int, int, int]:
        """Channels of the four blocks."""
        full = [self.base_channels * 2**i for i in range(4)]
        # 0.6 * 5 is 3.0000000000000004 or 2.9999999999999996 by luck of the binary fraction
        exact = [
            round(ratio * channels, 6) for ratio, channels in zip(subnetwork.ratios, full[1:], strict=True)
        ]
        cut = [max(1, int(c) if self.width_rounding == "floor" else int(c + 0.5)) for c in exact]
        return (full[0], *cut)

    def place(self, subnetwork: Subnetwork) -> tuple[int, ...]:
        """Width and depth, block after block; sorted by it, sub-networks that begin alike are neighbours."""
        pairs = zip(self.widths(subnetwork)[1:], subnetwork.depths, strict=True)
        return tuple(number for pair in pairs for number in pair)

    def parameters(self, subnetwork: Subnetwork) -> int:
        """Trainable parameters; 5,219,279 for the paper's CNN10."""
        form = self.widths(subnetwork), (2, *subnetwork.depths)
        return count_parameters(*form, self.hidden, self.num_classes, self.mels)

    def multiply_adds(self, subnetwork: Subnetwork, frames: int) -> int:
        """Multiply-adds for one clip; 13.02 G for the paper's CNN10 and 1001 frames."""
        form = self.widths(subnetwork), (2, *subnetwork.depths)
        return count_multiply_adds(*form, self.hidden, self.num_classes, self.mels, frames)


def _conv_weights(widths: tuple[int, ...], depths: tuple[int, ...]) -> list[int]:
    """Weights of each block's convolutions."""
    inputs = (1, *widths[:-1])
    return [9 * a * w + (d == 2) * 9 * w * w for a, w, d in zip(inputs, widths, depths, strict=True)]


def count_parameters(
    widths: tuple[int, ...], depths: tuple[int, ...], hidden: int, num_classes: int, mels: int
) -> int:
    """Trainable parameters of a CNN10 with these block widths and depths."""
    norms = 2 * mels + sum(2 * w * d for w, d in zip(widths, depths, strict=True))
    linear = (widths[-1] + 1) * hidden + (hidden + 1) * num_classes
    return sum(_conv_weights(widths, depths)) + norms + linear


def count_multiply_adds(
    widths: tuple[int, ...], depths: tuple[int, ...], hidden: int, num_classes: int, mels: int, frames: int
) -> int:
    """Multiply-adds of its convolutions and linear layers for one clip of `frames`."""
    convolutions = sum(
        weights * (frames // 2**i) * (mels // 2**i) for i, weights in enumerate(_conv_weights(widths, depths))
    )
    return convolutions + widths[-1] * hidden + hidden * num_classes
