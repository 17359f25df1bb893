"""Where and how deterministically a stage computes."""

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
    """Where and on how many threads to compute, as the section `training` says."""

    device: str
    threads: int


def prepare(settings: Computing, seed: int) -> torch.device:
    """Fix threads, determinism and the seed, before a network is made; gives the device to compute on.

    Raises:
        UserError: training.device is cuda and there is none, or the packages for it were left out.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: training.device is cuda, and this machine has none; set it to cpu")
    if settings.device == "cuda" and _lacks_gpu_packages():
        raise UserError(
            "params.yaml: training.device is cuda, and the environment was set up for the CPU alone; run "
            "`make install GPU=1`"
        )
    torch.set_num_threads(settings.threads)
    # As use_deterministic_algorithms, which would also load the compiler: a second at every start.
    torch.set_deterministic_debug_mode("warn" if settings.device == "cuda" else "error")
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(seed)
    return torch.device(settings.device)


def _lacks_gpu_packages() -> bool:
    """Whether PyTorch asks for triton and it is not there: tools/set_up.py left out what only a GPU loads."""
    if sys.platform != "linux" or find_spec("triton") is not None:
        return False
    return any(one.startswith("triton") for one in requires("torch") or ())


def reseed(*numbers: int) -> None:
    """Seed torch's global generators, of every device, from whole numbers that say what is drawn next."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


@contextmanager
def enough_memory(doing: str, remedy: str) -> Iterator[None]:
    """Raise UserError where the block runs out of memory: what it was doing, and what to change."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # The CPU's allocator raises a plain RuntimeError.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise UserError(f"{doing}: out of memory; {remedy}") from error
        raise


def device_of(network: torch.nn.Module) -> torch.device:
    """Where a network lies."""
    return next(network.parameters()).device
