"""Wall-clock time of actions, on all cores or on one."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from benchmarks import target_device

REPEATS = 3


def repeated(*actions: Callable[[], object], repeats: int) -> list[list[float]]:
    """Return the wall-clock seconds of all repeats per action, interleaved and after a warm-up."""
    for action in actions:
        action()
    target_device.wait()
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, taken in zip(actions, times, strict=True):
            started = time.perf_counter()
            action()
            target_device.wait()
            taken.append(time.perf_counter() - started)
    return times


def interleaved(*actions: Callable[[], object], repeats: int = 5) -> list[float]:
    """Return the median wall-clock seconds per action, interleaved so that other load affects all alike."""
    return [statistics.median(taken) for taken in repeated(*actions, repeats=repeats)]


def seconds(action: Callable[[], object]) -> float:
    """Return the median wall-clock seconds over a few repeats, after a warm-up."""
    return interleaved(action, repeats=REPEATS)[0]


@contextmanager
def one_core() -> Iterator[None]:
    """Pin this thread, its child processes and PyTorch to one core, if the system supports it."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)
