"""The pipeline on a real Slurm cluster gives the results of `dvc repro` after any fault of jobs and nodes."""

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import projects
import pytest
import yaml
from projects import ROOT, run, until
from slurm import NODES, Slurm
from trainings import Driver, Training, left_alone

pytestmark = pytest.mark.cluster

SNAKEMAKE = ("snakemake", "--profile", "workflow/profiles/slurm")
# short intervals, because these jobs take seconds
QUICK = ("--seconds-between-status-checks", "2", "--slurm-init-seconds-before-status-checks", "2")


@pytest.fixture(autouse=True)
def nothing_left(slurm: Slurm) -> Iterator[None]:
    """Stop all drivers and jobs, also after a failed test."""
    yield
    Driver.kill_all()
    slurm.ask("scancel", "--user=root")
    until(lambda: not slurm.jobs(), "an empty queue")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default experiment with few iterations, without results."""
    where = projects.house(tmp_path_factory.mktemp("short"))
    run(where, sys.executable, str(ROOT / ".ci/shorten.py"), "params.yaml")
    (where / "dvc.lock").unlink()
    return where


@pytest.fixture(scope="module")
def repro(short: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment after `dvc repro`. AUDIONAS_REPRODUCED names a folder with existing results."""
    if reproduced := os.environ.get("AUDIONAS_REPRODUCED"):
        return Path(reproduced)
    where = tmp_path_factory.mktemp("repro") / "house"
    shutil.copytree(short, where, symlinks=True)
    run(where, "dvc", "repro")
    return where


def test_the_embedded_dag_leaves_what_dvc_repro_leaves(slurm: Slurm, short: Path, repro: Path) -> None:
    driver = Driver(short, *SNAKEMAKE, *QUICK, env=slurm.env)
    most, nodes = 0, set()
    while driver.process.poll() is None:
        running = [job for job in slurm.jobs() if job["state"] == "RUNNING"]
        most, nodes = max(most, len(running)), nodes | {job["node"] for job in running}
        time.sleep(0.5)
    driver.end()
    assert most >= 4
    assert nodes == set(NODES)
    assert (short / "dvc.lock").read_bytes() == (repro / "dvc.lock").read_bytes()
    assert "up to date" in run(short, "dvc", "status")
    assert "nothing to be done" in run(short, *SNAKEMAKE, "-n", env=slurm.env).lower()


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return projects.toy(tmp_path)


def test_a_failure_stops_only_what_depends_on_it_and_shows_its_log(slurm: Slurm, toy: Path) -> None:
    projects.edit(toy, fail="slow", seconds={"slow": 0, "quick": 0})
    said = run(toy, *SNAKEMAKE, *QUICK, fails=True, env=slurm.env)
    assert "slow is broken" in said
    assert (toy / "work-quick").exists()
    assert (toy / "apart").exists()
    assert not (toy / "join").exists()


ALL = "--config", "pipeline=all"


def test_all_pipelines_killed_and_resumed_leave_what_dvc_repro_leaves(slurm: Slurm, tmp_path: Path) -> None:
    """Kill the driver and the jobs while a stage of the second pipeline runs."""
    toy = projects.several(tmp_path / "toy")
    alone = shutil.copytree(toy, tmp_path / "alone", symlinks=True)
    run(alone, "dvc", "repro", "-P")
    extra = toy / "pipelines/extra"
    projects.edit(extra, seconds={"slow": 600, "quick": 0})
    driver = Driver(toy, *SNAKEMAKE, *QUICK, *ALL, env=slurm.env)
    lock = extra / "dvc.lock"
    until(lambda: lock.exists() and "work@quick:" in lock.read_text(), "a later entry", logs=[driver.log])
    until((extra / "began/slow").exists, "the stage", logs=[driver.log])
    driver.kill()
    for pid in [pid for node in NODES for pid in slurm.processes(node)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not slurm.jobs(), "an empty queue")
    assert "work@slow:" not in lock.read_text()
    projects.edit(extra, seconds=projects.PARAMS["seconds"])
    run(toy, *SNAKEMAKE, *QUICK, *ALL, env=slurm.env)
    for name in ("dvc.lock", "pipelines/extra/dvc.lock"):
        assert (toy / name).read_bytes() == (alone / name).read_bytes()
    assert "up to date" in run(toy, "dvc", "status")


OFTEN, SELDOM = 0.5, 600.0  # seconds between checkpoints


@pytest.fixture(scope="module")
def features(short: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with all inputs of the teacher."""
    where = tmp_path_factory.mktemp("features") / "house"
    shutil.copytree(short, where, symlinks=True)
    params = yaml.safe_load((where / "params.yaml").read_text())
    projects.edit(
        where,
        teacher={**params["teacher"], "iterations": 300},
        training={**params["training"], "checkpoint_seconds": SELDOM, "valid_every": 50},
    )
    run(where, "dvc", "repro", "logmel")
    shutil.rmtree(where / "logs", ignore_errors=True)  # the previous test may have left files
    return where


@pytest.fixture(scope="module")
def undisturbed(features: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Hashes of the teacher in dvc.lock after an undisturbed training."""
    return left_alone(features, tmp_path_factory.mktemp("undisturbed") / "house")


@pytest.fixture
def training(slurm: Slurm, features: Path, tmp_path: Path) -> "Sent":
    """A running teacher job that writes a checkpoint only on SIGTERM."""
    one = Sent(shutil.copytree(features, tmp_path / "house", symlinks=True), slurm)
    until(lambda: one.shown(r"loss") and one.job, "the first iterations of the teacher")
    return one


@pytest.fixture
def saved(slurm: Slurm, features: Path, tmp_path: Path) -> "Sent":
    """A running teacher job with two checkpoints."""
    where = shutil.copytree(features, tmp_path / "house", symlinks=True)
    params = yaml.safe_load((where / "params.yaml").read_text())
    projects.edit(
        where, training={**params["training"], "checkpoint_seconds": OFTEN}
    )  # the change makes no stage stale
    one = Sent(where, slurm)
    until(lambda: len(one.checkpoints()) == 2 and one.job, "two checkpoints")
    return one


class Sent(Training):
    """The teacher training as a Slurm job."""

    def __init__(self, where: Path, slurm: Slurm):
        super().__init__(where, *SNAKEMAKE, *QUICK, "teacher_0", env=slurm.env)
        self.slurm = slurm

    @property
    def job(self) -> dict[str, str]:
        """Return the running job from squeue."""
        return next((job for job in self.slurm.jobs() if job["state"] == "RUNNING"), {})


def test_a_job_cancelled_in_the_middle_of_training_is_taken_up(
    slurm: Slurm, training: Sent, undisturbed: dict
) -> None:
    slurm.ask("scancel", training.job["id"])
    training.goes_on_where_sigterm_stopped_it(undisturbed)


def test_a_time_limit_ends_an_attempt_and_not_the_training(
    slurm: Slurm, training: Sent, undisturbed: dict
) -> None:
    slurm.ask("scontrol", "update", f"JobId={training.job['id']}", "TimeLimit=1")
    with training.held():  # Slurm's time limits are in minutes
        until(lambda: not training.job, "the time limit", seconds=180)
    training.goes_on_where_sigterm_stopped_it(undisturbed)


def test_a_lost_node_is_left_for_the_other(slurm: Slurm, saved: Sent, undisturbed: dict) -> None:
    node = saved.job["node"]
    slurm.lose(node)
    try:
        saved.ends_well(undisturbed)
        assert saved.began_at()[-1] > 0
    finally:
        slurm.start_node(node)
        until(lambda: slurm.states()[node] == "idle", f"{node} again")


def test_a_killed_node_daemon_costs_no_work(slurm: Slurm, training: Sent, undisturbed: dict) -> None:
    """The processes of the job continue. Slurm restarts the job on another node, where it waits for them."""
    node = training.job["node"]
    try:
        with training.held():
            slurm.kill(node)
            until(lambda: training.job.get("node", node) != node, "its job on the other node", seconds=300)
        training.ends_well(undisturbed)
        assert training.shown("didn't change, skipping")
    finally:
        slurm.start_node(node)
        until(lambda: slurm.states()[node] == "idle", f"{node} again")


def test_a_restarted_controller_is_not_noticed(slurm: Slurm, training: Sent, undisturbed: dict) -> None:
    slurm.kill("slurmctld")
    time.sleep(5)
    slurm.start_controller()
    training.ends_well(undisturbed)
    assert training.began_at() == [0]


def test_a_killed_driver_is_started_again(slurm: Slurm, training: Sent, undisturbed: dict) -> None:
    """The job continues without its driver. The next job waits, and finds the stage up to date."""
    with training.held():
        training.driver.kill()
        run(training.where, "snakemake", "--unlock")
        training.driver = training.drive()
        until(lambda: len(slurm.jobs()) == 2, "the second job")
    training.ends_well(undisturbed)
    assert training.shown("didn't change, skipping")


def test_ranks_train_together_inside_one_allocation(slurm: Slurm, features: Path, tmp_path: Path) -> None:
    """Two torchrun ranks, cancelled once, in a job with two simulated GPUs."""
    params = yaml.safe_load((features / "params.yaml").read_text())
    training = {**params["training"], "gpus": 2, "threads": 1}
    sent = shutil.copytree(features, tmp_path / "sent", symlinks=True)
    projects.edit(sent, training=training)
    undisturbed = left_alone(sent, tmp_path / "alone")
    one = Sent(sent, slurm)
    until(lambda: one.shown(r"loss") and one.job, "the first iterations of the ranks")
    asked = slurm.ask("squeue", "--noheader", "--Format=tres-per-job:30,NumNodes:5,NumCPUs:5")
    assert re.search(r"gpu:2 +1 +2 ", asked), asked
    slurm.ask("scancel", one.job["id"])
    one.goes_on_where_sigterm_stopped_it(undisturbed)
