"""Ranks: the processes that compute one stage together, started by `torchrun` or `training.gpus`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from audionas.runtime.errors import UserError

T = TypeVar("T")

_WAIT = timedelta(hours=2)  # timeout of collectives: shares of a scoring differ; torchrun detects a lost rank
_SAVING = 30.0  # seconds for ranks to stop, as in torch
_PR_SET_PDEATHSIG = 1  # of Linux' prctl


@dataclass(frozen=True)
class Ranks:
    """This process, `rank` of `size`; one of one outside of `join`.

    Every method but `share` is a collective: all ranks call it, in the same order. Each raises UserError if
    another rank has ended.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the first rank, which writes files."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return this rank's contiguous part of a sequence; parts do not overlap."""
        return items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over ranks, with one collective."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        _reached(dist.all_reduce, flat)  # gloo has no mean
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])

    def highest(self, *values: float) -> list[float]:
        """Return the maximum of each value over all ranks."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        _reached(dist.all_reduce, tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def gather(self, value: T) -> list[T]:
        """Return the value of every rank, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        _reached(dist.all_gather_object, values, value)
        return values

    def wait(self) -> None:
        """Wait for all ranks."""
        self.highest(0.0)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Run the block on the first rank before the others."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()


def current() -> Ranks:
    """Return the rank of this process."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


@torch.library.custom_op("audionas::total", mutates_args=())
def total(tensor: Tensor) -> Tensor:
    """Sum a tensor over all ranks; the gradient is summed over ranks too.

    It is a custom operator, so that `torch.compile` keeps one graph.
    """
    result = tensor.clone()
    _reached(dist.all_reduce, result)
    return result


total.register_fake(torch.empty_like)
total.register_autograd(lambda ctx, gradient: total(gradient))


@contextmanager
def join(device: str) -> Iterator[None]:
    """Join the process group that `torchrun` started: NCCL with one rank per GPU, gloo on CPUs."""
    _die_with_parent()
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=_WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def launch(arguments: Sequence[str], processes: int, restart: int) -> int:
    """Run `audionas ARGUMENTS` in several ranks on this machine, like `torchrun`; return the exit code.

    Args:
        arguments: of the command.
        processes: number of ranks.
        restart: exit code of ranks that stopped on request, returned then.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        1,
        1,
        processes,
        run_id=f"audionas-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "audionas", *arguments)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return restart if restart in codes else 1
    except SignalException as error:  # forwarded to the ranks, which save their state
        signal.signal(error.sigval, signal.SIG_IGN)
        psutil.wait_procs(psutil.Process().children(), timeout=_SAVING)  # torch exits at a third signal
        return restart if error.sigval in (signal.SIGTERM, signal.SIGINT) else 128 + error.sigval
    return 0


def _reached(collective: Callable, *arguments) -> None:
    try:
        collective(*arguments)
    except RuntimeError as error:
        raise UserError(
            f"another of the {dist.get_world_size()} processes ended ({str(error).splitlines()[0]}); its own "
            "message gives the reason; run the stage again to resume from the last checkpoint"
        ) from error


def _die_with_parent() -> None:
    """End this rank with its launcher, even a killed one; else it would run beside those of the next run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
