"""Scoring of a whole search space, against as many sub-networks as the search of the paper evaluates."""

from __future__ import annotations

import torch

from audionas.search.cnn10 import Cnn10Architecture, Cnn10Space
from audionas.supernet.calibration import calibrate_all
from audionas.supernet.cnn10 import Cnn10Supernet, extract
from audionas.systems.once_for_all.costs import multiply_adds
from benchmarks import target_device
from benchmarks.ceilings import least_seconds
from benchmarks.steps import made
from benchmarks.timing import interleaved
from benchmarks.training import CLASSES, FRAMES, by_size

DRAWN = 25  # population of the paper
SPACES = ("2-2-x", "2-x-x", "ew", "x-x-x")
SIZES = {"cpu": ((16, 16), (64, 1)), "cuda": ((64, 64),)}  # channels of block 1, clips


@torch.no_grad()
def score_space(
    cases: tuple[tuple[str, int, int], ...] = (),
    frames: int = FRAMES,
    repeats: int = 3,
) -> dict:
    """Score all sub-networks in one pass, for (space, channels of block 1, clips)."""
    results, names = [], []
    cases = cases or tuple((s, *size) for s in SPACES for size in SIZES[target_device.device().type])
    for name, width, clips in cases:
        torch.manual_seed(0)
        space = Cnn10Space(name, Cnn10Architecture(CLASSES, width))
        supernet = Cnn10Supernet(space.architecture).eval().to(target_device.device())
        x, _ = made(clips, frames, CLASSES)
        statistics = calibrate_all(supernet, space, [x[:1]])
        drawn = space.shuffled()[:DRAWN]
        networks = [extract(supernet, one, statistics).to(x.device) for one in drawn]

        def ours(supernet=supernet, x=x, space=space, statistics=statistics) -> None:
            for _ in supernet.outputs(x, space, statistics=statistics):
                pass

        def reference(networks=networks, x=x) -> None:
            for network in networks:
                network(x)

        operations = 2 * clips * multiply_adds(space.architecture, space, frames, widening=True)
        results.append((*interleaved(ours, reference, repeats=repeats), least_seconds(operations)))
        names.append(f"all {len(space)} of {name}, {width} channels, {clips} clips")
    return by_size(
        f"a batch of {frames} frames through {names[0]}; reference: through {DRAWN} random ones of the "
        "space, cut out, one by one",
        "convolutions and linear layers of the tree of sub-networks, each once, at the machine's float32 "
        "ceiling",
        names,
        results,
    )
