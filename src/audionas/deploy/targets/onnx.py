"""Export to ONNX, in float32 or int8; see `audionas.deploy.onnx_files`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from audionas.compression.quantization import quantize
from audionas.deploy import onnx_files, parity
from audionas.deploy.waveform import Described
from audionas.runtime.errors import UserError

if TYPE_CHECKING:
    from onnx import ModelProto

    from audionas.data.store import ClipStore

log = logging.getLogger(__name__)

_BATCH = 8
#: Largest loss of the metric (mAP or accuracy, from 0 to 1) by int8 on labelled clips.
LOSS = 0.015


def export(
    network: nn.Module,
    about: dict[str, Any],
    path: Path,
    *,
    input: str = "waveform",
    quantized: bool = False,
    calibration: np.ndarray | None = None,
    recordings: np.ndarray | None = None,
    source_sha256: str | None = None,
    labelled: ClipStore | None = None,
    required: bool = True,
    graph: tuple[ModelProto, int] | None = None,
) -> dict[str, Any]:
    """Write a network to an ONNX file after a comparison with PyTorch; see `targets.registry.Target`.

    Args:
        network, about, path, input, quantized, calibration, recordings, source_sha256, labelled: see there.
        required: False writes a file that differs by more than the tolerance as well, with a warning. It is
            for a caller that measures the accuracy of the file.
        graph: the result of `onnx_files.network_graph`, if the caller has it.

    Raises:
        UserError: an operator cannot be exported, the calibration clips cannot be used, or the file differs
            from PyTorch by more than the tolerance. Nothing is written then.
    """
    described = Described.of(about, path)
    network = network.eval()
    net, shortest = graph or onnx_files.network_graph(network, about, path)
    if quantized:
        net = quantize(net, _inputs(calibration, described, shortest, path), path)

    def finished(kind: str):
        return onnx_files.completed(net, about, shortest, kind, source_sha256, quantized, path)

    def runner(model, **options) -> onnx_files.OnnxModel:
        return onnx_files.OnnxModel(path, content=onnx_files.encoded(model), **options)

    def compare(of: onnx_files.OnnxModel) -> parity.Parity:
        return parity.compare(
            network,
            described,
            of.probabilities,
            quantized=quantized,
            features=input == "features",
            recordings=recordings,
            shortest=described.samples_of(shortest),
        )

    model = finished(input)
    found = compare(runner(model))
    text, report = [found.text()], {"parity": found.summary()}
    _require(found, path, required)
    if quantized:
        exact = compare(runner(model, exact=True))
        _require(exact, path, required)
        text.append(
            f"mean difference in exact arithmetic: {exact.measured:.1e}; with the integer kernels of this "
            f"machine: {found.measured:.1e}"
        )
    if labelled is not None:
        kind = "waveform" if len(labelled.data.shape) == 2 else "features"
        same = model if kind == input else finished(kind)
        text.append(
            _accuracy(network, described, runner(same, exact=quantized), labelled, quantized, path, required)
        )
    onnx_files.annotate(model, **report)
    onnx_files.write(model, path)
    return {**report, "bytes": path.stat().st_size, "text": "\n".join(text)}


def _require(found: parity.Parity, path: Path, required: bool) -> None:
    try:
        found.require(path)
    except UserError:
        if required:
            raise
        log.warning(
            "%s: int8 differs from PyTorch by %.2g on average on %s; see its accuracy in the table of files",
            path.name,
            found.measured,
            found.source,
        )


def _accuracy(
    network: nn.Module,
    described: Described,
    model: onnx_files.OnnxModel,
    store: ClipStore,
    quantized: bool,
    path: Path,
    required: bool,
) -> str:
    """Compare the metric of the task on labelled clips; int8 in exact arithmetic.

    Raises:
        UserError: the store is of another study, or int8 loses too much.
    """
    from audionas.deploy.evaluation import predict
    from audionas.evaluation import prediction

    after = described.task.metric(store.labels, predict(model, store))
    if described.features is None or model.input == "features":
        whole: nn.Module = network
    else:
        whole = nn.Sequential(described.logmel(), network)
    before = described.task.metric(
        store.labels, prediction.predict(whole, store, 16, described.task.activation)
    )
    name = described.task.metric_name
    if quantized and not before - after <= LOSS:
        why = (
            f"{name} on {store.path} falls from {100 * before:.1f} to {100 * after:.1f}, by more than "
            f"{100 * LOSS:g}; calibrate on clips like those in training"
        )
        if required:
            raise UserError(f"{path}: not written: {why} (--calibration)")
        log.warning("%s: %s", path.name, why)
    return f"{name} on {store.path}: PyTorch {100 * before:.2f}, exported {100 * after:.2f}"


def _inputs(
    calibration: np.ndarray | None, described: Described, shortest: int, path: Path
) -> Iterator[np.ndarray]:
    """Yield calibration clips as inputs of the network, in batches."""
    if calibration is None or not len(calibration):
        raise UserError(f"{path}: int8 needs training clips to calibrate on; give them with --calibration")
    logmel, waveforms = described.logmel(), calibration.ndim == 2
    if not waveforms and (logmel is None or calibration.shape[2] != described.features.mels):
        raise UserError(
            f"{path}: calibration clips of shape {calibration.shape[1:]} are not the input of this network; "
            "give waveforms, or log-mel of its settings"
        )
    least, unit = (described.samples_of(shortest), "samples") if waveforms else (shortest, "frames")
    if calibration.shape[1] < least:
        raise UserError(
            f"{path}: calibration clips of {calibration.shape[1]} {unit} are shorter than the network's "
            f"shortest input, {least}; give longer clips"
        )
    for start in range(0, len(calibration), _BATCH):
        batch = np.asarray(calibration[start : start + _BATCH], np.float32)
        if waveforms and logmel is not None:
            batch = logmel(torch.from_numpy(batch)).numpy()
        yield batch
