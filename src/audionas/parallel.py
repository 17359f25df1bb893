"""Work spread over processes, with results in order and memory that stays constant."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def workers() -> int:
    """Processes to use: the environment's AUDIONAS_WORKERS, or as many as the cores given to this process."""
    wanted = os.environ.get("AUDIONAS_WORKERS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    processes: int | None = None,
    initializer: Callable[..., None] | None = None,
    initargs: tuple = (),
    in_flight: int = 4,
) -> Iterator[R]:
    """`map(function, items)` over processes; results in the order of the items, whatever ends first.

    At most `in_flight` items a process are taken ahead, so a generator of any length can be given. Processes
    are not forked from this one: its threads (PyTorch's) would be left locked in the copy. The function,
    its items and initargs are pickled. An exception in the function is raised here.
    """
    processes = processes or workers()
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    items = iter(items)
    with ProcessPoolExecutor(processes, context, initializer, initargs) as pool:
        waiting = deque(
            pool.submit(function, item) for item in itertools.islice(items, in_flight * processes)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
