"""DVC and Snakemake run the same DAG: the same stages, the same results, the same `dvc.lock` to the byte."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
ENV = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}

# `source` feeds two branches that `join` brings together; `apart` stands alone. Of the branches, the one that
# comes first in dvc.yaml ends last.
PARAMS = {"names": ["slow", "quick"], "seconds": {"slow": 2, "quick": 0}, "sign": "+", "fail": "", "cores": 1}
PIPELINE = r"""
stages:
  source:
    cmd: python step.py source
    deps: [step.py]
    outs: [source]
  work:
    matrix:
      name: ${names}
    cmd: python step.py work-${item.name} source
    deps: [source]
    params: ["seconds.${item.name}", fail]
    outs: ["work-${item.name}"]
    meta: {threads: "${cores}", mem_mb: 10, retries: 0}
  join:
    cmd: python step.py join work-slow work-quick
    deps: [work-slow, work-quick]
    params: [sign]
    outs: [join]
  apart:
    cmd: python step.py apart
    deps: [step.py]
    outs: [apart]
"""
STEP = r"""
import pathlib, sys, time, yaml
params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
out, *deps = sys.argv[1:]
name = out.removeprefix("work-")
pathlib.Path("began").mkdir(exist_ok=True)
pathlib.Path("began", name).touch()
time.sleep(params["seconds"].get(name, 0))
if name == params["fail"]:
    sys.exit(f"{name} is broken")
text = params["sign"].join(pathlib.Path(dep).read_text() for dep in deps) if name == "join" else name
pathlib.Path(out).write_text(text)
"""


def run(where: Path, *command: str, fails: bool = False) -> str:
    done = subprocess.run(command, cwd=where, env=ENV, text=True, capture_output=True, timeout=300)
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said
    return said


def planned(where: Path) -> set[str]:
    """The stages that `snakemake -n` would run."""
    return set(re.findall(r"^Job \d+: DVC stage (\S+)$", run(where, "snakemake", "-n"), re.MULTILINE))


def edit(where: Path, **changes: object) -> None:
    path = where / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def start(where: Path, until: str) -> subprocess.Popen:
    """Snakemake in the background, once it runs the stage `until`."""
    process = subprocess.Popen(
        ["snakemake", "-c2"],
        cwd=where,
        env=ENV,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (where / "began" / until).exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{until} did not start"
        time.sleep(0.05)
    return process


def project(where: Path) -> Path:
    run(where, "git", "init", "-q")
    if not (where / ".dvc").exists():
        run(where, "dvc", "init", "-q")
    run(where, "dvc", "config", "core.analytics", "false")
    return where


def add_workflow(where: Path) -> None:
    shutil.copy(ROOT / "Snakefile", where)
    shutil.copytree(ROOT / "workflow", where / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    (where / "profiles").mkdir()
    shutil.copy(ROOT / "profiles" / "default", where / "profiles", follow_symlinks=False)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("fresh")
    (where / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (where / "dvc.yaml").write_text(PIPELINE)
    (where / "step.py").write_text(STEP)
    add_workflow(where)
    return project(where)


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
    assert "profiles/default" in run(toy, "snakemake", "-c2")  # found without being asked for
    assert (toy / "join").read_text() == "slow+quick"
    assert (toy / "dvc.lock").read_bytes() == (done / "dvc.lock").read_bytes()
    assert "up to date" in run(toy, "dvc", "status")
    assert planned(toy) == set()

    # What is new comes after what was there, in DVC's order, under both.
    seconds = {"slow": 2, "late": 1.5, "soon": 0, "quick": 0}
    for where in (toy, done):
        edit(where, names=["slow", "late", "soon", "quick"], seconds=seconds)
    run(done, "dvc", "repro")
    run(toy, "snakemake", "-c2")
    assert (toy / "dvc.lock").read_bytes() == (done / "dvc.lock").read_bytes()


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
    process = start(toy, until="slow")
    edit(toy, sign="-")
    said = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "params.yaml changed while this run was going on" in said
    assert (toy / "work-slow").exists()
    assert not (toy / "join").exists()
    run(toy, "snakemake", "-c2")
    assert (toy / "join").read_text() == "slow-quick"
    assert "up to date" in run(toy, "dvc", "status")


def test_a_killed_run_is_taken_up_again(toy: Path, done: Path) -> None:
    edit(toy, seconds={"slow": 20, "quick": 0})
    process = start(toy, until="slow")
    deadline = time.monotonic() + 60
    while "work@quick:" not in ((toy / "dvc.lock").read_text() if (toy / "dvc.lock").exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "--unlock" in run(toy, "snakemake", "-c2", fails=True)
    run(toy, "snakemake", "--unlock")
    edit(toy, seconds=PARAMS["seconds"])
    assert {"work@slow", "join"} <= planned(toy)
    run(toy, "snakemake", "-c2")
    assert (toy / "dvc.lock").read_bytes() == (done / "dvc.lock").read_bytes()


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
    assert "'work@slow' must be whole numbers" in run(toy, "snakemake", "-n", fails=True)


def test_the_linter_finds_nothing_but_the_missing_conda_environment(toy: Path) -> None:
    remarks = set(re.findall(r"^    \* (.+)$", run(toy, "snakemake", "--lint", fails=True), re.MULTILINE))
    assert remarks == {"Specify a conda environment or container for each rule.:"}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """This project's own files in a folder of their own, without data."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name, follow_symlinks=False)
    return project(tmp_path)


def test_the_papers_experiment_shows_its_whole_dag_without_data(house: Path) -> None:
    shutil.copy(house / "profiles/audioset.yaml", house / "params.yaml")
    stages = set(run(house, "dvc", "stage", "list", "--name-only").split())
    assert {"segments", "teacher@0", "tables"} <= stages
    drawn = run(house, "dvc", "dag", "--dot")
    assert all(f'"{stage}"' in drawn for stage in stages)
    assert planned(house) == stages


def defined(where: Path) -> dict[str, str]:
    """What DVC compares each stage by: command, dependencies and the values of its parameters."""
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
        ("constraints", "44k", {"search", "finetune", "init"}),
        ("ranked", 3, {"ranked"}),
        ("spaces", "ew", {"supernet", "score", "search"}),
        ("finetune_iterations", 7, {"finetune"}),
        ("sizes", "0.4x1", {"individual"}),
    ],
)
def test_one_more_entry_in_a_list_adds_its_own_stages_and_changes_only_tables_and_report(
    house: Path, key: str, entry: object, kinds: set[str]
) -> None:
    before = defined(house)
    params = yaml.safe_load((house / "params.yaml").read_text())
    edit(house, study={**params["study"], key: [*params["study"][key], entry]})
    after = defined(house)
    added = set(after) - set(before)
    assert {name.split("@")[0] for name in added if not name.startswith("evaluate")} == kinds
    assert all(str(entry) in name for name in added)
    assert [name for name in before if before[name] != after[name]] == ["tables", "report"]
