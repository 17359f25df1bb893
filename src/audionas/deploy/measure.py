"""Measure the latency of networks of a supernet on this machine, with ONNX Runtime on one thread."""

from __future__ import annotations

import io
import logging
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from torch import nn
from tqdm import tqdm

from audionas.deploy.devices.table import Measurement, read_measurements, write_measurements
from audionas.deploy.supernets import open_supernet
from audionas.runtime.errors import UserError
from audionas.runtime.extras import require
from audionas.runtime.text import line
from audionas.search.space import Configuration, FiniteSpace

log = logging.getLogger(__name__)

METER = "median of wall-clock time"
_GROUP, _ROUNDS = 20, 5  # networks that are measured in turns, and the turns of each
_WARM_RUNS = 3
_SPREAD = 0.1  # above it, other processes disturb
_BUSY = 0.5  # cores that other processes use


class Timing(NamedTuple):
    """Time of one inference.

    Attributes:
        median: in seconds.
        spread: difference of the quartiles, as a share of the median.
    """

    median: float
    spread: float


def measure(
    supernet: str | Path,
    device: str | Path,
    *,
    networks: int = 40,
    repeats: int = 30,
    seconds: float | None = None,
) -> list[Measurement]:
    """Measure networks of a supernet, and add them to a device file.

    The smallest and the largest network come first, then random ones. Networks that are in the file are
    skipped, so an interrupted run can go on. The weights do not matter for the time; inputs are log-mel
    spectrograms, so the front end is not part of it.

    Args:
        supernet: the model file of the supernet.
        device: the CSV file; a new one is made.
        networks: number of networks that the file then has of this supernet and input length.
        repeats: timed inferences of each network.
        seconds: length of the input; by default that of the training clips.

    Returns:
        The rows of these networks.

    Raises:
        UserError: the supernet or the file cannot be used, the file is of another device, runtime or clock,
            or onnxruntime or onnx is not installed.
    """
    for module in ("onnxruntime", "onnx"):
        require(module, "audionas measure")
    import onnxruntime

    released = open_supernet(supernet)
    space = released.space(seconds)
    runtime = f"onnxruntime {onnxruntime.__version__} float32"
    this = {"device": device_name(), "runtime": runtime, "clock": clock()}
    rows = {row.architecture: row for row in _existing(Path(device), this)}
    chosen = _sample(space, networks)
    left = [each for each in chosen if space.text(each) not in rows]
    busy = _busy() if left else 0.0
    if busy > _BUSY:
        log.warning(
            "this machine is busy: other processes use %.1f cores; latencies will be too high. Stop them, "
            "delete %s and measure again",
            busy,
            device,
        )
    shape = 1, released.frames(seconds), released.features.mels
    x = np.random.default_rng(0).normal(-30, 10, shape).astype(np.float32)
    spreads = []
    with torch.no_grad(), tqdm(total=_ROUNDS * len(chosen), desc="measure", unit="turns") as bar:
        bar.update(_ROUNDS * (len(chosen) - len(left)))
        for start in range(0, len(left), _GROUP):
            group = left[start : start + _GROUP]
            contents = [_onnx(released.network.extracted(each), x) for each in group]
            for each, timing in zip(group, _in_turns(contents, x, repeats, bar), strict=True):
                spreads.append(timing.spread)
                row = Measurement(
                    space.text(each),
                    **this,
                    latency_ms=1e3 * timing.median,
                    energy_uJ=None,
                    repeats=repeats,
                    meter=METER,
                )
                rows[row.architecture] = row
            write_measurements(device, rows.values())
    _tell(spreads)
    return [rows[space.text(each)] for each in chosen]


def _existing(path: Path, this: dict[str, str]) -> list[Measurement]:
    """Return the rows of a device file, all of which must be of this device, runtime and clock."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return []
    rows = read_measurements(path)
    for place, row in rows.items():
        for field, value in this.items():
            if getattr(row, field) != value:
                raise UserError(
                    f"{path}, line {place}: {field} {getattr(row, field)!r}, and this machine has {value!r}; "
                    "give another --device file"
                )
    return list(rows.values())


def _sample(space: FiniteSpace[Configuration], count: int) -> list[Configuration]:
    """Return the smallest and the largest configuration, then random ones; always the same order."""
    order = dict.fromkeys([space.smallest, space.largest, *space.shuffled()])
    return list(order)[:count]


def _onnx(network: nn.Module, x: np.ndarray) -> bytes:
    """Return a network for inputs like x [1, frames, mels] as an ONNX file."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        torch.onnx.export(network.eval(), (torch.from_numpy(x),), content, input_names=["x"], dynamo=False)
    return content.getvalue()


def _session(content: bytes, x: np.ndarray) -> Callable[[], object]:
    """Return a function that runs an ONNX file on x with ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def _in_turns(contents: list[bytes], x: np.ndarray, repeats: int, bar: tqdm) -> list[Timing]:
    """Time networks in turns, so that a slow phase of the machine affects all of them alike."""
    times: list[list[float]] = [[] for _ in contents]
    for turn in range(_ROUNDS):
        runs = repeats * (turn + 1) // _ROUNDS - repeats * turn // _ROUNDS
        for content, of_one in zip(contents, times, strict=True):
            run = _session(content, x)
            for _ in range(_WARM_RUNS):
                run()
            for _ in range(runs):
                start = time.perf_counter()
                run()
                of_one.append(time.perf_counter() - start)
            bar.update()
    found = []
    for of_one in times:
        low, median, high = np.percentile(of_one, [25, 50, 75])
        found.append(Timing(float(median), float(high - low) / float(median)))
    return found


def _tell(spreads: list[float]) -> None:
    if not spreads:
        return
    log.info("spread of the times (quartiles): %.1f %% of the median", 100 * statistics.median(spreads))
    if wide := sum(spread > _SPREAD for spread in spreads):
        log.warning(
            "the times of %d of %d networks spread by more than %.0f %%, so this machine was busy; stop "
            "other processes, delete the file and measure again",
            wide,
            len(spreads),
            100 * _SPREAD,
        )


def _busy() -> float:
    """Return the number of cores that other processes use at the moment."""
    own = psutil.Process()
    before = sum(own.cpu_times()[:2])
    started = time.perf_counter()
    share = psutil.cpu_percent(interval=1.0) / 100 * (psutil.cpu_count() or 1)
    return max(0.0, share - (sum(own.cpu_times()[:2]) - before) / (time.perf_counter() - started))


def device_name() -> str:
    """Return the name of the processor or the board of this machine, without its host name."""
    board = Path("/sys/firmware/devicetree/base/model")
    if board.exists():  # such as Raspberry Pi 5 Model B Rev 1.0
        return line(board.read_text(errors="replace").strip("\0 \n"))
    if sys.platform == "linux":
        for entry in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = entry.partition(":")
            if name.strip() == "model name" and value.strip():
                return line(value)
    return line(platform.processor() or platform.machine() or os.name)


def clock() -> str:
    """Return the highest clock rate of the processor as the system states it."""
    try:
        highest = psutil.cpu_freq().max
    except (AttributeError, NotImplementedError, OSError):
        highest = 0
    return f"{highest / 1e3:.2f} GHz" if highest else "not stated"
