"""Operations and bytes of CNN10s and of a supernet's tree, counted."""

from __future__ import annotations

from collections.abc import Iterable

from audionas.models.architecture import Architecture, Subnetwork

FLOAT = 4  # bytes
_BACKWARD = 3  # times the forward: it, and twice as much for the gradients of inputs and weights
_ADAM = 9  # floats a parameter: one read backward; it, its gradient and two moments there and back


def _shared(
    architecture: Architecture, subnetworks: Iterable[Subnetwork], frames: int
) -> dict[tuple, tuple[int, int]]:
    """(multiply-adds, outputs) for one clip of every layer in a tree of sub-networks."""
    layers: dict[tuple, tuple[int, int]] = {}
    for subnetwork in subnetworks:
        inputs, path = 1, ()
        for i, (width, depth) in enumerate(
            zip(architecture.widths(subnetwork), (2, *subnetwork.depths), strict=True)
        ):
            places = (frames // 2**i) * (architecture.mels // 2**i)
            first = (9 * inputs * width * places, width * places)
            layers[(*path, 1)] = max(first, layers.get((*path, 1), first))  # of the widest
            if depth == 2:
                layers[(*path, width, 2)] = (9 * width * width * places, width * places)
            inputs, path = width, (*path, (width, depth))
        hidden, classes = architecture.hidden, architecture.num_classes
        layers[(*path, "head")] = (inputs * hidden + hidden * classes, hidden + classes)
    return layers


def multiply_adds(architecture: Architecture, subnetworks: Iterable[Subnetwork], frames: int) -> int:
    """Multiply-adds for one clip of `frames` when what sub-networks have in common is computed once."""
    return sum(cost for cost, _ in _shared(architecture, subnetworks, frames).values())


def step_operations(
    architecture: Architecture, subnetworks: Iterable[Subnetwork], frames: int, clips: int
) -> int:
    """Operations of forward and backward for a batch; a multiply-add is two."""
    return 2 * _BACKWARD * clips * multiply_adds(architecture, subnetworks, frames)


def step_bytes(architecture: Architecture, subnetworks: list[Subnetwork], frames: int, clips: int) -> int:
    """Bytes that a step must move: each layer's output written and read again once, weights, and Adam."""
    outputs = sum(n for _, n in _shared(architecture, subnetworks, frames).values())
    largest = max(architecture.parameters(s) for s in subnetworks)
    return FLOAT * (2 * clips * outputs + _ADAM * largest)
