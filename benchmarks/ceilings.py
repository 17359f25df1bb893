"""What the machine can do at most, measured in the run that it is compared with, and its name."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.timing import repeated

_REPEATS = 8


def _best(action: Callable[[], object]) -> float:
    return min(repeated(action, repeats=_REPEATS)[0])


@functools.cache
def _measured(threads: int) -> dict[str, float]:
    side = 1536
    a, b, c = (torch.randn(side, side) for _ in range(3))
    product = 2 * side**3 / _best(lambda: torch.mm(a, b, out=c))
    x = torch.randn(8, 64, 64, 64).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3)
    with torch.no_grad():
        convolution = 2 * 9 * 64 * x.numel() / _best(lambda: F.conv2d(x, weight, padding=1))
    source = torch.ones(64 * 2**20)  # 256 MiB: beyond every cache
    target = torch.zeros_like(source)
    copied = 2 * 4 * source.numel() / _best(lambda: target.copy_(source))
    return {"flops": max(product, convolution), "bandwidth": copied}


def ceilings() -> dict[str, float]:
    """float32 operations a second (`flops`) and bytes a second to and from memory (`bandwidth`).

    With PyTorch's present number of threads, measured once a process: the better of a matrix product and a
    channels-last 3x3 convolution, and a copy of 256 MiB (read and written). A multiply-add is two operations.
    """
    return _measured(torch.get_num_threads())


def least_seconds(operations: float, moved: float = 0.0) -> float:
    """Seconds in which no way of doing it can be done: operations and bytes, each at its ceiling."""
    limits = ceilings()
    return max(operations / limits["flops"], moved / limits["bandwidth"])


def disk(data: bytes, path: Path) -> tuple[float, float]:
    """Seconds to write the bytes to a new file until they are on the disk, and to read them back."""

    def write() -> None:
        path.unlink(missing_ok=True)
        with path.open("wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())

    return _best(write), _best(path.read_bytes)


def machine() -> dict[str, object]:
    """Processor as the kernel names it, cores, PyTorch's threads and version, memory in GB."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": names[0] if names else "unknown",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory, 1),
        "torch": torch.__version__,
    }
