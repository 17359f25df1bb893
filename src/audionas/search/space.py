"""The search spaces of the paper (section 2.2 and figure 3) and what fits a budget."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import product

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

    def near(self, constraint: int, tolerance: int) -> list[Subnetwork]:
        """The sub-networks with |parameters - constraint| <= tolerance (section 2.4).

        Raises:
            UserError: there is none; names the nearest sizes below and above.
        """
        found = [s for s in self if abs(self.parameters(s) - constraint) <= tolerance]
        if not found:
            sizes = sorted({self.parameters(s) for s in self})
            below = max((s for s in sizes if s < constraint), default=None)
            above = min((s for s in sizes if s > constraint), default=None)
            nearest = " and ".join(f"{size:,}" for size in (below, above) if size)
            raise UserError(
                f"no sub-network of space {self.name} has {constraint:,} +- {tolerance:,} parameters; the "
                f"nearest have {nearest}: change study.constraints or raise search.tolerance"
            )
        return found
