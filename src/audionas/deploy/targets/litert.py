"""Export to LiteRT (`.tflite`), in float or int8, with memory on microcontrollers and latency on Ethos-U.

The environment of `make deploy-litert` converts (litert-torch), quantizes (ai-edge-quantizer), runs
(ai-edge-litert) and measures the file: the arena of TFLite Micro, and Arm's compiler Vela. The file is
compared with PyTorch before anything is written.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from audionas.deploy.parity import FLOAT, INT8, test_signals
from audionas.deploy.targets.environments import python_of, run_on
from audionas.deploy.targets.files import compare, parity_text, write
from audionas.deploy.targets.programs import Source

NAME = "litert"
#: Largest mean difference of int8 on test signals, which are unlike the clips that the ranges come from.
INT8_SIGNALS = 2 * INT8
CALIBRATION_CLIPS, COMPARED = 128, 16
#: Parts of a network of waveforms that stay in float32, by their scope in the file.
_FLOAT = r".*(FixedFrontEnd_|Normalised_).*"


def export(
    network: nn.Module,
    about: dict[str, Any],
    path: str | Path,
    *,
    input: str = "waveform",
    quantized: bool = False,
    calibration: np.ndarray | None = None,
    recordings: np.ndarray | None = None,
    source_sha256: str | None = None,
) -> dict[str, Any]:
    """Write `path`, with `.labels.txt` and `.json` beside it; see `targets.registry`.

    Args:
        network, about, path: the network, the metadata of its model file, and what to write.
        input: waveform, or features (log-mel in dB); of one clip of the length of the training clips.
        quantized: int8 weights per channel and int8 activations. With waveforms, the front end stays in float
            and so do input and output. With features, all is int8, as a microcontroller or an NPU needs.
        calibration: training clips for int8, waveforms [clips, samples] or log-mel [clips, frames, mels].
        recordings: waveforms [clips, samples] to compare on; by default the last calibration clips where the
            file takes their form, else test signals.
        source_sha256: digest of the model file.

    Returns:
        The report, which the `.json` file holds: tensors, parity, memory, NPUs, versions. `text` has lines to
        print.

    Raises:
        UserError: the environment is missing, the calibration clips are missing or silent, an operation
            cannot be converted, or the file differs from PyTorch by more than the tolerance. Nothing is
            written then.
    """
    python_of(NAME)
    source = Source(network, about, input, path)
    limits = {"mean": INT8} if quantized else {"largest": FLOAT}
    clips = source.sound_features(calibration) if quantized else None
    if recordings is not None:
        compared, expected = source.inputs(recordings), source.probabilities(recordings)
    elif quantized and input == source.features:
        compared = clips[-COMPARED:]
        expected = source.probabilities_of(compared)
    elif quantized and calibration.ndim == 2:
        compared, expected = calibration[-COMPARED:], source.probabilities(calibration[-COMPARED:])
    else:
        test = test_signals(source.rate, source.samples)
        compared, expected = source.inputs(test), source.probabilities(test)
        limits = {"mean": INT8_SIGNALS} if quantized else limits
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source.save(folder / "program.pt2")
        if quantized:
            Source(network, about, source.features, path).save(folder / "calibrated.pt2")
            np.savez(folder / "calibration.npz", inputs=clips[:CALIBRATION_CLIPS])
        job = {
            "input": input,
            "quantized": quantized,
            "calibrated": source.features,
            "float": _FLOAT if quantized and input != source.features else None,
        }
        report, found = run_on(NAME, folder, job, compared)
        parity = compare(path, expected, found, **limits)
        if "micro" in report:
            report["micro"] = _micro(report["micro"], found[0])
        content = (folder / "model.tflite").read_bytes()
    report = {"quantized": quantized, "from_sha256": source_sha256, "parity": parity, **report}
    metadata = write(path, content, source, report)
    return {**metadata, "text": "\n".join(_text(path, metadata, len(content)))}


def _micro(micro: dict[str, Any], expected: np.ndarray) -> dict[str, Any]:
    """Replace TFLite Micro's probabilities of the first clip by their difference from LiteRT's."""
    if "failed" in micro:
        return micro
    difference = np.abs(np.asarray(micro["probabilities"]) - expected).max()
    return {"arena_bytes": micro["arena_bytes"], "largest_difference_from_litert": float(difference)}


def _text(path: str | Path, report: dict[str, Any], size: int) -> list[str]:
    """Return the report as lines."""
    lines = [f"{path}: {size:,} bytes, {parity_text(report['parity'])}"]
    micro = report.get("micro", {})
    if "arena_bytes" in micro:
        lines.append(f"TFLite Micro: an arena of {micro['arena_bytes']:,} bytes")
    elif micro:
        lines.append(f"TFLite Micro cannot run it: {micro['failed']}")
    for name, npu in report.get("npu", {}).items():
        if "failed" in npu:
            lines.append(f"{name}: Vela cannot compile it: {npu['failed']}")
            continue
        counts = npu["operators"]
        lines.append(
            f"{name} (estimated by Vela): {npu['latency_ms']:.2f} ms at {npu['clock_hz'] / 1e6:g} MHz, "
            f"{npu['sram_bytes']:,} bytes of SRAM, {counts['npu']} of "
            f"{sum(counts.values())} operators on the NPU"
        )
    return lines
