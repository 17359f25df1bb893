"""Growth of the cost of a training step with clips, width and sub-networks."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space
from benchmarks.steps import OnceForAllSteps, made, supervised
from benchmarks.timing import interleaved, seconds
from benchmarks.training import CLASSES, COUNTED, drawn, floor, supernet_floor

CLIPS, WIDTHS, COUNTS = (2, 4, 8, 16, 32), (8, 16, 32, 64), (1, 2, 4, 8, 16)


def _row(axis: str, at: int, took: float, least: float, first: float, work: float) -> dict[str, str]:
    return {
        "axis": axis,
        "at": str(at),
        "s": f"{took:.3f}",
        "times the first": f"{took / first:.1f}",
        "work, times the first": f"{work:.1f}",
        "floor, s": f"{least:.3f}",
        "s / floor": f"{took / least:.1f}",
    }


def _steps(clips: tuple[int, ...], widths: tuple[int, ...], frames: int) -> Iterator[tuple]:
    """Yield (axis, value, seconds, floor) of CNN10 steps, over clips at 16 channels and width at 4 clips."""
    for axis, points in (
        ("clips, 16 channels", [(16, n) for n in clips]),
        ("channels, 4 clips", [(width, 4) for width in widths]),
    ):
        for width, count in points:
            architecture = Cnn10Architecture(CLASSES, width)
            torch.manual_seed(0)
            took = seconds(supervised(architecture, *made(count, frames, CLASSES)))
            value = count if axis.startswith("clips") else width
            yield axis, value, took, floor(architecture, [[LARGEST]], count, frames)


def scaling(
    clips: tuple[int, ...] = CLIPS,
    widths: tuple[int, ...] = WIDTHS,
    counts: tuple[int, ...] = COUNTS,
    frames: int = 501,
) -> dict:
    """Measure steps of growing size. The result compares the most sub-networks with separate passes."""
    rows = list(_steps(clips, widths, frames))
    architecture, (x, y) = Cnn10Architecture(CLASSES, 16), made(4, frames, CLASSES)
    for count in counts:
        chosen = drawn(Cnn10Space("2-2-x", architecture), count, 2)
        steps = OnceForAllSteps(architecture, chosen, x, y)
        shared, separate = (t / 2 for t in interleaved(steps.shared, steps.separate, repeats=3))
        least = supernet_floor(architecture, chosen, 4, frames)
        rows.append(("sub-networks, 4 clips", count, shared, least))
    firsts = {}
    for axis, _, took, least in rows:
        firsts.setdefault(axis, (took, least))
    return {
        "what": f"a supernet step of {counts[-1]} sampled sub-networks, 4 clips of {frames} frames, 16 "
        "channels; reference: a pass for each; the table has steps of growing size",
        "unit": "s",
        "ours": shared,
        "reference": separate,
        "floor": least,
        "counted": COUNTED,
        "table": [
            _row(axis, at, took, least, firsts[axis][0], least / firsts[axis][1])
            for axis, at, took, least in rows
        ],
    }
