"""Export to ExecuTorch (`.pte`), for the XNNPACK backend, in float.

The environment of `make deploy-executorch` converts the network and runs the file. The file is compared with
PyTorch before anything is written.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from audionas.deploy.parity import FLOAT, test_signals
from audionas.deploy.targets.environments import python_of, run_on
from audionas.deploy.targets.files import compare, parity_text, write
from audionas.deploy.targets.programs import Source
from audionas.runtime.errors import UserError

NAME = "executorch"


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
        quantized, calibration: not supported.
        recordings: waveforms [clips, samples] to compare on; by default test signals.
        source_sha256: digest of the model file.

    Returns:
        The report, which the `.json` file holds: parity, operators, versions. `text` has lines to print.

    Raises:
        UserError: the environment is missing, an operation cannot be converted, or the file differs from
            PyTorch by more than the tolerance. Nothing is written then.
    """
    if quantized:
        raise UserError(f"{path}: ExecuTorch files are float32; use `--format litert-int8` for int8")
    python_of(NAME)
    source = Source(network, about, input, path)
    compared = test_signals(source.rate, source.samples) if recordings is None else recordings
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source.save(folder / "program.pt2")
        report, found = run_on(NAME, folder, {}, source.inputs(compared))
        parity = compare(path, source.probabilities(compared), found, largest=FLOAT)
        content = (folder / "model.pte").read_bytes()
    report = {"quantized": False, "from_sha256": source_sha256, "parity": parity, **report}
    metadata = write(path, content, source, report)
    portable = len(report["portable_operators"])
    text = [
        f"{path}: {len(content):,} bytes, {parity_text(parity)}",
        f"XNNPACK runs {report['xnnpack_parts']} parts; portable kernels run {portable} operators",
    ]
    return {**metadata, "text": "\n".join(text)}
