"""A training under `snakemake -c2` gives equal results after any fault.

tests/cluster/test_slurm.py tests the same on Slurm.
"""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import projects
import psutil
import pytest
import tiny
import torch
import yaml
from projects import ROOT, run, until
from trainings import Driver, Training, left_alone, locked

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SNAKEMAKE = ("snakemake", "-c2")
SETTINGS = {"valid_every": 100, "checkpoint_seconds": 0.0}
HOLD = str(ROOT / "tests" / "support" / "plugins" / "hold")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Clean up, also after a failed test."""
    yield
    Driver.kill_all()


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher stage of dvc.yaml with small synthetic inputs."""
    where = projects.house(tmp_path_factory.mktemp("features"))
    pipeline = where / "dvc.yaml"
    stage = yaml.safe_load(pipeline.read_text())["stages"]["teacher"]
    pipeline.write_text(yaml.safe_dump({"stages": {"teacher": stage}}))
    (where / "dvc.lock").unlink()
    study = {**tiny.PARAMS["study"], "seeds": [0]}
    tiny.make(where, teacher={"iterations": 60}, training=SETTINGS, study=study)
    return where


@pytest.fixture(scope="module")
def undisturbed(features: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return left_alone(features, tmp_path_factory.mktemp("undisturbed") / "house")


@pytest.fixture
def training(features: Path, tmp_path: Path) -> Training:
    """A running training with two checkpoints, suspended while it is `held`."""
    where = shutil.copytree(features, tmp_path / "house", symlinks=True)
    (where / "hold").touch()
    paths = os.pathsep.join([HOLD, *filter(None, [os.environ.get("PYTHONPATH")])])
    one = Training(where, *SNAKEMAKE, env={"PYTHONPATH": paths})
    until(lambda: not (where / "hold").exists(), "two checkpoints", logs=[one.driver.log])
    until(lambda: one.trainer.status() == psutil.STATUS_STOPPED, "its stop")
    assert len(one.checkpoints()) == 2
    return one


def saved_at(training: Training) -> int:
    """Return the iteration of the last checkpoint of a suspended training."""
    return torch.load(training.checkpoints()[-1], weights_only=True)["iteration"]


def test_sigterm_has_the_training_save_and_it_is_sent_again(training: Training, undisturbed: dict) -> None:
    with training.held() as trainer:
        trainer.terminate()
    training.goes_on_where_sigterm_stopped_it(undisturbed)


def test_a_killed_training_goes_on_from_its_last_checkpoint(training: Training, undisturbed: dict) -> None:
    with training.held() as trainer:
        saved = saved_at(training)
        trainer.kill()
    training.ends_well(undisturbed)
    assert training.began_at() == [saved]


def test_a_killed_job_has_its_training_save_before_the_next_goes_on(
    training: Training, undisturbed: dict
) -> None:
    with training.held() as trainer:
        saved = saved_at(training)
        trainer.parent().kill()
        until(lambda: "another job already runs" in training.driver.said, "the next job")
    training.ends_well(undisturbed)
    (began,) = training.began_at()
    assert began >= saved > 0


def test_a_time_limit_ends_an_attempt_and_not_the_training(
    features: Path, tmp_path: Path, undisturbed: dict
) -> None:
    """The time limit allows one iteration per attempt, until the training is complete."""
    where = shutil.copytree(features, tmp_path / "house", symlinks=True)
    said = run(where, *SNAKEMAKE, env={"AUDIONAS_TIME_LIMIT": "0"}, fails=True)
    assert re.findall(r"the time limit .* after iteration (\d+)", said) == ["1", "2", "3"]
    one = Training(where, *SNAKEMAKE)
    one.ends_well(undisturbed)
    assert one.began_at() == [3]


def test_a_killed_driver_is_started_again_and_waits_for_the_training(
    training: Training, undisturbed: dict
) -> None:
    with training.held():
        training.driver.kill()
        training.driver = training.drive()
        until(lambda: "another job already runs" in training.driver.said, "the second job")
    training.ends_well(undisturbed)
    assert training.shown("didn't change, skipping")


def test_a_machine_that_went_down_is_gone_on_with(training: Training, undisturbed: dict) -> None:
    with training.held():
        saved = saved_at(training)
        training.driver.send_all(signal.SIGKILL)
        training.driver.process.wait()
    training.driver = training.drive()
    training.ends_well(undisturbed)
    assert training.began_at() == [saved]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_driver_stopped_with_all_it_runs_is_started_again(
    training: Training, undisturbed: dict, number: int
) -> None:
    """Ctrl-C in a terminal, and SIGTERM of a service manager or a shutdown."""
    with training.held():
        training.driver.send_all(number)
    assert training.driver.process.wait(timeout=600) != 0
    # The stage saves, possibly after the end of the driver.
    until(training.stopped_at, "the end of the training", logs=[training.log])
    (saved,) = training.stopped_at()
    training.driver = training.drive()
    training.ends_well(undisturbed)
    assert training.began_at() == [saved]


def test_sigterm_has_the_driver_wait_for_what_runs(training: Training, undisturbed: dict) -> None:
    with training.held():
        training.driver.process.terminate()
        until(lambda: "Will exit after finishing" in training.driver.said, "its answer")
    training.driver.process.wait(timeout=600)
    assert locked(training.where) == undisturbed
    assert training.began_at() == [0]
