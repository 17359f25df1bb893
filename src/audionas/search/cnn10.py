"""Search spaces of CNN10 (OFA-AEC, section 2.2 and figure 3): its sub-networks and their costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from audionas.runtime.errors import UserError
from audionas.search.costs.cnn10 import count_multiply_adds, count_parameters, list_layers
from audionas.search.costs.layers import Layer
from audionas.search.space import Costs, FiniteSpace

RATIOS = (0.4, 0.6, 0.8, 1.0)
_CHOICES = {
    "x-x-x": (RATIOS, ((1, 2), (1, 2), (1, 2))),
    "2-x-x": (RATIOS, ((2,), (1, 2), (1, 2))),
    "2-2-x": (RATIOS, ((2,), (2,), (1, 2))),
    "ew": ((0.2, *RATIOS), ((2,), (2,), (2,))),
}
SPACES = tuple(_CHOICES)


@dataclass(frozen=True, order=True)
class Cnn10Subnetwork:
    """A configuration of the elastic blocks 2, 3 and 4.

    Attributes:
        ratios: fraction of the channels of each block that is used, starting with the first.
        depths: number of convolutions in each block, 1 or 2.
    """

    ratios: tuple[float, float, float]
    depths: tuple[int, int, int]

    def __str__(self) -> str:
        return " ".join(f"{ratio:g}x{depth}" for ratio, depth in zip(self.ratios, self.depths, strict=True))


LARGEST = Cnn10Subnetwork((1.0, 1.0, 1.0), (2, 2, 2))


@dataclass(frozen=True)
class Cnn10Architecture:
    """The largest network of a space, a CNN10 that contains all sub-networks.

    Args:
        num_classes: number of classes.
        base_channels: channels of block 1; each later block has twice as many as the previous one.
        mels: mel bins of the input.
        width_rounding: `floor` truncates ratio * channels, `nearest` rounds it; OFA-AEC does not specify it.
    """

    num_classes: int = 527
    base_channels: int = 64
    mels: int = 64
    width_rounding: str = "floor"

    @property
    def hidden(self) -> int:
        """Output width of the first linear layer, which is not elastic."""
        return 8 * self.base_channels

    def widths(self, subnetwork: Cnn10Subnetwork) -> tuple[int, int, int, int]:
        """Return the channels of the four blocks."""
        full = [self.base_channels * 2**i for i in range(4)]
        # Floating-point error must not lower the floor.
        exact = [
            round(ratio * channels, 6) for ratio, channels in zip(subnetwork.ratios, full[1:], strict=True)
        ]
        cut = [max(1, int(c) if self.width_rounding == "floor" else int(c + 0.5)) for c in exact]
        return (full[0], *cut)

    def parameters(self, subnetwork: Cnn10Subnetwork) -> int:
        """Return the number of trainable parameters; 5,219,279 for the CNN10 of OFA-AEC."""
        form = self.widths(subnetwork), (2, *subnetwork.depths)
        return count_parameters(*form, self.hidden, self.num_classes, self.mels)

    def multiply_adds(self, subnetwork: Cnn10Subnetwork, frames: int) -> int:
        """Return the multiply-adds of one clip; 13.02 G for the CNN10 of OFA-AEC and 1001 frames."""
        form = self.widths(subnetwork), (2, *subnetwork.depths)
        return count_multiply_adds(*form, self.hidden, self.num_classes, self.mels, frames)

    def layers(self, subnetwork: Cnn10Subnetwork, frames: int) -> list[Layer]:
        """Return the layers of a sub-network for one clip."""
        form = self.widths(subnetwork), (2, *subnetwork.depths)
        return list_layers(*form, self.hidden, self.num_classes, self.mels, frames)


class Cnn10Space(FiniteSpace[Cnn10Subnetwork]):
    """All sub-networks of one supernet. The order is lexicographic: depths first, then ratios.

    Args:
        name: `x-x-x` (512 configurations), `2-x-x` (256), `2-2-x` (128, the choice of OFA-AEC) or `ew` (125).
        architecture: largest network; the CNN10 of OFA-AEC by default.
        frames: frames per clip, for the multiply-adds; by default 10 s with a hop of 10 ms.

    Raises:
        UserError: there is no space of this name.
    """

    def __init__(self, name: str, architecture: Cnn10Architecture | None = None, frames: int = 1001):
        if name not in _CHOICES:
            raise UserError(f"search space {name!r}: not one of {', '.join(SPACES)}; choose one of them")
        self.architecture = architecture or Cnn10Architecture()
        self.frames = frames
        self.ratios, self.depths = _CHOICES[name]
        super().__init__(
            name,
            (
                Cnn10Subnetwork(ratios, depths)
                for depths in product(*self.depths)
                for ratios in product(self.ratios, repeat=3)
            ),
        )

    def mutate(
        self, configuration: Cnn10Subnetwork, probability: float, generator: np.random.Generator
    ) -> Cnn10Subnetwork:
        """See `SearchSpace`."""

        def drawn(values: Sequence, choices: Sequence[Sequence]) -> tuple:
            changed = generator.random(len(values)) < probability
            return tuple(
                options[generator.integers(len(options))] if change else value
                for value, options, change in zip(values, choices, changed, strict=True)
            )

        ratios = drawn(configuration.ratios, [self.ratios] * len(configuration.ratios))
        return Cnn10Subnetwork(ratios, drawn(configuration.depths, self.depths))

    def cross(
        self, first: Cnn10Subnetwork, second: Cnn10Subnetwork, generator: np.random.Generator
    ) -> Cnn10Subnetwork:
        """See `SearchSpace`."""

        def mixed(a: Sequence, b: Sequence) -> tuple:
            return tuple(np.where(generator.random(len(a)) < 0.5, a, b).tolist())

        return Cnn10Subnetwork(mixed(first.ratios, second.ratios), mixed(first.depths, second.depths))

    def encode(self, configuration: Cnn10Subnetwork) -> np.ndarray:
        """Return ratios, then depths, of blocks 2, 3 and 4: float64 [6]."""
        return np.array([*configuration.ratios, *configuration.depths])

    def describe(self, configuration: Cnn10Subnetwork) -> dict[str, float]:
        """Return the columns r2, r3, r4 (ratios) and d2, d3, d4 (depths)."""
        choices = (*configuration.ratios, *configuration.depths)
        return dict(zip(("r2", "r3", "r4", "d2", "d3", "d4"), choices, strict=True))

    def costs(self, configuration: Cnn10Subnetwork) -> Costs:
        """See `SearchSpace`. The multiply-adds are for one clip of `frames` frames."""
        architecture = self.architecture
        return Costs(
            architecture.parameters(configuration), architecture.multiply_adds(configuration, self.frames)
        )

    def layers(self, configuration: Cnn10Subnetwork) -> list[Layer]:
        """See `SearchSpace`."""
        return self.architecture.layers(configuration, self.frames)

    def setting(self) -> dict[str, Any]:
        """Return the family, the classes, the channels of block 1, the mel bins and the frames."""
        architecture = self.architecture
        return {
            "network": "cnn10",
            "classes": architecture.num_classes,
            "channels": architecture.base_channels,
            "rounding": architecture.width_rounding,
            "mels": architecture.mels,
            "frames": self.frames,
        }
