"""Operations and bytes of CNN10s and of a supernet's tree, counted."""

from __future__ import annotations

from collections.abc import Iterable

from audionas.search.cnn10 import Cnn10Architecture, Cnn10Subnetwork
from audionas.systems.once_for_all.costs import BACKWARD, multiply_adds, tree

FLOAT = 4  # bytes
_ADAM = 9  # floats a parameter: one read backward; it, its gradient and two moments there and back


def step_operations(
    architecture: Cnn10Architecture, subnetworks: Iterable[Cnn10Subnetwork], frames: int, clips: int
) -> int:
    """Operations of forward and backward for a batch; a multiply-add is two."""
    return 2 * BACKWARD * clips * multiply_adds(architecture, subnetworks, frames)


def step_bytes(
    architecture: Cnn10Architecture, subnetworks: list[Cnn10Subnetwork], frames: int, clips: int
) -> int:
    """Bytes that a step must move: each layer's output written and read again once, weights, and Adam."""
    outputs = sum(n for _, n in tree(architecture, subnetworks, frames).values())
    largest = max(architecture.parameters(s) for s in subnetworks)
    return FLOAT * (2 * clips * outputs + _ADAM * largest)
