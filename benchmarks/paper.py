"""Projected hours of all trainings of the paper, from counted operations and the speed of one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

import torch

from audionas.search.cnn10 import LARGEST, SPACES, Cnn10Architecture, Cnn10Space, Cnn10Subnetwork
from benchmarks import panns, target_device
from benchmarks.ceilings import ceilings
from benchmarks.operations import step_operations
from benchmarks.steps import made, supervised
from benchmarks.timing import interleaved
from benchmarks.training import CLASSES, FRAMES, drawn

BATCH, DRAWS = 64, 200
RATES = (10e12, 100e12)  # operations per second, to look up other machines in the table
UNIFORM = [Cnn10Subnetwork((ratio,) * 3, (depth,) * 3) for ratio, depth in ((0.6, 1), (1.0, 1), (0.8, 2))]
BUDGETS = (0.9e6, 1.8e6, 2.7e6, 3.6e6)


@dataclass(frozen=True)
class Run:
    """Trainings of one kind.

    Attributes:
        name: label in the table.
        count: number of trainings.
        iterations: iterations per training.
        shared, separate: operations per step, with shared layers computed once, or per sub-network.
    """

    name: str
    count: int
    iterations: int
    shared: float
    separate: float

    def operations(self, separate: bool = False) -> float:
        """Return the operations of all trainings."""
        return self.count * self.iterations * (self.separate if separate else self.shared)


def runs(clips: int = BATCH) -> Iterator[Run]:
    """Return the trainings of the paper (sections 3.3 and 4.3) with their operations."""
    architecture = Cnn10Architecture(CLASSES)

    def step(subnetworks: list[Cnn10Subnetwork]) -> float:
        return step_operations(architecture, subnetworks, FRAMES, clips)

    largest = step([LARGEST])
    taught = largest / 3  # the teacher's forward pass
    yield Run("teacher", 1, 400_000, largest, largest)
    yield Run("supernets, largest network", 4, 100_000, taught + largest, taught + largest)
    for name in SPACES:
        draws = drawn(Cnn10Space(name, architecture), 4, DRAWS)
        shared = mean(step(draw) for draw in draws)
        separate = mean(sum(step([subnetwork]) for subnetwork in draw) for draw in draws)
        yield Run(f"supernet {name}, 4 sub-networks a step", 1, 200_000, taught + shared, taught + separate)
    alone = mean(step([subnetwork]) for subnetwork in UNIFORM)
    yield Run("individual networks, baseline", 3, 100_000, alone, alone)
    yield Run("individual networks, KD", 3, 100_000, taught + alone, taught + alone)
    space = Cnn10Space("2-2-x", architecture)
    found = [min(space, key=lambda s: abs(architecture.parameters(s) - budget)) for budget in BUDGETS]
    tuned = taught + mean(step([subnetwork]) for subnetwork in found)
    for iterations in (10_000, 100_000):
        yield Run(f"fine-tuning, {iterations:,}", 4, iterations, tuned, tuned)


def paper(width: int = 64, clips: int = 0, frames: int = FRAMES) -> dict:
    """Project the hours of all trainings of the paper on this machine from the speed of a CNN10 step."""
    clips = clips or (BATCH if target_device.on_gpu() else 2)
    torch.manual_seed(0)
    x, y = made(2 * clips, frames, CLASSES)
    architecture = Cnn10Architecture(CLASSES, width)
    steps = supervised(architecture, x[:clips], y[:clips]), panns.step(CLASSES, width, x, y)
    operations = step_operations(architecture, [LARGEST], frames, clips)
    ours, theirs = (operations / seconds for seconds in interleaved(*steps, repeats=3))
    schedule = list(runs())
    total, separate = (sum(run.operations(way) for run in schedule) for way in (False, True))

    def row(name: str, count: int, iterations: str, work: float) -> dict[str, str]:
        hours = {f"h at {rate / 1e9:,.0f} GFLOP/s": f"{work / rate / 3600:,.0f}" for rate in (ours, *RATES)}
        return {"": name, "runs": str(count), "iterations": iterations, "EFLOP": f"{work / 1e18:.2f}"} | hours

    return {
        "what": f"a projection: all trainings of the paper, batch {BATCH} of {FRAMES} frames, at the speed "
        f"of a step of a CNN10 of {width} channels here; reference: PANNs' step and separate passes",
        "unit": "h",
        "ours": total / ours / 3600,
        "reference": separate / theirs / 3600,
        "floor": total / ceilings()["flops"] / 3600,
        "counted": f"{total / 1e18:.1f} EFLOP, separate passes {separate / 1e18:.1f}, at the float32 ceiling",
        "table": [
            *(row(r.name, r.count, f"{r.iterations:,}", r.operations()) for r in schedule),
            row("all", sum(r.count for r in schedule), "", total),
        ],
    }
