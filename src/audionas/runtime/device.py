"""Compute device and determinism of a stage."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch

from audionas.runtime.errors import UserError


class Computing(Protocol):
    """Device and number of threads, as in the section `training`."""

    device: str
    threads: int


def prepare(settings: Computing, seed: int) -> torch.device:
    """Set threads, determinism and the seed, before a network is created; return the device.

    Raises:
        UserError: training.device is cuda, and there is no GPU or its packages are missing.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: training.device is cuda, but this machine has no GPU; set it to cpu")
    if settings.device == "cuda" and _lacks_gpu_packages():
        raise UserError(
            "params.yaml: training.device is cuda, but the environment is set up for the CPU only; run "
            "`make install GPU=1`"
        )
    torch.set_num_threads(settings.threads)
    # Like use_deterministic_algorithms, which also loads the compiler: a second at every start.
    torch.set_deterministic_debug_mode("warn" if settings.device == "cuda" else "error")
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(seed)
    return torch.device(settings.device)


def _lacks_gpu_packages() -> bool:
    """Return whether triton is missing although PyTorch requires it: tools/set_up.py skips GPU packages."""
    if sys.platform != "linux" or find_spec("triton") is not None:
        return False
    return any(one.startswith("triton") for one in requires("torch") or ())


def reseed(*numbers: int) -> None:
    """Seed torch's global generators of all devices from whole numbers."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


@contextmanager
def enough_memory(doing: str, remedy: str) -> Iterator[None]:
    """Raise UserError if the block runs out of memory, with its activity (`doing`) and the fix."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # The CPU's allocator raises a plain RuntimeError.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise UserError(f"{doing}: out of memory; {remedy}") from error
        raise


def device_of(network: torch.nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    return next(network.parameters()).device
