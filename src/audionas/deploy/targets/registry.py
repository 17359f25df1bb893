"""Registry of the formats of `audionas export`. It imports no format, so that the command line starts fast.

To add a format, write a module with a function `export` and add an entry to `TARGETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from audionas.runtime.errors import UserError


class Target(NamedTuple):
    """A format of exported networks.

    The module has a function `export(network, about, path, *, input, quantized, calibration, recordings,
    source_sha256)`. It writes `path`, or nothing if it raises UserError. It returns a report: a dictionary
    of plain values, in which `text` holds lines to print.

    - network, about: a network in eval mode and the metadata of its model file.
    - path: what to write, a `pathlib.Path`.
    - input: `waveform` or `features`.
    - quantized: whether to write int8; `calibration` is then not None.
    - calibration: training clips, float32 waveforms [clips, samples] or log-mel [clips, frames, mels].
    - recordings: waveforms to compare on, float32 [clips, samples], or None for test signals.
    - source_sha256: digest of the model file.
    - labelled: given only to ONNX, and only if the user gives one: a `ClipStore` to compare accuracy on.

    Attributes:
        module: full name of the module.
        quantized: see above.
        setup: name of the make target that installs what the format needs; empty for the extra `deploy`.
        help: one line.
    """

    module: str
    quantized: bool
    setup: str
    help: str


_HERE = "audionas.deploy.targets"
TARGETS = {
    "onnx": Target(f"{_HERE}.onnx", False, "", "ONNX, float32"),
    "onnx-int8": Target(f"{_HERE}.onnx", True, "", "ONNX, int8 weights and activations"),
    "litert": Target(f"{_HERE}.litert", False, "deploy-litert", "LiteRT (.tflite), float32"),
    "litert-int8": Target(f"{_HERE}.litert", True, "deploy-litert", "LiteRT (.tflite), int8"),
    "executorch": Target(f"{_HERE}.executorch", False, "deploy-executorch", "ExecuTorch (.pte), float32"),
    "sherpa": Target(f"{_HERE}.sherpa", False, "deploy-sherpa", "a folder for sherpa-onnx, float32"),
}

#: End of the name of a file; a folder has none.
SUFFIXES = {
    "onnx": ".onnx",
    "onnx-int8": ".onnx",
    "litert": ".tflite",
    "litert-int8": ".tflite",
    "executorch": ".pte",
    "sherpa": "",
}


def exporter(name: str) -> Callable[..., dict]:
    """Import a format and return its function `export`.

    Raises:
        UserError: it is not installed.
    """
    target = TARGETS[name]
    if find_spec(target.module) is None:
        raise UserError(f"--format {name}: the target is not installed; run `make {target.setup}`")
    return import_module(target.module).export
