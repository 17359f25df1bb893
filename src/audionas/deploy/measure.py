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
_WARM_RUNS, _WARM_SECONDS = 3, 0.1
_REFERENCE_RUNS = 15
_UNSTEADY = 0.05  # above it a network is measured again
_TRIES, _PAUSE = 5, 1.0  # times a network is measured, and seconds in between
_BUSY = 0.5  # cores that other processes use


class Timing(NamedTuple):
    """Time of one inference.

    Attributes:
        median: in seconds.
        spread: difference of the quartiles, as a share of the median.
        drift: how much slower than at its fastest the machine was before or after, as a share. A reference
            network that always has the same cost shows this.
    """

    median: float
    spread: float
    drift: float = 0.0

    @property
    def unsteadiness(self) -> float:
        """The larger of spread and drift."""
        return max(self.spread, self.drift)


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
    timings: list[Timing] = []
    with torch.no_grad(), tqdm(total=len(chosen), desc="measure", unit="networks") as bar:
        bar.update(len(chosen) - len(left))
        steady = _Steady(_session(released.network.extracted(space.smallest), x)) if left else None
        for each in left:
            timing = steady.timed(_session(released.network.extracted(each), x), repeats)
            timings.append(timing)
            text = space.text(each)
            rows[text] = Measurement(
                text, **this, latency_ms=1e3 * timing.median, energy_uJ=None, repeats=repeats, meter=METER
            )
            write_measurements(device, rows.values())
            bar.update()
    _tell(timings)
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


def _session(network: nn.Module, x: np.ndarray) -> Callable[[], object]:
    """Return a function that runs a network on x [1, frames, mels] with ONNX Runtime on one thread."""
    import onnxruntime

    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        torch.onnx.export(network.eval(), (torch.from_numpy(x),), content, input_names=["x"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(content.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


class _Steady:
    """Times networks, and measures one again while the machine is unsteady.

    Args:
        reference: runs a network whose time shows how fast the machine is at the moment.
    """

    def __init__(self, reference: Callable[[], object]):
        self._reference = reference
        self._fastest = min(_timed(reference, _REFERENCE_RUNS).median for _ in range(_TRIES))

    def timed(self, run: Callable[[], object], repeats: int) -> Timing:
        """Time a network; of several tries, the steadiest counts."""
        best = None
        for number in range(_TRIES):
            if number:
                time.sleep(_PAUSE)
            before = _timed(self._reference, _REFERENCE_RUNS).median
            timing = _timed(run, repeats)
            after = _timed(self._reference, _REFERENCE_RUNS).median
            self._fastest = min(self._fastest, before, after)
            timing = timing._replace(drift=max(before, after) / self._fastest - 1)
            if best is None or timing.unsteadiness < best.unsteadiness:
                best = timing
            if best.unsteadiness <= _UNSTEADY:
                break
        return best


def _timed(run: Callable[[], object], repeats: int) -> Timing:
    """Time a function after a warm-up."""
    warm, runs = time.perf_counter() + _WARM_SECONDS, 0
    while runs < _WARM_RUNS or time.perf_counter() < warm:
        run()
        runs += 1
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    low, high = np.percentile(times, [25, 75])
    return Timing(median, float(high - low) / median)


def _tell(timings: list[Timing]) -> None:
    if not timings:
        return
    spread, drift = (statistics.median(getattr(t, name) for t in timings) for name in ("spread", "drift"))
    log.info("spread of the times (quartiles) %.1f %%, drift %.1f %% (medians)", 100 * spread, 100 * drift)
    unsteady = sum(timing.unsteadiness > _UNSTEADY for timing in timings)
    if unsteady:
        log.warning(
            "%d of %d networks were measured while times varied by more than %.0f %%, so the machine was "
            "busy; stop other processes, delete the file and measure again",
            unsteady,
            len(timings),
            100 * _UNSTEADY,
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
