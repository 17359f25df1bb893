"""Training resumes after kills, signals, time limits, damaged files and a full disk."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from audionas.cli import main
from audionas.runtime import interruption
from audionas.runtime.errors import UserError
from audionas.systems.once_for_all.stages import supernet, teacher
from audionas.training.checkpoint import Checkpoint
from audionas.training.objectives.supervised import Supervised


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path)


def test_a_damaged_checkpoint_is_reported_and_training_begins_anew(tmp_path, caplog):
    checkpoint = Checkpoint("run", "key", tmp_path)
    assert checkpoint.load() is None
    checkpoint.save({"iteration": 3})
    assert checkpoint.load() == {"iteration": 3}
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:50])
    assert checkpoint.load() is None and "damaged" in caplog.text


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
    checkpoint = Checkpoint("run", "key", tmp_path)
    for iteration in (3, 4, 5):
        checkpoint.save({"iteration": iteration})
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:50])
    assert checkpoint.load() == {"iteration": 4} and "trying the previous checkpoint" in caplog.text
    checkpoint.path.unlink()  # as after a kill between the two renames
    assert checkpoint.load() == {"iteration": 4}
    checkpoint.remove()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    Checkpoint("run", "one", tmp_path).save({"iteration": 3})
    (tmp_path / "run-one.pt").rename(tmp_path / "run-two.pt")
    with pytest.raises(UserError, match=r"run-two\.pt: this checkpoint is of another configuration"):
        Checkpoint("run", "two", tmp_path).load()


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_full_disk_is_said_in_words_and_the_last_checkpoint_stays(tmp_path, monkeypatch, error):
    checkpoint = Checkpoint("run", "key", tmp_path)
    checkpoint.save({"iteration": 3})
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(UserError, match=r"could not be written .*; free disk space"):
        checkpoint.save({"iteration": 4})
    assert checkpoint.load() == {"iteration": 3} and len(list(tmp_path.iterdir())) == 1


def test_the_time_limit_stops_with_a_checkpoint_and_the_restart_code(project, monkeypatch, capsys):
    teacher.run(project, seed=0)
    whole = Path("models/teacher/0.pt").read_bytes()
    Path("models/teacher/0.pt").unlink()
    monkeypatch.setenv("AUDIONAS_TIME_LIMIT", "0")
    for iteration in range(1, 12):
        assert main(["teacher", "--seed", "0"]) == 75
        assert (
            f"time limit of 0 s (AUDIONAS_TIME_LIMIT) after iteration {iteration} of 12"
            in capsys.readouterr().err
        )
    assert main(["teacher", "--seed", "0"]) == 0
    assert Path("models/teacher/0.pt").read_bytes() == whole
    monkeypatch.setenv("AUDIONAS_TIME_LIMIT", "soon")
    assert main(["teacher", "--seed", "0"]) == 1
    assert "'soon' is not a number of seconds" in capsys.readouterr().err


def interrupting(monkeypatch, *iterations: int) -> None:
    """Press Ctrl-C during these iterations of the teacher."""
    whole = Supervised.__call__

    def call(self, batch, iteration):
        if iteration in iterations:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(self, batch, iteration)

    monkeypatch.setattr(Supervised, "__call__", call)


def test_ctrl_c_saves_and_a_second_one_ends_at_once(project, monkeypatch, capsys):
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored in background processes of a script
    teacher.run(project, seed=0)
    folder, output = Path.cwd(), Path("models/teacher/0.pt")
    whole = output.read_bytes()
    output.unlink()
    interrupting(monkeypatch, 3)
    assert main(["teacher", "--seed", "0"]) == 75
    assert "stopped by SIGINT after iteration 4 of 12" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(interruption.Interruption, "reason", "")  # what takes its time
    interrupting(monkeypatch, 5, 6)
    assert main(["teacher", "--seed", "0"]) == 130
    assert "interrupted; run it again" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert main(["teacher", "--seed", "0"]) == 0
    assert output.read_bytes() == whole
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_that_is_ignored_stays_ignored(project, monkeypatch):
    """As in a background process of a script, which shares its terminal."""
    interrupting(monkeypatch, 3)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["teacher", "--seed", "0"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)


KILLED = """
import os, signal, sys
from audionas.systems.once_for_all.stages import teacher, supernet
from audionas.systems.registry import load_config
from audionas.training import checkpoint

save, left = checkpoint.Checkpoint.save, [int(sys.argv[1])]
def dying_save(self, state):
    save(self, state)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoint.save = dying_save
if sys.argv[2] == "teacher":
    teacher.run(load_config(), seed=0)
else:
    supernet.run(load_config(), space="x-x-x", seed=0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage, kills", [("teacher", (2, 5)), ("supernet", (3, 5))])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(project, stage, kills):
    """Two SIGKILLs right after a checkpoint: between validations, and in both phases of the supernet."""
    teacher.run(project, seed=0)
    output = Path("models/teacher/0.pt")
    if stage == "supernet":
        supernet.run(project, space="x-x-x", seed=0)
        output = Path("models/supernet/x-x-x-0.pt")
    whole = {
        p: p.read_bytes()
        for p in [output, *Path("results/curves", *output.with_suffix("").parts[1:]).rglob("*.*")]
    }
    assert len(whole) > 3
    output.unlink()
    for count in kills:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(count), stage], capture_output=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not output.exists() and any(Path(".state").glob("*.pt"))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "999", stage], capture_output=True, text=True, check=True
    )
    assert f"{sum(kills)}/12" in done.stderr.replace("\r", "\n")  # the run resumed
    for path, content in whole.items():
        assert path.read_bytes() == content, path
