"""Environments of their own for packages that conflict with ours, and the scripts that run in them.

`make deploy-NAME` sets up `.deploy/NAME`. A script in `drivers/` is run there and gets a folder, which holds
`job.json`, arrays in `.npz` files and a program of `torch.export`. It writes its results to the same folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from audionas.runtime.errors import UserError, os_error

#: Written at the end of the set-up.
COMPLETE = "complete"
_ROOT = Path(__file__).resolve().parents[4]
_DRIVERS = Path(__file__).resolve().parent / "drivers"
_SECONDS = 1_800  # limit for one conversion
_LINES = 12  # of a failed script's error output that are shown


def python_of(name: str) -> Path:
    """Return the Python of an environment.

    It is looked for in the folder of the variable AUDIONAS_DEPLOY if that is set, else in `.deploy` of the
    working directory, then in `.deploy` of the repository.

    Args:
        name: litert, executorch or sherpa.

    Raises:
        UserError: the environment is missing or incomplete.
    """
    given = os.environ.get("AUDIONAS_DEPLOY")
    folders = [Path(given)] if given else [Path.cwd() / ".deploy", _ROOT / ".deploy"]
    for folder in folders:
        if (folder / name / COMPLETE).is_file():
            return folder / name / "bin" / "python"
    raise UserError(
        f"the target {name} is not installed: {folders[0] / name} is missing or incomplete; run "
        f"`make deploy-{name}` in the repository"
    )


def run_driver(name: str, folder: Path, job: dict[str, Any], seconds: float = _SECONDS) -> dict[str, Any]:
    """Run the script `drivers/NAME.py` in its environment, and return the report that it writes.

    Args:
        name: of the environment and of its script.
        folder: for the files of the job.
        job: plain values for the script.
        seconds: time limit.

    Raises:
        UserError: the environment is missing, the script failed, or it took too long.
    """
    python = python_of(name)
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    report, errors = folder / "report.json", folder / "stderr.txt"
    # Isolated: neither the working directory nor PYTHONPATH adds modules.
    command = [str(python), "-I", str(_DRIVERS / f"{name}.py"), str(folder)]
    with errors.open("wb") as stderr:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
                env=_environment(python),
            )
        except OSError as error:
            raise os_error(error, python) from None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise UserError(
                f"{name}: the conversion took more than {seconds:g} s and was stopped; run it on a less busy "
                "machine, or export a smaller network"
            ) from None
        except BaseException:  # such as Ctrl-C, which does not reach the other session
            _kill(process)
            raise
    if code or not report.is_file():
        raise UserError(f"{name}: the script failed (exit code {code}):\n{_end(errors)}")
    return json.loads(report.read_text(encoding="utf-8"))


def run_on(
    name: str, folder: Path, job: dict[str, Any], inputs: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """Run a script that also runs the exported file on inputs [clips, …]; see `run_driver`.

    Returns:
        The report of the script, and the probabilities [clips, classes].
    """
    np.savez(folder / "inputs.npz", inputs=inputs)
    report = run_driver(name, folder, job)
    with np.load(folder / "outputs.npz") as arrays:
        return report, arrays["probabilities"]


def run_model(name: str, path: str | Path, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    """Run an exported file in its environment.

    Args:
        name: of the environment.
        path: the file.
        inputs: float32 [clips, …], waveforms or features as the file takes them.

    Returns:
        Probabilities [clips, classes], and the median time for a clip in ms.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = {"model": str(Path(path).resolve())}
        report, probabilities = run_on(name, folder, job, inputs.astype(np.float32))
        return probabilities, report["milliseconds"]


def _environment(python: Path) -> dict[str, str]:
    """Return the environment variables for a script: its own programs, and no settings of Python."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    path = os.pathsep.join([str(python.parent), kept.get("PATH", os.defpath)])
    return {
        **kept,
        "PATH": path,
        "PYTHONWARNINGS": "ignore",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _kill(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _end(errors: Path) -> str:
    """Return the last lines of a script's output, indented; the last one usually names the operator."""
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n".join(f"  {line[:300]}" for line in lines[-_LINES:]) or "  (no output)"
