"""Measure the latency of networks of a supernet on this machine, with ONNX Runtime on one thread."""

from __future__ import annotations

import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import nn
from tqdm import tqdm

from audionas.compression.quantization import quantize
from audionas.deploy.devices.table import Measurement, file_text, read_measurements, write_measurements
from audionas.deploy.onnx_files import completed, encoded, network_graph, session_options
from audionas.deploy.supernets import open_supernet
from audionas.deploy.waveform import Described
from audionas.models.files import load_model
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
    dtype: str = "float32",
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
        dtype: `float32`, or `int8` for the time after static quantization.

    Returns:
        The rows of these networks.

    Raises:
        UserError: the supernet or the file cannot be used, the file is of another device, runtime or clock,
            or onnxruntime or onnx is not installed.
    """
    this = _this(dtype)
    released = open_supernet(supernet)
    space = released.space(seconds)
    rows = {row.architecture: row for row in _existing(Path(device), this)}
    chosen = _sample(space, networks)
    left = [each for each in chosen if space.text(each) not in rows]
    _warn_if_busy(device, left)
    shape = 1, released.frames(seconds), released.features.mels
    x = np.random.default_rng(0).normal(-30, 10, shape).astype(np.float32)
    spreads = []
    with torch.no_grad(), tqdm(total=2 * _ROUNDS * len(chosen), desc="measure", unit="steps") as bar:
        bar.update(2 * _ROUNDS * (len(chosen) - len(left)))
        for start in range(0, len(left), _GROUP):
            group = left[start : start + _GROUP]
            contents = []
            for each in group:
                contents.append(_onnx(released.network.extracted(each), released.about, x, dtype))
                bar.update(_ROUNDS)  # the export takes as long as the measurement
            inputs = [x] * len(group)
            for each, timing in zip(group, _in_turns(contents, inputs, repeats, bar), strict=True):
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


def measure_files(
    models: Sequence[str | Path], device: str | Path, *, repeats: int = 30, dtype: str = "float32"
) -> list[Measurement]:
    """Measure whole networks, with their front end, on one clip, and add them to a device file.

    Args:
        models: model files of networks.
        device, repeats, dtype: as in `measure`. A file may have the rows of both types.

    Returns:
        The rows of these networks.

    Raises:
        UserError: as in `measure`, or a model file is missing, damaged or of a supernet.
    """
    this = _this(dtype)
    rows = {
        (row.architecture, row.runtime): row for row in _existing(Path(device), this, ("device", "clock"))
    }
    loaded = [load_model(path) for path in models]
    described = [Described.of(about, path) for (_, about), path in zip(loaded, models, strict=True)]
    texts = [file_text(network.name, network.spec, about["settings"]) for network, about in loaded]
    left = [place for place, text in enumerate(texts) if (text, this["runtime"]) not in rows]
    _warn_if_busy(device, left)
    contents, inputs = [], []
    for place in left:
        (network, about), one = loaded[place], described[place]
        contents.append(_whole(network, about, one, dtype))
        samples = round(one.audio.sample_rate * one.audio.clip_seconds)
        inputs.append(np.random.default_rng(0).normal(0, 0.1, (1, samples)).astype(np.float32))
    with tqdm(total=_ROUNDS * len(left), desc="measure", unit="steps") as bar:
        timings = _in_turns(contents, inputs, repeats, bar)
    for place, timing in zip(left, timings, strict=True):
        row = Measurement(
            texts[place], **this, latency_ms=1e3 * timing.median, energy_uJ=None, repeats=repeats, meter=METER
        )
        rows[row.architecture, row.runtime] = row
    if left:
        write_measurements(device, rows.values())
    _tell([timing.spread for timing in timings])
    return [rows[text, this["runtime"]] for text in texts]


def _whole(network: nn.Module, about: dict[str, Any], described: Described, dtype: str) -> bytes:
    """Return a network for waveforms as an ONNX file; int8 ranges are those of noise."""
    graph, shortest = network_graph(network, about)
    if dtype == "int8":
        samples = round(described.audio.sample_rate * described.audio.clip_seconds)
        noise = np.random.default_rng(0).normal(0, 0.1, (1, samples)).astype(np.float32)
        logmel = described.logmel()
        graph = quantize(graph, [noise if logmel is None else logmel(torch.from_numpy(noise)).numpy()])
    return encoded(completed(graph, about, shortest, quantized=dtype == "int8"))


def _this(dtype: str) -> dict[str, str]:
    """Return the columns that describe this machine and runtime."""
    for module in ("onnxruntime", "onnx"):
        require(module, "audionas measure")
    import onnxruntime

    runtime = f"onnxruntime {onnxruntime.__version__} {dtype}"
    return {"device": device_name(), "runtime": runtime, "clock": clock()}


def _warn_if_busy(device: str | Path, left: Sequence) -> None:
    busy = _busy() if left else 0.0
    if busy > _BUSY:
        log.warning(
            "this machine is busy: other processes use %.1f cores; latencies will be too high. Stop them, "
            "delete %s and measure again",
            busy,
            device,
        )


def _existing(path: Path, this: dict[str, str], fields: Sequence[str] = ()) -> list[Measurement]:
    """Return the rows of a device file. All must agree with `this`, in `fields` if they are given."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return []
    rows = read_measurements(path)
    for place, row in rows.items():
        for field in fields or this:
            value = this[field]
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


def _onnx(network: nn.Module, about: dict[str, Any], x: np.ndarray, dtype: str) -> bytes:
    """Return a network for features as an ONNX file; int8 ranges are those of x."""
    model, _ = network_graph(network, about)
    return encoded(model if dtype == "float32" else quantize(model, [x]))


def _session(content: bytes, x: np.ndarray) -> Callable[[], object]:
    """Return a function that runs an ONNX file on x with ONNX Runtime, on one thread."""
    import onnxruntime

    options = session_options(threads=1)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})


def _in_turns(contents: list[bytes], inputs: list[np.ndarray], repeats: int, bar: tqdm) -> list[Timing]:
    """Time networks in turns, so that a slow phase of the machine affects all of them alike."""
    times: list[list[float]] = [[] for _ in contents]
    for turn in range(_ROUNDS):
        runs = repeats * (turn + 1) // _ROUNDS - repeats * turn // _ROUNDS
        for content, x, of_one in zip(contents, inputs, times, strict=True):
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
