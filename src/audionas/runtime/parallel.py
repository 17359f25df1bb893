"""Work spread over processes or threads, with results in order and memory that stays constant."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from audionas.runtime.environment import whole_number
from audionas.runtime.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4  # items a worker that are taken before their turn
_KILLS = 3  # in a row, after which no item is to blame
_KEPT = 31 << 20  # bytes; glibc's threshold rises no further than to 32 MiB


def workers() -> int:
    """Workers to use: the environment's AUDIONAS_WORKERS, or as many as the cores given to this process.

    Raises UserError: AUDIONAS_WORKERS is not a whole number from 1 on.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return whole_number("AUDIONAS_WORKERS", cores, 1, 4_096)


def ordered_map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    initializer: Callable[..., None] | None = None,
    initargs: tuple = (),
    lost: Callable[[T], R],
) -> Iterator[R]:
    """`map(function, items)` over processes; results in the order of the items, whatever ends first.

    A few items a process are taken ahead, so a generator of any length can be given. Processes are not
    forked from this one: its threads (PyTorch's) would be left locked in the copy. The function, its items
    and initargs are pickled. An exception in the function is raised here.

    A process that is killed takes with it what the others of the pool do. Each of those items is then tried
    by itself in a fresh process, and the work goes on.

    Args:
        lost: gives the result for an item whose own process was killed, too.

    Raises:
        UserError: three items in a row had their processes killed; no item is the cause then.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)

    def start(processes: int) -> Executor:
        return ProcessPoolExecutor(processes, context, initializer, initargs)

    killed = 0

    def alone(item: T) -> R:
        nonlocal killed
        try:
            with start(1) as pool:
                result = pool.submit(function, item).result()
        except BrokenProcessPool:
            killed += 1
            if killed == _KILLS:
                raise UserError(
                    f"{killed} worker processes in a row were killed, or could not start; the memory may be "
                    "too small for them (`dmesg` says so): set AUDIONAS_WORKERS to a lower number than "
                    f"{workers()}, then run again: what was finished is kept"
                ) from None
            return lost(item)
        killed = 0
        return result

    items = iter(items)
    while True:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for result in _in_order(start(workers()), function, items, waiting):
                killed = 0
                yield result
            return
        except BrokenProcessPool:
            for item, future in waiting:
                done = future.done() and not future.cancelled() and future.exception() is None
                yield future.result() if done else alone(item)


def threaded_map(
    function: Callable[[T], R], items: Iterable[T], *, initializer: Callable[[], None] | None = None
) -> Iterator[R]:
    """`ordered_map` over threads: no start-up and no pickling, for work that releases the interpreter's lock.

    Decoding, resampling and PyTorch do; Python itself would have one thread at a time.
    """
    _keep_freed_memory()
    return _in_order(ThreadPoolExecutor(workers(), initializer=initializer), function, iter(items), deque())


def _keep_freed_memory() -> None:
    """Have what threads free serve their next items, rather than go back to the system.

    glibc gives back what is freed above a threshold, which follows the largest block that was ever freed; the
    kernel clears every page when it is asked for again, and items of megabytes would wait for that each time.
    """
    np.empty(_KEPT, np.uint8)  # never touched, and freed at once


@contextmanager
def background() -> Iterator[Callable[..., None]]:
    """A function that has others called, one after the other, while this thread goes on.

    All are done when the context is left. An exception is raised by the next call, or there, and no function
    is called after one that failed.
    """
    with ThreadPoolExecutor(1) as pool:
        last: Future[None] = pool.submit(lambda: None)

        def submit(function: Callable[..., None], *args) -> None:
            nonlocal last
            if last.done():
                last.result()
            last = pool.submit(_after, last, function, args)

        yield submit
        last.result()


def _after(before: Future[None], function: Callable[..., None], args: tuple) -> None:
    before.result()
    function(*args)


def _in_order(
    pool: Executor,
    function: Callable[[T], R],
    items: Iterator[T],
    waiting: deque[tuple[T, Future[R]]],
) -> Iterator[R]:
    """Results in order; the items taken and not given yet stand in `waiting`, at an error too."""
    with pool:
        try:
            while True:
                while len(waiting) < _AHEAD * workers():
                    for item in itertools.islice(items, 1):
                        waiting.append((item, _submitted(pool, function, item)))
                        break
                    else:
                        break
                if not waiting:
                    return
                result = waiting[0][1].result()
                waiting.popleft()
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _submitted(pool: Executor, function: Callable[[T], R], item: T) -> Future[R]:
    """The item's future; a pool that is broken already gives one that says so."""
    try:
        return pool.submit(function, item)
    except BrokenProcessPool as error:
        future: Future[R] = Future()
        future.set_exception(error)
        return future
