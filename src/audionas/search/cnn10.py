"""Search spaces of CNN10 (section 2.2 and figure 3 of OFA-AEC): its sub-networks and what they cost.

All of it is arithmetic, so nothing here needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from audionas.runtime.errors import UserError
from audionas.search.costs.cnn10 import count_multiply_adds, count_parameters
from audionas.settings.values import Constraint

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
    """A configuration of the three dynamic blocks 2, 3 and 4.

    Attributes:
        ratios: share of each block's channels that is kept, the first ones.
        depths: convolutions kept in each block, 1 or 2.
    """

    ratios: tuple[float, float, float]
    depths: tuple[int, int, int]

    def __str__(self) -> str:
        return " ".join(f"{ratio:g}x{depth}" for ratio, depth in zip(self.ratios, self.depths, strict=True))


LARGEST = Cnn10Subnetwork((1.0, 1.0, 1.0), (2, 2, 2))


@dataclass(frozen=True)
class Cnn10Architecture:
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

    @property
    def hidden(self) -> int:
        """Width of the first linear layer's output, which is static."""
        return 8 * self.base_channels

    def widths(self, subnetwork: Cnn10Subnetwork) -> tuple[int, int, int, int]:
        """Channels of the four blocks."""
        full = [self.base_channels * 2**i for i in range(4)]
        # 0.6 * 5 is 3.0000000000000004 or 2.9999999999999996 by luck of the binary fraction
        exact = [
            round(ratio * channels, 6) for ratio, channels in zip(subnetwork.ratios, full[1:], strict=True)
        ]
        cut = [max(1, int(c) if self.width_rounding == "floor" else int(c + 0.5)) for c in exact]
        return (full[0], *cut)

    def place(self, subnetwork: Cnn10Subnetwork) -> tuple[int, ...]:
        """Width and depth, block after block; sorted by it, sub-networks that begin alike are neighbours."""
        pairs = zip(self.widths(subnetwork)[1:], subnetwork.depths, strict=True)
        return tuple(number for pair in pairs for number in pair)

    def parameters(self, subnetwork: Cnn10Subnetwork) -> int:
        """Trainable parameters; 5,219,279 for the paper's CNN10."""
        form = self.widths(subnetwork), (2, *subnetwork.depths)
        return count_parameters(*form, self.hidden, self.num_classes, self.mels)

    def multiply_adds(self, subnetwork: Cnn10Subnetwork, frames: int) -> int:
        """Multiply-adds for one clip; 13.02 G for the paper's CNN10 and 1001 frames."""
        form = self.widths(subnetwork), (2, *subnetwork.depths)
        return count_multiply_adds(*form, self.hidden, self.num_classes, self.mels, frames)


class Cnn10Space:
    """All sub-networks that one supernet is trained for.

    Args:
        name: `x-x-x` (512 configurations), `2-x-x` (256), `2-2-x` (128, the paper's choice) or `ew` (125).
        architecture: the largest network; the paper's CNN10 by default.

    Raises:
        UserError: no space has this name.
    """

    def __init__(self, name: str, architecture: Cnn10Architecture | None = None):
        if name not in _CHOICES:
            raise UserError(f"search space {name!r}: not one of {', '.join(SPACES)}; choose one of them")
        self.name = name
        self.architecture = architecture or Cnn10Architecture()
        self.ratios, self.depths = _CHOICES[name]

    @cached_property
    def subnetworks(self) -> list[Cnn10Subnetwork]:
        """Every sub-network, depths outermost and widths innermost."""
        return [
            Cnn10Subnetwork(ratios, depths)
            for depths in product(*self.depths)
            for ratios in product(self.ratios, repeat=3)
        ]

    def drawn_order(self) -> list[Cnn10Subnetwork]:
        """Every sub-network, in an order that was drawn once for all: its first n are a fair sample."""
        return [self.subnetworks[i] for i in np.random.default_rng(0).permutation(len(self))]

    @cached_property
    def smallest(self) -> Cnn10Subnetwork:
        """The sub-network of the fewest parameters."""
        return min(self, key=self.parameters)

    def __len__(self) -> int:
        return len(self.subnetworks)

    def __iter__(self) -> Iterator[Cnn10Subnetwork]:
        return iter(self.subnetworks)

    def parameters(self, subnetwork: Cnn10Subnetwork) -> int:
        """Trainable parameters of a sub-network."""
        return self.architecture.parameters(subnetwork)

    def within(self, constraint: Constraint, frames: int) -> list[Cnn10Subnetwork]:
        """The sub-networks at or under a constraint, on parameters too.

        Args:
            frames: of a clip, for the multiply-adds.

        Raises:
            UserError: there is none; names the smallest.
        """

        def over(limit: int | None, cost: int) -> bool:
            return limit is not None and cost > limit

        costs = {s: (self.parameters(s), self.architecture.multiply_adds(s, frames)) for s in self}
        found = [s for s, cost in costs.items() if not any(map(over, constraint, cost))]
        if found:
            return found
        least = [
            f"{limit:,} {unit}, and the smallest has {min(each):,}"
            for limit, unit, each in zip(
                constraint, ("parameters", "multiply-adds"), zip(*costs.values(), strict=True), strict=True
            )
            if limit is not None
        ]
        raise UserError(
            f"no sub-network of space {self.name} has at most {' and at most '.join(least)}; raise the "
            "budget in study.constraints"
        )

    def near(self, constraint: Constraint, tolerance: int, frames: int) -> list[Cnn10Subnetwork]:
        """The sub-networks that meet a constraint.

        On parameters: |parameters - constraint| <= tolerance (section 2.4). On multiply-adds: at most so
        many, as in Once-for-all.

        Args:
            frames: of a clip, for the multiply-adds.

        Raises:
            UserError: there is none; names the nearest sizes below and above.
        """
        of_params, of_macs = constraint
        found = [
            s
            for s in self
            if (of_params is None or abs(self.parameters(s) - of_params) <= tolerance)
            and (of_macs is None or self.architecture.multiply_adds(s, frames) <= of_macs)
        ]
        if found:
            return found
        asked, nearest = [], []
        if of_params is not None:
            asked.append(f"{of_params:,} +- {tolerance:,} parameters")
            sizes = sorted({self.parameters(s) for s in self})
            below = max((s for s in sizes if s < of_params), default=None)
            above = min((s for s in sizes if s > of_params), default=None)
            nearest.append(f"have {' and '.join(f'{size:,}' for size in (below, above) if size)}")
        if of_macs is not None:
            asked.append(f"at most {of_macs:,} multiply-adds")
            sized = [s for s in self if of_params is None or abs(self.parameters(s) - of_params) <= tolerance]
            least = min(self.architecture.multiply_adds(s, frames) for s in sized or self)
            nearest = nearest if not sized else []  # enough of that size: it is the multiply-adds that lack
            nearest.append(f"need {least:,} multiply-adds or more")
        raise UserError(
            f"no sub-network of space {self.name} has {' and '.join(asked)}; the nearest "
            f"{' and '.join(nearest)}: change study.constraints or raise search.tolerance"
        )
