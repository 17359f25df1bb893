"""The device that is measured: the CPU, unless `--device cuda` asks for the GPU."""

from __future__ import annotations

import torch

_chosen = torch.device("cpu")


def choose(name: str) -> None:
    """Measure this device from now on."""
    global _chosen
    _chosen = torch.device(name)


def device() -> torch.device:
    """The device that is measured."""
    return _chosen


def on_gpu() -> bool:
    """Whether that is a GPU, which computes on while Python goes on."""
    return _chosen.type == "cuda"


def wait() -> None:
    """Until the device has done what it was given."""
    if on_gpu():
        torch.cuda.synchronize()
