"""The search spaces of the paper (section 2.2 and figure 3) and what fits a budget."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import product

import numpy as np

from audionas.config import Constraint
from audionas.errors import UserError
from audionas.models.architecture import Architecture, Subnetwork

RATIOS = (0.4, 0.6, 0.8, 1.0)
_CHOICES = {
    "x-x-x": (RATIOS, ((1, 2), (1, 2), (1, 2))),
    "2-x-x": (RATIOS, ((2,), (1, 2), (1, 2))),
    "2-2-x": (RATIOS, ((2,), (2,), (1, 2))),
    "ew": ((0.2, *RATIOS), ((2,), (2,), (2,))),
}
SPACES = tuple(_CHOICES)


class SearchSpace:
    """All sub-networks that one supernet is trained for.

    Args:
        name: `x-x-x` (512 configurations), `2-x-x` (256), `2-2-x` (128, the paper's choice) or `ew` (125).
        architecture: the largest network; the paper's CNN10 by default.

    Raises:
        UserError: no space has this name.
    """

    def __init__(self, name: str, architecture: Architecture | None = None):
        if name not in _CHOICES:
            raise UserError(f"search space {name!r}: not one of {', '.join(SPACES)}; choose one of them")
        self.name = name
        self.architecture = architecture or Architecture()
        self.ratios, self.depths = _CHOICES[name]

    @cached_property
    def subnetworks(self) -> list[Subnetwork]:
        """Every sub-network, depths outermost and widths innermost."""
        return [
            Subnetwork(ratios, depths)
            for depths in product(*self.depths)
            for ratios in product(self.ratios, repeat=3)
        ]

    def drawn_order(self) -> list[Subnetwork]:
        """Every sub-network, in an order that was drawn once for all: its first n are a fair sample."""
        return [self.subnetworks[i] for i in np.random.default_rng(0).permutation(len(self))]

    @cached_property
    def smallest(self) -> Subnetwork:
        """The sub-network of the fewest parameters."""
        return min(self, key=self.parameters)

    def __len__(self) -> int:
        return len(self.subnetworks)

    def __iter__(self) -> Iterator[Subnetwork]:
        return iter(self.subnetworks)

    def parameters(self, subnetwork: Subnetwork) -> int:
        """Trainable parameters of a sub-network."""
        return self.architecture.parameters(subnetwork)

    def within(self, constraint: Constraint, frames: int) -> list[Subnetwork]:
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

    def near(self, constraint: Constraint, tolerance: int, frames: int) -> list[Subnetwork]:
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
