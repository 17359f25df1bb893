"""The measured device: the CPU, or the GPU with `--device cuda`."""

from __future__ import annotations

import torch

_chosen = torch.device("cpu")


def choose(name: str) -> None:
    """Select the device to measure."""
    global _chosen
    _chosen = torch.device(name)


def device() -> torch.device:
    """Return the measured device."""
    return _chosen


def on_gpu() -> bool:
    """Return whether the device is a GPU, which runs asynchronously."""
    return _chosen.type == "cuda"


def wait() -> None:
    """Wait until the device has finished its work."""
    if on_gpu():
        torch.cuda.synchronize()
