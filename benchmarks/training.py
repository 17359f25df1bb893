"""Training steps of CNN10 and of a supernet, and the overhead of the training loop."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch

from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space, Cnn10Subnetwork
from benchmarks import panns, target_device
from benchmarks.ceilings import least_seconds
from benchmarks.operations import step_bytes, step_operations
from benchmarks.steps import OnceForAllSteps, bare_and_loop, made, made_store, supervised
from benchmarks.timing import interleaved

FRAMES = 1001  # of 10 s
CLASSES = 527
COUNTED = (
    "convolutions and linear layers, forward and twice that backward, at the machine's float32 ceiling; or, "
    "where that takes longer, each layer's output and the weights once to memory and back"
)
LOOP_STEPS = 12
PAPER = ((64, 64),)  # channels of block 1 and clips, on a GPU


def floor(
    architecture: Cnn10Architecture, draws: list[list[Cnn10Subnetwork]], clips: int, frames: int
) -> float:
    """Return a lower bound of the mean seconds of a step with these draws, shared layers counted once."""
    return sum(
        least_seconds(
            step_operations(architecture, draw, frames, clips), step_bytes(architecture, draw, frames, clips)
        )
        for draw in draws
    ) / len(draws)


def supernet_floor(
    architecture: Cnn10Architecture, draws: list[list[Cnn10Subnetwork]], clips: int, frames: int
) -> float:
    """Return `floor` plus the forward pass of the teacher."""
    teacher = least_seconds(step_operations(architecture, [LARGEST], frames, clips) / 3)
    return teacher + floor(architecture, draws, clips, frames)


def row(what: str, ours: float, reference: float, least: float) -> dict[str, str]:
    """Return a row of a table of steps."""
    return {
        "": what,
        "ours, s": f"{ours:.3f}",
        "reference, s": f"{reference:.3f}",
        "ratio": f"{reference / ours:.2f}",
        "floor, s": f"{least:.3f}",
        "ours / floor": f"{ours / least:.1f}",
    }


def by_size(what: str, counted: str, names: list[str], results: list[tuple[float, float, float]]) -> dict:
    """Return a result from (ours, reference, floor) in s per size: the first size, and a table of all."""
    ours, reference, least = results[0]
    return {
        "what": what,
        "unit": "s",
        "ours": ours,
        "reference": reference,
        "floor": least,
        "counted": counted,
        "table": [row(name, *result) for name, result in zip(names, results, strict=True)],
    }


def train_step(sizes: tuple[tuple[int, int], ...] = (), frames: int = FRAMES) -> dict:
    """Measure a CNN10 step per (channels of block 1, clips). The first size is the result."""
    results, sizes = [], sizes or (PAPER if target_device.on_gpu() else ((16, 16), (64, 4)))
    for width, clips in sizes:
        torch.manual_seed(0)
        x, y = made(2 * clips, frames, CLASSES)
        ours = supervised(Cnn10Architecture(CLASSES, width), x[:clips], y[:clips])
        taken = interleaved(ours, panns.step(CLASSES, width, x, y))
        results.append((*taken, floor(Cnn10Architecture(CLASSES, width), [[LARGEST]], clips, frames)))
    names = [f"CNN10 of {width} channels, {clips} clips" for width, clips in sizes]
    return by_size(
        f"a training step of a {names[0]} of {frames} frames, mixup, SpecAugment and Adam; "
        "reference: PANNs' way, channels-first and Adam with amsgrad",
        COUNTED,
        names,
        results,
    )


def drawn(space: Cnn10Space, count: int, steps: int) -> list[list[Cnn10Subnetwork]]:
    """Draw sub-networks uniformly for a number of steps."""
    rng = np.random.default_rng(0)
    return [[space[i] for i in rng.integers(len(space), size=count)] for _ in range(steps)]


def supernet_step(sizes: tuple[tuple[int, int], ...] = (), frames: int = FRAMES, draws: int = 4) -> dict:
    """Measure a step of four sub-networks of `2-2-x` per (channels of block 1, clips)."""
    results, sizes = [], sizes or (PAPER if target_device.on_gpu() else ((16, 16), (64, 2)))
    for width, clips in sizes:
        architecture = Cnn10Architecture(CLASSES, width)
        chosen = drawn(Cnn10Space("2-2-x", architecture), 4, draws)
        x, y = made(clips, frames, CLASSES)
        steps = OnceForAllSteps(architecture, chosen, x, y)
        shared, separate = (t / draws for t in interleaved(steps.shared, steps.separate, repeats=3))
        results.append((shared, separate, supernet_floor(architecture, chosen, clips, frames)))
    names = [f"{width} channels, {clips} clips" for width, clips in sizes]
    return by_size(
        f"a step of 4 sampled sub-networks of 2-2-x, {names[0]} of {frames} frames, the teacher's forward "
        f"pass and Adam included, mean of {draws} draws; reference: a pass for each sub-network",
        f"the teacher's forward pass, and what the sub-networks share once: {COUNTED}",
        names,
        results,
    )


def loop(width: int = 0, clips: int = 0, frames: int = 0, steps: int = LOOP_STEPS) -> dict:
    """Measure a step in `training.loop.train`, and the same step without reading, checks, logs and saves."""
    size = (*PAPER[0], FRAMES) if target_device.on_gpu() else (16, 16, 251)
    width, clips, frames = (
        given or default for given, default in zip((width, clips, frames), size, strict=True)
    )
    architecture = Cnn10Architecture(10, width)
    with made_store(4 * clips, frames, 10) as store, tempfile.TemporaryDirectory() as folder:
        bare, looped = bare_and_loop(architecture, store, clips, steps, Path(folder))
        bare()
        pairs = [(looped(), bare()) for _ in range(5)]
    ours, reference = (median(side) for side in zip(*pairs, strict=True))
    return {
        "what": f"a step of a CNN10 of {width} channels, {clips} clips of {frames} frames in the training "
        "loop; reference: the same reading and step without the loop, so 1 is the best there is",
        "unit": "s",
        "ours": ours,
        "reference": reference,
        "floor": floor(architecture, [[LARGEST]], clips, frames),
        "counted": COUNTED,
    }
