"""Environments of export targets: those of `make deploy-NAME`, and made-up ones."""

import sys
from pathlib import Path

import numpy as np
import pytest

from audionas.deploy.targets.environments import COMPLETE, python_of
from audionas.runtime.errors import UserError


def require(name: str) -> None:
    """Skip the test if the environment of a target is not set up."""
    try:
        python_of(name)
    except UserError as error:
        pytest.skip(str(error))


def make_up(folder: Path, name: str, script: str) -> Path:
    """Write an environment whose Python runs `script`, which sees the folder of the job as `folder`.

    Returns:
        The value for AUDIONAS_DEPLOY.
    """
    (folder / name / "bin").mkdir(parents=True)
    python = folder / name / "bin" / "python"
    start = "import json, os, pathlib, sys, time\nfolder = pathlib.Path(sys.argv[-1])\n"
    python.write_text(f"#!{sys.executable}\n{start}{script}")
    python.chmod(0o755)
    (folder / name / COMPLETE).touch()
    return folder


#: A script that answers every job with the array `answer.npy` of its environment.
ANSWERS = """
import numpy
here = pathlib.Path(__file__).parent
numpy.savez(folder / "outputs.npz", probabilities=numpy.load(here / "answer.npy"))
for name in ("model.tflite", "model.pte"):
    (folder / name).write_bytes(b"model")
report = {"versions": {}, "tensors": {}, "xnnpack_parts": 1, "portable_operators": []}
(folder / "report.json").write_text(json.dumps(report))
"""


def answering(folder: Path, name: str, answer: np.ndarray) -> Path:
    """Write an environment that answers every job with `answer`; see `make_up`."""
    made = make_up(folder, name, ANSWERS)
    np.save(made / name / "bin" / "answer.npy", answer)
    return made
