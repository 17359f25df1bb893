"""Seconds and memory of training steps in float32, in bfloat16, and compiled."""

from __future__ import annotations

import torch

from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space
from benchmarks import target_device
from benchmarks.operations import step_operations
from benchmarks.steps import OnceForAllSteps, Step, made, supervised
from benchmarks.timing import repeated
from benchmarks.training import CLASSES, FRAMES, drawn

WAYS = (("float32", False), ("bfloat16", False), ("float32", True), ("bfloat16", True))
REPEATS = 10


def _measured(step: Step) -> tuple[float, float]:
    """Return the minimum seconds of a step, and its peak memory in bytes on the GPU (0 on a CPU)."""
    step()  # allocates the state that steps keep
    if target_device.on_gpu():
        torch.cuda.reset_peak_memory_stats()
    seconds = min(repeated(step, repeats=REPEATS)[0])
    return seconds, float(torch.cuda.max_memory_allocated()) if target_device.on_gpu() else 0.0


def precision(
    width: int = 64, clips: int = 64, frames: int = FRAMES, ways: tuple[tuple[str, bool], ...] = WAYS
) -> dict:
    """Measure a step of CNN10 and of a supernet. On GPUs, float32 convolutions use TF32, as by default."""
    architecture = Cnn10Architecture(CLASSES, width)
    x, y = made(clips, frames, CLASSES)
    draws = drawn(Cnn10Space("2-2-x", architecture), 4, 1)
    work = step_operations(architecture, [LARGEST], frames, clips)
    of_supernet = work / 3 + step_operations(architecture, draws[0], frames, clips)
    rows, taken = [], {}
    for kind, compiled in ways:
        name = f"{kind}, compiled" if compiled else kind
        torch.manual_seed(0)
        steps = {f"CNN10, {name}": (supervised(architecture, x, y, kind, compiled), work)}
        if not compiled:  # steps of a supernet are never compiled
            supernet = OnceForAllSteps(architecture, draws, x, y, kind)
            steps[f"4 sub-networks, {name}"] = supernet.shared, of_supernet
        for what, (step, operations) in steps.items():
            seconds, held = _measured(step)
            taken[what] = seconds
            rows.append(
                {
                    "a step of": what,
                    "s": f"{seconds:.4f}",
                    "clips/s": f"{clips / seconds:,.0f}",
                    "10^12 operations/s": f"{operations / seconds / 1e12:.2f}",
                    "GB on the GPU": f"{held / 1e9:.1f}" if held else "",
                }
            )
    return {
        "what": f"a training step of a CNN10 of {width} channels, {clips} clips of {frames} frames, in "
        "bfloat16; reference: in float32. The supernet's step has the teacher's forward pass in it",
        "unit": "s",
        "ours": taken["CNN10, bfloat16"],
        "reference": taken["CNN10, float32"],
        "floor": None,
        "counted": "none: ceilings differ from one precision to another",
        "table": sorted(rows, key=lambda row: row["a step of"]),
    }
