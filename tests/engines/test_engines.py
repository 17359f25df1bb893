"""DVC and Snakemake run the same DAG with equal stages, results and `dvc.lock` files."""

import base64
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import projects
import pytest
import yaml
from projects import ENV, PARAMS, STEP, edit, run, until
from trainings import Driver

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def planned(where: Path) -> set[str]:
    """Return the stages that `snakemake -n` would run."""
    return set(re.findall(r"^Job \d+: DVC stage (\S+)$", run(where, "snakemake", "-n"), re.MULTILINE))


def start(where: Path, stage: str) -> subprocess.Popen:
    """Start Snakemake in the background, and wait until it runs a stage."""
    process = subprocess.Popen(
        ["snakemake", "-c2"],
        cwd=where,
        env=ENV,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    until(lambda: (where / "began" / stage).exists() or process.poll() is not None, stage)
    assert process.poll() is None, process.communicate()[0]
    return process


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return projects.toy(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def reproduced(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = copied(fresh, tmp_path_factory.mktemp("reproduced") / "toy")
    run(where, "dvc", "repro")
    return where


@pytest.fixture
def toy(fresh: Path, tmp_path: Path) -> Path:
    """The pipeline above, not run yet."""
    return copied(fresh, tmp_path / "toy")


@pytest.fixture
def done(reproduced: Path, tmp_path: Path) -> Path:
    """The pipeline above after `dvc repro`."""
    return copied(reproduced, tmp_path / "done")


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=True)
    return target


def test_a_fresh_run_leaves_what_dvc_repro_leaves(toy: Path, done: Path) -> None:
    assert "profiles/default" in run(toy, "snakemake", "-c2")  # the default profile is found
    assert (toy / "join").read_text() == "slow+quick"
    assert (toy / "dvc.lock").read_bytes() == (done / "dvc.lock").read_bytes()
    assert "up to date" in run(toy, "dvc", "status")
    assert planned(toy) == set()

    # Both engines append new entries in DVC's order.
    seconds = {"slow": 2, "late": 1.5, "soon": 0, "quick": 0}
    for where in (toy, done):
        edit(where, names=["slow", "late", "soon", "quick"], seconds=seconds)
    run(done, "dvc", "repro")
    run(toy, "snakemake", "-c2")
    assert (toy / "dvc.lock").read_bytes() == (done / "dvc.lock").read_bytes()


def test_sixteen_jobs_at_once_wait_for_each_others_locks(toy: Path, done: Path) -> None:
    names = ["slow", "quick", *(f"more{i}" for i in range(14))]
    for where in (toy, done):
        edit(where, names=names, seconds=dict.fromkeys(names, 0))
    (done / "dvc.lock").unlink()
    run(done, "dvc", "repro")
    assert "rror" not in run(toy, "snakemake", "-c16")
    assert (toy / "dvc.lock").read_bytes() == (done / "dvc.lock").read_bytes()


HELD = """
import sys, time
from pathlib import Path

while sys.argv[1] == "work-slow" and not Path("go").exists():
    Path("began").mkdir(exist_ok=True)
    Path("began", "slow").touch()
    time.sleep(0.05)
"""


def test_a_stage_that_another_job_runs_already_is_planned_and_waited_for(toy: Path) -> None:
    (toy / "step.py").write_text(HELD + STEP)
    run(toy, "snakemake", "-c2", "source")
    orphan = subprocess.Popen(
        [sys.executable, "workflow/plan.py", "run", "work@slow", "orphan.log"], cwd=toy, env=ENV
    )
    try:
        until(lambda: (toy / "began" / "slow").exists(), "slow")
        assert {"work@slow", "join"} <= planned(toy)
        driver = Driver(toy, "snakemake", "-c2")
        until(lambda: "another job already runs work@slow" in driver.said, "the second job")
        (toy / "go").touch()
        driver.end()
        assert orphan.wait(timeout=600) == 0
    finally:
        (toy / "go").touch()
        Driver.kill_all()
    log = (toy / "logs" / "work_slow.log").read_text()
    assert "didn't change, skipping" in log and "Running stage" not in log
    assert (toy / "join").read_text() == "slow+quick"


SAVING = """
import signal, sys, time
from pathlib import Path

def save(*_):
    time.sleep(3)
    Path("saved").touch()
    sys.exit(75)

signal.signal(signal.SIGTERM, save)
"""


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_sigterm_is_for_the_stage_and_the_lock_holds_until_it_has_ended(toy: Path, shell: str) -> None:
    """The stage saves slowly; another job must wait for it."""
    (toy / "step.py").write_text(SAVING + STEP)
    edit(toy, seconds={"slow": 60, "quick": 0, "source": 0}, fail="")
    run(toy, "snakemake", "-c1", "source")
    job = subprocess.Popen(
        [sys.executable, "workflow/plan.py", "run", "work@slow", "job.log"],
        cwd=toy,
        env=ENV | {"SHELL": shell},
    )
    until(lambda: (toy / "began" / "slow").exists(), "slow")
    job.terminate()
    with (toy / ".state/plan/locks/work_slow").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (toy / "saved").exists()
    assert job.wait(timeout=600) != 0


def test_a_killed_job_has_its_stage_save_and_nobody_begins_before(toy: Path) -> None:
    (toy / "step.py").write_text(SAVING + STEP)
    edit(toy, seconds={"slow": 60, "quick": 0, "source": 0}, fail="")
    run(toy, "snakemake", "-c1", "source")
    job = subprocess.Popen([sys.executable, "workflow/plan.py", "run", "work@slow", "log"], cwd=toy, env=ENV)
    until(lambda: (toy / "began" / "slow").exists(), "slow")
    job.kill()
    job.wait()
    with (toy / ".state/plan/locks/work_slow").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (toy / "saved").exists()


def catches_sigterm(pid: int) -> bool:
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught[1], 16) >> signal.SIGTERM - 1 & 1)


def test_sigterm_before_a_stage_begins_has_it_not_begin(toy: Path) -> None:
    run(toy, "snakemake", "-c1", "source")
    with (toy / ".dvc/tmp/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # DVC's
        command = [sys.executable, "workflow/plan.py", "run", "work@slow", "log"]
        job = subprocess.Popen(command, cwd=toy, env=ENV)
        until(lambda: catches_sigterm(job.pid), "DVC")
        job.terminate()
        time.sleep(1)
        assert job.poll() is None, (toy / "log").read_text()  # DVC is still working
    assert job.wait(timeout=600) == 128 + signal.SIGTERM
    assert not (toy / "began" / "slow").exists()


TERMINATED = """
import importlib.machinery, os, runpy, signal, sys

class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            print("now", module.__name__)
            os.kill(os.getpid(), signal.SIGTERM)
        super().exec_module(module)

class Finder:
    def find_spec(name, path=None, target=None):
        if name in ("threading", "dvc.stage.run"):
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            spec.loader = Loader(name, spec.origin)
            return spec

sys.modules.pop("threading", None)
sys.meta_path.insert(0, Finder)
sys.path.insert(0, "workflow")
runpy.run_path("workflow/plan.py", run_name="__main__")
"""


def test_sigterm_in_the_middle_of_an_import_has_the_stage_not_begin(toy: Path) -> None:
    """The import may be of a module that the signal handler needs."""
    run(toy, "snakemake", "-c1", "source")
    command = [sys.executable, "-c", TERMINATED, "run", "work@slow", "log"]
    done = subprocess.run(command, cwd=toy, env=ENV, timeout=600)
    said = (toy / "log").read_text()
    assert "\nnow " in said and done.returncode == 128 + signal.SIGTERM, said
    assert not (toy / "began" / "slow").exists()


TOLD = """
import os, pathlib
pathlib.Path("limit").write_text(os.environ.get("AUDIONAS_TIME_LIMIT", "none"))
"""


def test_a_stage_knows_when_its_job_on_slurm_will_be_killed(toy: Path) -> None:
    (toy / "step.py").write_text(TOLD + STEP)
    run(toy, "snakemake", "-c1", "source")
    assert (toy / "limit").read_text() == "none"
    job = [sys.executable, "workflow/plan.py", "run", "apart", "log", "10"]
    run(toy, *job, env={"SLURM_JOB_ID": "1"})
    assert 480 < float((toy / "limit").read_text()) <= 540  # a tenth is reserved for the checkpoint


DUMP = """
import sys, time
from pathlib import Path
from dvc.utils.serialize import _yaml

def slowly(data, stream, dump=_yaml._dump):
    if stream.name.endswith(".dvc.lock.tmp"):  # not an entry of the run cache
        stream.write("#")
        stream.flush()
        Path("dumping").touch()
        while not Path("go").exists():
            time.sleep(0.05)
        stream.seek(0)
        stream.truncate()
    dump(data, stream)

_yaml._dump = slowly
sys.path.insert(0, "workflow")
import plan
plan.run("work@quick", "job.log")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_job_leaves_dvc_lock_whole(toy: Path, number: int) -> None:
    run(toy, "snakemake", "-c1", "source")
    before = (toy / "dvc.lock").read_bytes()
    job = subprocess.Popen([sys.executable, "-c", DUMP], cwd=toy, env=ENV)
    until(lambda: (toy / "dumping").exists(), "the dump")
    job.send_signal(number)
    (toy / "go").touch()
    ended = job.wait(timeout=600)
    if number == signal.SIGTERM:
        assert ended == 0, (toy / "job.log").read_text()  # the stage ran and is recorded
        assert "work@quick" in (toy / "dvc.lock").read_text()
    else:
        assert (toy / "dvc.lock").read_bytes() == before
    run(toy, "snakemake", "-c2")
    assert "up to date" in run(toy, "dvc", "status")


def test_a_lock_file_that_dvc_left_half_written_comes_back_from_git(done: Path) -> None:
    """As documented, later results are in the run cache."""
    run(done, "git", "add", "dvc.lock")
    edit(done, sign="-")
    run(done, "dvc", "repro")
    shutil.rmtree(done / "began")
    lock = done / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[:700])
    run(done, "dvc", "repro", fails=True)
    run(done, "git", "checkout", "dvc.lock")
    run(done, "dvc", "repro")
    assert not (done / "began").exists()
    assert lock.read_bytes() == whole


def test_a_stage_that_nobody_planned_is_named(toy: Path) -> None:
    command = [sys.executable, "workflow/plan.py", "run", "nothing", "log"]
    said = run(toy, *command, fails=True)
    assert "plan.json is missing" in said and "restart snakemake" in said
    run(toy, "snakemake", "-n")
    said = run(toy, *command, fails=True)
    assert "no stage 'nothing'" in said and "snakemake -n" in said


def test_dvc_says_what_is_stale(done: Path) -> None:
    assert planned(done) == set()
    edit(done, seconds={"slow": 2, "quick": 0.1})
    assert planned(done) == {"work@quick", "join"}
    edit(done, seconds=PARAMS["seconds"])
    assert planned(done) == set()
    (done / "work-slow").unlink()
    assert planned(done) == {"work@slow", "join"}
    (done / "step.py").write_text(STEP + "\n")
    assert planned(done) == {"source", "work@slow", "work@quick", "join", "apart"}


def test_a_failure_stops_only_what_depends_on_it(toy: Path) -> None:
    edit(toy, fail="slow", seconds={"slow": 0, "quick": 0})
    said = run(toy, "snakemake", "-c2", fails=True)
    assert "slow is broken" in said  # the log is shown
    assert (toy / "work-quick").exists()
    assert (toy / "apart").exists()
    assert not (toy / "join").exists()
    assert planned(toy) == {"work@slow", "join"}


def test_parameters_edited_during_a_run_are_refused(toy: Path) -> None:
    process = start(toy, stage="slow")
    edit(toy, sign="-")
    said = process.communicate(timeout=600)[0]
    assert process.returncode != 0
    assert "params.yaml changed during this run" in said
    assert (toy / "work-slow").exists()
    assert not (toy / "join").exists()
    run(toy, "snakemake", "-c2")
    assert (toy / "join").read_text() == "slow-quick"
    assert "up to date" in run(toy, "dvc", "status")


def test_a_killed_run_is_taken_up_again(toy: Path, done: Path) -> None:
    edit(toy, seconds={"slow": 20, "quick": 0})
    process = start(toy, stage="slow")
    lock = toy / "dvc.lock"
    until(lambda: lock.exists() and "work@quick:" in lock.read_text(), "the entry of work@quick", seconds=60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list((toy / ".snakemake/locks").iterdir())
    edit(toy, seconds=PARAMS["seconds"])
    assert "removing its locks" in run(toy, "snakemake", "-c2")
    assert (toy / "dvc.lock").read_bytes() == (done / "dvc.lock").read_bytes()


def test_a_run_that_is_alive_keeps_its_plan_and_its_folder(toy: Path) -> None:
    (toy / "step.py").write_text(HELD + STEP)
    process = start(toy, stage="slow")
    plan = (toy / ".state/plan/plan.json").read_bytes()
    assert "Warning" not in run(toy, "snakemake", "-n")
    edit(toy, sign="-")
    assert "Warning: params.yaml changed since this plan was made" in run(toy, "snakemake", "-n")
    assert "--unlock" in run(toy, "snakemake", "-c2", fails=True)
    assert (toy / ".state/plan/plan.json").read_bytes() == plan and list((toy / ".snakemake/locks").iterdir())
    edit(toy, sign="+")
    (toy / "go").touch()
    assert process.communicate(timeout=120) and process.returncode == 0
    assert (toy / "join").read_text() == "slow+quick"


DAMAGED = [b"", b"{", b"[]", b"\xff", b'{"files": 3}', b'{"files": {}, "stages": []}']


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_notes_beside_locks_that_a_kill_left_are_made_anew(done: Path, content: bytes) -> None:
    """No file of Snakemake or of the plan prevents `snakemake` or `snakemake --unlock` from starting."""
    edit(done, sign="-")
    plan, locks = done / ".state/plan", done / ".snakemake/locks"
    for command in (["--unlock"], ["-c2"]):
        locks.mkdir(parents=True, exist_ok=True)
        (locks / "0.output.lock").write_text(".state/plan/stamps/join\n")
        if (plan / "stamps/source").is_file():
            (plan / "stamps/source").unlink()
        (plan / "stamps/source").mkdir(parents=True, exist_ok=True)
        for name in ("plan.json", "lock-order.json"):
            (plan / name).write_bytes(content)
        assert "Traceback" not in run(done, "snakemake", *command)
    assert (done / "join").read_text() == "slow-quick"
    assert "up to date" in run(done, "dvc", "status") and not (plan / "lock-order.json").exists()


def test_a_damaged_plan_under_a_run_that_is_alive_is_made_anew(toy: Path) -> None:
    (toy / "step.py").write_text(HELD + STEP)
    process = start(toy, stage="slow")
    for other in ("quick", "apart"):  # jobs read the plan at their start
        until((toy / "began" / other).exists, other)
    (toy / ".state/plan/plan.json").write_text("{")
    assert "plan.json is damaged" in run(
        toy, sys.executable, "workflow/plan.py", "run", "x", "log", fails=True
    )
    assert "plan.json is damaged; creating a new plan" in run(toy, "snakemake", "-n")
    (toy / "go").touch()
    assert process.communicate(timeout=120) and process.returncode == 0
    assert (toy / "join").read_text() == "slow+quick"


def test_a_job_elsewhere_reads_the_plan_and_leaves_it_as_it_is(done: Path) -> None:
    edit(done, sign="-")
    assert planned(done) == {"join"}
    plan = (done / ".state/plan/plan.json").read_bytes()
    edit(done, sign="*")
    job = ["--target-jobs", "join:", "--allowed-rules", "join", "--force", "--nolock", "-c1"]
    run(done, "snakemake", "--mode", "remote", *job, fails=True)
    assert (done / ".state/plan/plan.json").read_bytes() == plan
    assert "params.yaml changed" in (done / "logs/join.log").read_text()


def test_requests_in_meta_reach_the_plan(toy: Path) -> None:
    edit(toy, cores=2)
    assert planned(toy) == {"source", "work@slow", "work@quick", "join", "apart"}
    stages = json.loads((toy / ".state/plan/plan.json").read_text())["stages"]
    assert {name: stage["threads"] for name, stage in stages.items() if stage["mem_mb"] == 10} == {
        "work@slow": 2,
        "work@quick": 2,
    }
    edit(toy, cores="many")
    assert "'work@slow' must contain integers" in run(toy, "snakemake", "-n", fails=True)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of this project's files, without data."""
    return projects.house(tmp_path)


def test_the_linter_finds_nothing(house: Path) -> None:
    assert "good condition" in run(house, "snakemake", "--lint")


TABLES = """
  tables:
    cmd: >-
      mkdir -p results/tables results/figures && touch results/figures/figure3.png &&
      echo 12.34 | tee results/tables/ship.csv results/tables/findings.csv results/tables/table1.csv
      > results/tables/table2.csv
    deps: [join]
    outs: [results/tables, results/figures]
  report:
    cmd: echo page > results/report.html
    deps: [results/tables]
    outs: [results/report.html]
artifacts:
"""


def test_snakemakes_report_holds_the_tables_and_their_captions_and_loads_nothing(toy: Path) -> None:
    pipeline = toy / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("\nartifacts:\n", TABLES))
    edit(toy, seconds={"slow": 0, "quick": 0})
    run(toy, "snakemake", "results", "-c2", "-R", "results")
    run(toy, "snakemake", "results", "--report", "study.html")
    page = (toy / "study.html").read_text()
    assert page.count(base64.b64encode(b"12.34\n").decode()) == 4
    for caption in (toy / "workflow/report").glob("*.rst"):
        assert f"<p>{' '.join(caption.read_text().split()[:2])}" in page, caption
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=.?(https?:)?//", page)


def test_the_papers_experiment_shows_its_whole_dag_without_data(house: Path) -> None:
    shutil.copy(house / "profiles/audioset.yaml", house / "params.yaml")
    stages = set(run(house, "dvc", "stage", "list", "--name-only").split())
    assert {"segments", "teacher@0", "tables"} <= stages
    drawn = run(house, "dvc", "dag", "--dot")
    assert all(f'"{stage}"' in drawn for stage in stages)
    assert planned(house) == stages


def test_a_training_reserves_for_all_its_ranks_and_others_one_gpu(house: Path) -> None:
    training = yaml.safe_load((house / "params.yaml").read_text())["training"]
    edit(house, training={**training, "gpus": 4, "threads": 3})
    planned(house)
    stages = json.loads((house / ".state/plan/plan.json").read_text())["stages"]
    asked = {name.split("@")[0]: (one["threads"], one["mem_mb"], one["gpus"]) for name, one in stages.items()}
    assert asked["teacher"] == (12, 32_000, 4)
    assert asked["score"] == (12, 16_000, 4)
    assert asked["search"] == asked["evaluate-found"] == (3, 4_000, 1)
    assert asked["logmel"] == (2, 4_000, 0)


def defined(where: Path) -> dict[str, str]:
    """Return what DVC compares for each stage: command, dependencies and parameter values."""
    from dvc.repo import Repo

    with Repo(str(where)) as repo:
        return {
            stage.name: json.dumps(
                [
                    stage.cmd,
                    [d.def_path for d in stage.deps],
                    [d.read_params() for d in stage.deps if hasattr(d, "read_params")],
                ],
                sort_keys=True,
            )
            for stage in repo.index.stages
        }


@pytest.mark.parametrize(
    "key, entry, kinds",
    [
        ("constraints", "44k", {"search", "finetune", "init", "export-budget"}),
        ("ranked", 3, {"ranked"}),
        ("spaces", "ew", {"supernet", "score", "search"}),
        ("finetune_iterations", 7, {"finetune"}),
        ("sizes", "0.4x1", {"individual-baseline", "individual-kd"}),
    ],
)
def test_one_more_entry_in_a_list_adds_its_own_stages_and_changes_only_what_tells_of_all(
    house: Path, key: str, entry: object, kinds: set[str]
) -> None:
    before = defined(house)
    params = yaml.safe_load((house / "params.yaml").read_text())
    edit(house, study={**params["study"], key: [*params["study"][key], entry]})
    after = defined(house)
    added = set(after) - set(before)
    assert {name.split("@")[0] for name in added if not name.startswith("evaluate")} == kinds
    assert all(str(entry) in name for name in added)
    told = ["tables", "release", "report", *(["listen"] if key == "constraints" else [])]
    assert [name for name in before if before[name] != after[name]] == told
