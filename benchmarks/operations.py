"""Counts of operations and bytes of CNN10 networks and of supernets."""

from __future__ import annotations

from collections.abc import Iterable

from audionas.search.cnn10 import Cnn10Architecture, Cnn10Subnetwork
from audionas.systems.once_for_all.costs import BACKWARD, multiply_adds, tree

FLOAT = 4  # bytes
_ADAM = 9  # floats per parameter: one read in backward; weight, gradient and two moments read and written


def step_operations(
    architecture: Cnn10Architecture, subnetworks: Iterable[Cnn10Subnetwork], frames: int, clips: int
) -> int:
    """Return the operations of forward and backward for a batch; a multiply-add is two operations."""
    return 2 * BACKWARD * clips * multiply_adds(architecture, subnetworks, frames)


def step_bytes(
    architecture: Cnn10Architecture, subnetworks: list[Cnn10Subnetwork], frames: int, clips: int
) -> int:
    """Return the least bytes that a step moves: layer outputs written and read once, weights, and Adam."""
    outputs = sum(n for _, n in tree(architecture, subnetworks, frames).values())
    largest = max(architecture.parameters(s) for s in subnetworks)
    return FLOAT * (2 * clips * outputs + _ADAM * largest)
