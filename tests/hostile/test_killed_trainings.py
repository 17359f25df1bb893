"""Thirty SIGKILLs and ten terminations of a training, at any instant: the result is that of a run without."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from projects import until
from together import OFTEN_STOPPED, python

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path)


def test_thirty_kills_and_ten_terminations_leave_no_trace(project):
    settings = {**tiny.PARAMS["training"], "valid_every": 100, "checkpoint_seconds": 0.05}
    tiny.make(Path(), teacher={"iterations": 400}, training=settings)
    run = [sys.executable, "-m", "audionas", "teacher", "--seed", "0"]
    subprocess.run(run, check=True, capture_output=True)
    outputs = [Path("models/teacher/0.pt"), *Path("results/curves/teacher/0").rglob("*.*")]
    whole = {path: path.read_bytes() for path in outputs}
    assert len(whole) > 3
    outputs[0].unlink()
    codes = [code for [code] in ast.literal_eval(python(OFTEN_STOPPED.format(ranks=1)))]
    assert len(codes) == 41 and codes[-1] == 0, codes
    assert codes.count(-9) == 30 and codes.count(75) == 10, codes
    assert {path: path.read_bytes() for path in outputs} == whole
    assert not list(Path(".state").iterdir()) and not list(Path("models/teacher").glob(".*"))


def test_thirty_kills_and_ten_terminations_of_two_ranks_leave_no_trace(project):
    settings = {**tiny.PARAMS["training"], "valid_every": 100, "checkpoint_seconds": 0.05}
    tiny.make(Path(), teacher={"iterations": 200}, training=settings)
    outputs = ["models/teacher/0.pt", "results/curves/teacher/0/plots/metrics/loss.tsv"]

    def whole() -> list[bytes]:
        return [Path(output).read_bytes() for output in outputs]

    python(
        "import together; from audionas.cli import main\n"
        "codes = together.end(together.start(lambda: main(['teacher', '--seed', '0']), 2))\n"
        "assert not any(codes), codes"
    )
    expected = whole()
    Path(outputs[0]).unlink()
    codes = [tuple(pair) for pair in ast.literal_eval(python(OFTEN_STOPPED.format(ranks=2)))]
    assert len(codes) == 41 and codes[-1] == (0, 0), codes
    assert sum(-9 in pair for pair in codes) == 30 and codes.count((75, 75)) == 10, codes
    assert whole() == expected
    assert not list(Path(".state").iterdir()) and not list(Path("models/teacher").glob(".*"))


def alive(folder: Path) -> list[int]:
    """Return the processes of the project's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve() and process.name != str(os.getpid()):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 75), (signal.SIGKILL, -9)])
def test_a_stopped_launcher_leaves_a_checkpoint_and_no_rank_behind(project, tmp_path, number, code):
    # Each iteration is saved, so that the training is slower than this test.
    training = {**tiny.PARAMS["training"], "gpus": 2, "valid_every": 100, "checkpoint_seconds": 0.0}
    tiny.make(Path(), teacher={"iterations": 80}, training=training)
    command = [sys.executable, "-m", "audionas", "teacher", "--seed", "0"]
    default = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    ended = 0
    while not ended:  # 0: the training ended before the signal; try again
        Path("models/teacher/0.pt").unlink(missing_ok=True)
        process = subprocess.Popen(command, start_new_session=True, **default)
        until(lambda: process.poll() is not None or [*Path(".state").glob("*.pt")], "a checkpoint")  # noqa: B023
        running = alive(tmp_path)
        if number == signal.SIGINT:  # as in a terminal: the ranks receive it directly and from their launcher
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        ended = process.wait(600)
    assert ended == code and len(running) == 3
    until(lambda: not alive(tmp_path), "the end of the ranks")
    assert list(Path(".state").glob("teacher-0-*.pt"))
    if code == 75:
        subprocess.run(command, check=True)
        assert Path("models/teacher/0.pt").exists() and not list(Path(".state").iterdir())
