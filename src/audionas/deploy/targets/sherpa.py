"""Export to a folder for the audio tagging of sherpa-onnx, in float.

sherpa-onnx (its app, and SDKs for Android, iOS, C, Java, Dart and others) computes log-mel itself and runs a
model on it. Its slot for CED models takes `[1, mels, frames]` and fixes the front end: 16 kHz, 64 mels of
Kaldi every 10 ms. Another front end cannot be computed from these values, so the network must be trained on
them: `features.front_end: ced`, as in `profiles/sherpa.yaml`.

The environment of `make deploy-sherpa` runs the folder. It is compared with PyTorch before it gets its name.
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from audionas.deploy import onnx_files
from audionas.deploy.parity import test_signals
from audionas.deploy.targets.environments import python_of, run_on
from audionas.deploy.targets.files import compare, parity_text
from audionas.deploy.targets.programs import Source
from audionas.deploy.waveform import Described, shortest_input
from audionas.runtime.errors import UserError
from audionas.runtime.extras import optional
from audionas.runtime.files import new_folder
from audionas.runtime.text import line

NAME = "sherpa"
#: Largest difference of a probability from PyTorch's. sherpa-onnx has another FFT in float32, so that quiet
#: bands beside loud ones differ more than within one implementation.
TOLERANCE = 1e-3
#: What sherpa-onnx computes for a CED model.
SAMPLE_RATE = 16_000
FEATURES = {"n_fft": 512, "hop": 160, "mels": 64, "fmin": 0.0, "fmax": 8_000.0, "front_end": "ced"}
MODEL, LABELS, METADATA = (
    "model.onnx",
    "class_labels_indices.csv",
    "audionas.json",
)  # the first two: sherpa's names
_SILENCE = -100.0  # dB, the floor of log-mel


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
    """Write the folder `path`: the model, its labels, and metadata; see `targets.registry`.

    Args:
        network, about, path: the network, the metadata of its model file, and what to write.
        input: without effect, because sherpa-onnx computes the features.
        quantized, calibration: not supported.
        recordings: waveforms [clips, samples] to compare on; by default test signals.
        source_sha256: digest of the model file.

    Returns:
        The report, which `audionas.json` holds: parity and versions. `text` has lines to print.

    Raises:
        UserError: the environment is missing, the network has another front end, or the folder differs from
            PyTorch by more than the tolerance. Nothing is written then.
    """
    path = Path(path)
    if quantized:
        raise UserError(f"{path}: folders for sherpa-onnx are float32; use `--format onnx-int8` for int8")
    source = Source(network, about, "waveform", path)
    _require_front_end(source, path)
    if path.exists() and not _is_exported(path):
        raise UserError(f"{path}: exists and is not an exported folder; remove it, or choose another name")
    python_of(NAME)
    compared = test_signals(source.rate, source.samples) if recordings is None else recordings
    names = [line(name) for name in about.get("names") or source.described.classes]
    content = _onnx(network, about, path)
    with tempfile.TemporaryDirectory() as temporary, new_folder(path) as made:
        (made / MODEL).write_bytes(content)
        (made / LABELS).write_text(_labels(source.described.classes, names), encoding="utf-8")
        folder = Path(temporary)
        job = {
            "model": str(made.resolve()),
            "file": MODEL,
            "labels": LABELS,
            "names": names,
            "rate": source.rate,
        }
        report, found = run_on(NAME, folder, job, compared)
        parity = compare(path, source.probabilities(compared), found, largest=TOLERANCE)
        versions = report["versions"]
        metadata = {
            "about": about,
            "from_sha256": source_sha256,
            "made": {"by": f"audionas {version('audionas')}", "versions": versions},
            "parity": parity,
        }
        (made / METADATA).write_text(json.dumps(metadata, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return {**metadata, "text": f"{path}: {len(content):,} bytes, {parity_text(parity)}"}


def _is_exported(path: Path) -> bool:
    """Return whether a folder has all files of an export and no other, so that it can be replaced."""
    return path.is_dir() and {one.name for one in path.iterdir()} == {MODEL, LABELS, METADATA}


def _require_front_end(source: Source, path: Path) -> None:
    """Raise UserError unless the network was trained on what sherpa-onnx computes."""
    features = source.described.features
    if features is None:
        raise UserError(
            f"{path}: the network takes waveforms, but sherpa-onnx gives log-mel; use `--format onnx`"
        )
    own = {"front_end": "panns", **features.model_dump(), "sample_rate": source.rate}
    wanted = {**FEATURES, "sample_rate": SAMPLE_RATE}
    different = [f"{key} {own[key]} instead of {value}" for key, value in wanted.items() if own[key] != value]
    if different:
        raise UserError(
            f"{path}: sherpa-onnx computes other features than the network was trained on: "
            f"{', '.join(different)}; train with profiles/sherpa.yaml, or use `--format onnx`"
        )


def _labels(classes: list[str], names: list[str]) -> str:
    """Return the table of labels: sherpa-onnx takes the text between the quotes as it is."""
    rows = [
        f'{i},{line(one).replace(",", " ")},"{name}"'
        for i, (one, name) in enumerate(zip(classes, names, strict=True))
    ]
    return "\n".join(["index,mid,display_name", *rows]) + "\n"


def _onnx(network: nn.Module, about: dict[str, Any], path: Path) -> bytes:
    """Return the ONNX file of [batch, mels, frames], which pads clips that are too short with silence."""
    with optional(str(path)):
        import onnx

    model = onnx_files.build(network, about, "features", where=path)
    described = Described.of(about, path)
    graph, make = model.graph, onnx.helper.make_node
    inner = graph.input[0].name
    constants = {
        "frame_axis": np.array([1]),
        "shortest": np.array([shortest_input(network, described)]),
        "zero": np.array([0]),
        "silence": np.array(_SILENCE, np.float32),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    before = [
        make("Transpose", ["mels_first"], ["frames_first"], perm=[0, 2, 1]),
        make("Shape", ["frames_first"], ["shape"]),
        make("Gather", ["shape", "frame_axis"], ["frames"]),
        make("Sub", ["shortest", "frames"], ["lacking"]),
        make("Max", ["lacking", "zero"], ["after"]),
        make("Concat", [*["zero"] * 4, "after", "zero"], ["pads"], axis=0),
        make("Pad", ["frames_first", "pads", "silence"], [inner]),
    ]
    nodes = [*before, *graph.node]
    del graph.node[:], graph.input[:], model.metadata_props[:]  # the metadata describe another input
    graph.node.extend(nodes)
    shape = ["batch", described.features.mels, "frames"]
    graph.input.append(onnx.helper.make_tensor_value_info("mels_first", onnx.TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return onnx_files.encoded(model)
