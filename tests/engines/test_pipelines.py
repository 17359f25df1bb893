"""Several pipelines under DVC and Snakemake: stages that run, and equal lock files."""

import json
import shutil
from pathlib import Path

import projects
import pytest
from projects import STEP, edit, run, until
from trainings import Driver

pytestmark = [pytest.mark.engine, pytest.mark.slow]

EXTRA = "pipelines/extra"
LOCKS = "dvc.lock", f"{EXTRA}/dvc.lock"
MAIN_STAGES = {"source", "work@slow", "work@quick", "join", "apart"}
EXTRA_STAGES = {f"{EXTRA}/dvc.yaml:{name}" for name in ("start", "work@slow", "work@quick", "join")}
SNAKEMAKE_ALL = "snakemake", "-c2", "--config", "pipeline=all"
QUICK = {"slow": 0, "quick": 0}


def copied(source: Path, target: Path) -> Path:
    return shutil.copytree(source, target, symlinks=True)


def locks(where: Path) -> dict[str, bytes]:
    return {name: (where / name).read_bytes() for name in LOCKS if (where / name).exists()}


def planned(where: Path, *pipelines: str) -> set[str]:
    """Return the stages that `snakemake -n` would run, for these pipelines or by default."""
    chosen = ["--config", f"pipeline={','.join(pipelines)}"] if pipelines else []
    said = run(where, "snakemake", "-n", *chosen)
    return {line.split("DVC stage ")[1] for line in said.splitlines() if ": DVC stage " in line}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return projects.several(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def reproduced(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both pipelines after an undisturbed `dvc repro -P`."""
    where = copied(fresh, tmp_path_factory.mktemp("reproduced") / "toy")
    run(where, "dvc", "repro", "-P")
    assert (where / EXTRA / "join").read_text() == "slow*quick*apart"
    return where


@pytest.fixture
def toy(fresh: Path, tmp_path: Path) -> Path:
    """Both pipelines, without results."""
    return copied(fresh, tmp_path / "toy")


@pytest.fixture
def done(reproduced: Path, tmp_path: Path) -> Path:
    """Both pipelines after `dvc repro -P`."""
    return copied(reproduced, tmp_path / "done")


def test_by_default_the_main_pipeline_is_run(toy: Path, reproduced: Path) -> None:
    assert planned(toy) == planned(toy, "main") == MAIN_STAGES
    run(toy, "snakemake", "-c2")
    assert locks(toy) == {"dvc.lock": (reproduced / "dvc.lock").read_bytes()}
    assert planned(toy) == set()
    assert planned(toy, "all") == planned(toy, "main", "extra") == EXTRA_STAGES


def test_all_pipelines_leave_what_dvc_repro_of_all_leaves(toy: Path, reproduced: Path) -> None:
    assert planned(toy, "all") == MAIN_STAGES | EXTRA_STAGES
    run(toy, *SNAKEMAKE_ALL)
    assert locks(toy) == locks(reproduced)
    assert (toy / EXTRA / "join").read_text() == "slow*quick*apart"
    assert "up to date" in run(toy, "dvc", "status")
    assert planned(toy, "all") == set()
    logs = {path.name for path in (toy / "logs").iterdir()}
    assert {"work_slow.log", "extra_work_slow.log", "join.log", "extra_join.log"} <= logs


def test_a_pipeline_brings_what_it_needs_of_others(toy: Path, tmp_path: Path) -> None:
    """As with `dvc repro` of its dvc.yaml, unneeded stages of the main pipeline do not run."""
    pipeline = toy / EXTRA / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace(" ../../apart", "").replace(", ../../apart", ""))
    for folder in (toy, toy / EXTRA):
        edit(folder, seconds=QUICK)
    by_dvc = copied(toy, tmp_path / "by_dvc")
    run(by_dvc, "dvc", "repro", str(pipeline.relative_to(toy)))
    assert planned(toy, "extra") == MAIN_STAGES - {"apart"} | EXTRA_STAGES
    run(toy, "snakemake", "-c2", "--config", "pipeline=extra")
    assert locks(toy) == locks(by_dvc)
    assert not (toy / "apart").exists()
    assert planned(toy, "all") == {"apart"}


def test_a_change_makes_stale_what_depends_on_it_in_any_pipeline(done: Path) -> None:
    assert planned(done, "all") == set()
    edit(done / EXTRA, sign="+")
    assert planned(done) == set()
    assert planned(done, "extra") == {f"{EXTRA}/dvc.yaml:join"}
    edit(done, sign="-")
    assert planned(done) == {"join"}
    assert planned(done, "extra") == {"join"} | EXTRA_STAGES
    edit(done / EXTRA, cores="many")
    assert f"'{EXTRA}/dvc.yaml:work@slow' must contain integers" in run(
        done, "snakemake", "-n", "--config", "pipeline=extra", fails=True
    )


def test_a_stage_whose_input_no_stage_makes_may_be_without_it(done: Path) -> None:
    """As in a clone after `dvc pull`, also in the folder of a pipeline."""
    pipeline = done / EXTRA / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("[../../join, ../../step.py]", "[../../join, list]"))
    (done / EXTRA / "list").write_text("recordings")
    run(done, *SNAKEMAKE_ALL)
    (done / EXTRA / "list").unlink()
    assert planned(done, "all") == set()


def stop(where: Path, *command: str) -> None:
    """Kill a run and its child processes while it runs a stage of `extra`."""
    driver = Driver(where, *command)
    began, lock = where / EXTRA / "began", where / LOCKS[1]
    try:
        until(lambda: (began / "slow").exists() or driver.process.poll() is not None, "slow")
        if command[0] == "snakemake":  # its entry precedes that of the killed stage
            until(lambda: "work@quick:" in lock.read_text(), "the entry of work@quick", seconds=60)
        assert driver.process.poll() is None, driver.said
    finally:
        Driver.kill_all()


@pytest.mark.parametrize("command", [("dvc", "repro", "-P"), SNAKEMAKE_ALL], ids=["dvc", "snakemake"])
def test_a_killed_run_of_all_pipelines_is_resumed(command, toy: Path, reproduced: Path) -> None:
    seconds = {"slow": 30, "quick": 0}
    edit(toy / EXTRA, seconds=seconds)
    stop(toy, *command)
    assert "work@slow:" not in (toy / LOCKS[1]).read_text()
    edit(toy / EXTRA, seconds=projects.PARAMS["seconds"])
    run(toy, *command, env=projects.environment(toy.parent / "environment"))
    assert locks(toy) == locks(reproduced)
    assert "up to date" in run(toy, "dvc", "status")
    assert not (toy / ".state/plan/lock-order.json").exists()


def test_what_a_kill_left_to_do_keeps_its_place_while_another_pipeline_runs(
    toy: Path, reproduced: Path
) -> None:
    """The recorded order of an interrupted run survives a run of only a part of it."""
    edit(toy, seconds={"slow": 30, "quick": 0})
    Driver(toy, "snakemake", "-c2")
    lock = toy / "dvc.lock"
    try:
        until(lambda: lock.exists() and "work@quick:" in lock.read_text(), "the entry of work@quick")
    finally:
        Driver.kill_all()
    edit(toy, seconds=projects.PARAMS["seconds"])
    pipeline = toy / EXTRA / "dvc.yaml"
    whole = pipeline.read_text()
    pipeline.write_text("stages: {alone: {cmd: cp ../../apart alone, deps: [../../apart], outs: [alone]}}\n")
    run(toy, "snakemake", "-c2", "--config", "pipeline=extra")
    assert (toy / EXTRA / "alone").exists() and not (toy / "work-slow").exists()
    pipeline.write_text(whole)
    run(toy, "snakemake", "-c2")
    assert lock.read_bytes() == (reproduced / "dvc.lock").read_bytes()


HELD = """
import time
from pathlib import Path

Path("began").mkdir(exist_ok=True)
Path("began", "now").touch()
while not Path("go").exists():
    time.sleep(0.05)
"""


def test_parameters_of_every_planned_pipeline_are_watched(toy: Path) -> None:
    """This includes pipelines that are planned only as dependencies."""
    (toy / "step.py").write_text(HELD + STEP)
    driver = Driver(toy, "snakemake", "-c2", "--config", "pipeline=extra")
    try:
        until((toy / "began/now").exists, "a stage")
        assert "Warning: a run of pipeline extra holds this folder" in run(toy, "snakemake", "-n")
        for folder in (toy, toy / EXTRA):
            edit(folder, sign="-")
        (toy / "go").touch()
        assert driver.process.wait(timeout=600) != 0
    finally:
        Driver.kill_all()
    assert f"params.yaml, {EXTRA}/params.yaml changed during this run" in driver.said


def test_parameters_are_checked_before_dvc_reads_them(toy: Path) -> None:
    pipeline, params = toy / EXTRA / "dvc.yaml", toy / EXTRA / "params.yaml"
    pipeline.write_text("stages: {check: {cmd: audionas check, outs: [nothing: {cache: false}]}}\n")
    params.write_text("system: once_for_all\n")
    assert planned(toy) == MAIN_STAGES
    said = run(toy, "snakemake", "-n", "--config", "pipeline=all", fails=True)
    assert f"{EXTRA}/params.yaml: " in said and "corpus: missing" in said


def test_an_unknown_pipeline_is_named(toy: Path) -> None:
    said = run(toy, "snakemake", "-n", "--config", "pipeline=main,extar", fails=True)
    assert "there is no pipeline 'extar'; choose from main, extra, all" in said
    (toy / "pipelines/all").mkdir()
    (toy / "pipelines/all/dvc.yaml").write_text("stages: {}\n")
    assert "pipelines/all: the name `all` is reserved" in run(toy, "snakemake", "-n", fails=True)


def test_stages_of_one_name_have_rules_of_their_own(toy: Path) -> None:
    """Rule names do not depend on the planned pipelines, because job locks use them."""
    pipeline = toy / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("  apart:", "  extra_join: {cmd: echo}\n  apart:"))
    rules = {}
    for chosen in ("main", "extra", "all"):
        run(toy, "snakemake", "-n", "--config", f"pipeline={chosen}")
        stages = json.loads((toy / ".state/plan/plan.json").read_text())["stages"]
        for name, stage in stages.items():
            assert rules.setdefault(name, stage["rule"]) == stage["rule"]
    assert len(set(rules.values())) == len(rules)
    assert rules[f"{EXTRA}/dvc.yaml:start"] == "extra_start"


@pytest.mark.parametrize(
    "text",
    ["/../../../join", "../../join", "../other/join", "a/../../join", "a/../../other/join", "/join", ".."],
)
def test_a_name_that_leads_out_of_the_folder_of_its_pipeline_is_refused_by_dvc(toy: Path, text: str) -> None:
    """The conflict is with a key in the params.yaml of another pipeline."""
    shutil.copytree(toy / EXTRA, toy / "pipelines/other")
    edit(toy / EXTRA, names=[text])
    said = run(toy, "dvc", "stage", "list", f"{EXTRA}/dvc.yaml", fails=True)
    assert "does not exist" in said or "cannot redefine" in said


MANY = "stages: {one: {matrix: {i: '${numbers}'}, cmd: 'echo > ${item.i}', outs: ['${item.i}']}}\n"


def test_dvc_runs_a_few_of_many_stages_in_the_order_of_their_file(toy: Path, tmp_path: Path) -> None:
    """Without the patch, the order is that of a Python set, which differs between processes."""
    numbers = [str(i) for i in range(12)]
    for name in ("many", "more"):
        (toy / "pipelines" / name).mkdir()
        (toy / "pipelines" / name / "dvc.yaml").write_text(MANY)
        (toy / "pipelines" / name / "params.yaml").write_text(json.dumps({"numbers": numbers}))
    environment = projects.environment(tmp_path / "environment")
    command = "dvc", "repro", "--dry", "pipelines/many/dvc.yaml"
    for seed in "123":
        said = run(toy, *command, env=environment | {"PYTHONHASHSEED": seed})
        assert [line.split("> ")[2] for line in said.splitlines() if line.startswith("> echo")] == numbers


def test_verify_cache_reads_the_outputs_of_every_pipeline(done: Path) -> None:
    output = done / EXTRA / "work-slow"
    run(done, "audionas", "verify-cache")
    output.unlink()
    output.write_text("other")
    for where in (done, done / EXTRA):
        said = run(where, "audionas", "verify-cache", fails=True)
        assert f"does not match dvc.lock in {EXTRA}/dvc.yaml:work@slow: work-slow" in said
        assert "1 changed in place" in said
