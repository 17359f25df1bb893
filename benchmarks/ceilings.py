"""Peak performance of the machine, measured in the same run as the benchmarks, and its description."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks import target_device
from benchmarks.timing import repeated

_REPEATS = 8


def _best(action: Callable[[], object]) -> float:
    return min(repeated(action, repeats=_REPEATS)[0])


def _operations(dtype: torch.dtype, side: int, clips: int, channels: int) -> float:
    """Return operations per second: the maximum of a matrix product and a channels-last 3x3 convolution."""
    a, b, c = (torch.randn(side, side, device=target_device.device(), dtype=dtype) for _ in range(3))
    product = 2 * side**3 / _best(lambda: torch.mm(a, b, out=c))
    x = torch.randn(clips, channels, 64, 64, device=target_device.device(), dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, device=target_device.device(), dtype=dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        convolution = 2 * 9 * channels * x.numel() / _best(lambda: F.conv2d(x, weight, padding=1))
    return max(product, convolution)


@functools.cache
def _measured(threads: int, device: str) -> dict[str, float]:
    size = (8192, 128, 512) if device == "cuda" else (1536, 8, 64)
    limits = {"flops": _operations(torch.float32, *size)}
    if device == "cuda":
        limits["bfloat16"] = _operations(torch.bfloat16, *size)
    numbers = (1024 if device == "cuda" else 64) * 2**20  # larger than any cache
    source = torch.ones(numbers, device=device)
    target = torch.zeros_like(source)
    return limits | {"bandwidth": 2 * 4 * numbers / _best(lambda: target.copy_(source))}


def ceilings() -> dict[str, float]:
    """Measure float32 operations per second (`flops`) and bytes per second of memory (`bandwidth`).

    Measured once per process with the current number of threads. `flops` is the maximum of a matrix product
    and a channels-last 3x3 convolution; a multiply-add is two operations. `bandwidth` is that of a copy of
    256 MiB, read and written. On a GPU the convolution uses TF32, the PyTorch default, the copy has 4 GiB,
    and `bfloat16` is added.
    """
    return _measured(torch.get_num_threads(), target_device.device().type)


def least_seconds(operations: float, moved: float = 0.0) -> float:
    """Return a lower bound in seconds for these operations and bytes at peak performance."""
    limits = ceilings()
    return max(operations / limits["flops"], moved / limits["bandwidth"])


def disk(data: bytes, path: Path) -> tuple[float, float]:
    """Return the seconds to write bytes to a new file and flush them to disk, and to read them back."""

    def write() -> None:
        path.unlink(missing_ok=True)
        with path.open("wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())

    return _best(write), _best(path.read_bytes)


def machine() -> dict[str, object]:
    """Describe the machine: processor, cores, threads and version of PyTorch, memory in GB, and GPU."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    gpu = {}
    if target_device.on_gpu():
        about = torch.cuda.get_device_properties(0)
        gpu = {"gpu": about.name, "gpu_memory_gb": round(about.total_memory / 1e9, 1)}
    return gpu | {
        "processor": names[0] if names else "unknown",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory, 1),
        "torch": torch.__version__,
    }
