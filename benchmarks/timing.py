"""Wall-clock time of an action, on all cores or on one."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from benchmarks import where

REPEATS = 3


def repeated(*actions: Callable[[], object], repeats: int) -> list[list[float]]:
    """Wall-clock seconds of each action's repeats, taken in turns after one to warm up."""
    for action in actions:
        action()
    where.wait()
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, taken in zip(actions, times, strict=True):
            started = time.perf_counter()
            action()
            where.wait()
            taken.append(time.perf_counter() - started)
    return times


def interleaved(*actions: Callable[[], object], repeats: int = 5) -> list[float]:
    """Median wall-clock seconds of each action, taken in turns: a busy spell meets them all."""
    return [statistics.median(taken) for taken in repeated(*actions, repeats=repeats)]


def seconds(action: Callable[[], object]) -> float:
    """Median wall-clock seconds over a few repeats, after one to warm up."""
    return interleaved(action, repeats=REPEATS)[0]


@contextmanager
def one_core() -> Iterator[None]:
    """Hold this thread, the processes that it starts and PyTorch to one core, where the system can."""
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
