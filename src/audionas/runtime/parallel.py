"""Map functions over processes or threads, with ordered results and constant memory."""

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

_AHEAD = 4  # items per worker that are submitted ahead
_KILLS = 3  # consecutive kills, after which the items are not the cause
_KEPT = 31 << 20  # bytes; glibc's maximum threshold is 32 MiB


def workers() -> int:
    """Return the number of workers: AUDIONAS_WORKERS, or the number of cores of this process.

    Raises UserError if AUDIONAS_WORKERS is not a whole number from 1.
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
    processes: int | None = None,
) -> Iterator[R]:
    """Map a function over items in worker processes; yield results in the order of the items.

    A few items per process are submitted ahead, so `items` may be a generator of any length. Processes are
    not forked from this one, because locks of its threads (PyTorch's) would stay locked in the copy. The
    function, its items and `initargs` are pickled. An exception of the function is raised here.

    If a process is killed, the pool loses all running items. Each of them is then run by itself in a new
    process.

    Args:
        function: called for each item.
        items: iterable of any length.
        initializer, initargs: as in ProcessPoolExecutor.
        lost: returns the result for an item whose own process was killed too.
        processes: number of processes; `workers()` by default.

    Raises:
        UserError: the processes of three consecutive items were killed.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)

    def start(count: int) -> Executor:
        return ProcessPoolExecutor(count, context, initializer, initargs)

    processes, killed = processes or workers(), 0

    def alone(item: T) -> R:
        nonlocal killed
        try:
            with start(1) as pool:
                result = pool.submit(function, item).result()
        except BrokenProcessPool:
            killed += 1
            if killed == _KILLS:
                raise UserError(
                    f"{killed} consecutive worker processes were killed or could not start; memory may be "
                    "too small (see `dmesg`): set AUDIONAS_WORKERS to a lower number than "
                    f"{processes}, or --jobs of `audionas classify`, then run again: finished work is kept"
                ) from None
            return lost(item)
        killed = 0
        return result

    items = iter(items)
    while True:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for result in _in_order(start(processes), function, items, waiting, processes):
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
    """Map like `ordered_map` over threads, without start-up and pickling.

    For work that releases the interpreter's lock, such as decoding, resampling and PyTorch.
    """
    _keep_freed_memory()
    count = workers()
    pool = ThreadPoolExecutor(count, initializer=initializer)
    return _in_order(pool, function, iter(items), deque(), count)


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next items instead of returning it to the system.

    glibc returns freed blocks above a threshold, which follows the largest block ever freed. The kernel
    clears each page that it hands out again, which takes long for items of megabytes.
    """
    np.empty(_KEPT, np.uint8)  # allocated and freed without use


@contextmanager
def background() -> Iterator[Callable[..., None]]:
    """Yield a function that runs others in one background thread, in order.

    All have finished when the context ends. An exception is raised by the next call or at the end of the
    context. No function is called after one that failed.
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
    count: int,
) -> Iterator[R]:
    """Yield results in order; `waiting` holds the submitted items without a result, also after an error."""
    with pool:
        try:
            while True:
                while len(waiting) < _AHEAD * count:
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
    """Return the item's future; for a broken pool, a future with its exception."""
    try:
        return pool.submit(function, item)
    except BrokenProcessPool as error:
        future: Future[R] = Future()
        future.set_exception(error)
        return future
