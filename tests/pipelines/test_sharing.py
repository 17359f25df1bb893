"""Clones reuse results through a remote, also after damage of the remote."""

import re
from pathlib import Path

import projects
import pytest
from projects import run
from remotes import IDENTITY, Shared

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    """Clones A and B of one repository, and their folder remote."""
    return Shared(tmp_path, url=str(tmp_path / "remote"))


def test_what_one_clone_pushed_the_other_need_not_compute(shared: Shared) -> None:
    shared.take_over()


def test_a_clone_without_data_can_be_checked(shared: Shared) -> None:
    """The check of lock file, parameters and code needs no outputs."""
    shared.a_computes()
    b = shared.clone("b")
    assert "up to date" in run(b, "dvc", "repro", "--dry", "--allow-missing")
    projects.edit(b, sign="-")
    said = run(b, "dvc", "repro", "--dry", "--allow-missing", fails=True)
    assert "failed to reproduce 'join'" in said
    assert said.count("didn't change, skipping") == 3


def owned(shared: Shared) -> Path:
    """A study of recordings that only A has, computed and published; gives the folder where they lie now."""
    mine = shared.home / "mine"
    mine.mkdir()
    (mine / "list").write_text("recordings")
    pipeline = (shared.a / "dvc.yaml").read_text()
    given = f"deps: [step.py, {mine}]\n    outs: [{{source: {{persist: true}}}}]"
    (shared.a / "dvc.yaml").write_text(pipeline.replace("deps: [step.py]\n    outs: [source]", given))
    shared.a_computes()
    return mine.rename(shared.home / "only A has it")


def planned(where: Path) -> set[str]:
    return set(re.findall(r"^Job \d+: DVC stage (\S+)$", run(where, "snakemake", "-n"), re.MULTILINE))


def test_a_clone_without_the_recordings_is_up_to_date_and_can_go_on(shared: Shared) -> None:
    """`--allow-missing` for DVC; Snakemake's plan does so by itself, of what no stage makes."""
    away = owned(shared)
    b = shared.clone("b")
    run(b, "dvc", "pull")
    assert planned(b) == set()
    assert "up to date" in run(b, "dvc", "repro", "--allow-missing")
    assert not (b / "began").exists()

    projects.edit(b, sign="-")
    assert planned(b) == {"join"}
    run(b, "dvc", "repro", "--allow-missing")
    assert [path.name for path in (b / "began").iterdir()] == ["join"]
    projects.edit(b, sign="*")
    run(b, "snakemake", "-c1")
    assert (b / "join").read_text() == "slow*quick" and planned(b) == set()

    (b / "work-quick").unlink()  # an output of a stage is computed again
    assert planned(b) == {"work@quick", "join"}
    (b / "source").unlink()
    assert {"source", "work@quick"} <= planned(b)
    run(b, "dvc", "checkout")
    (away / "list").write_text("other recordings")
    away.rename(shared.home / "mine")
    assert "source" in planned(b)
    assert "Running stage 'source'" in run(b, "dvc", "repro", "--allow-missing")


def test_a_plain_repro_without_the_recordings_names_them_and_deletes_nothing(shared: Shared) -> None:
    owned(shared)
    b = shared.clone("b")
    run(b, "dvc", "pull")
    said = run(b, "dvc", "repro", fails=True)
    assert str(shared.home / "mine") in said and "Traceback" not in said
    assert (b / "source").read_text() == "source" and (b / "join").exists()
    assert "up to date" in run(b, "dvc", "repro", "--allow-missing")


def test_a_release_brings_one_model_and_nothing_else(shared: Shared, tmp_path: Path) -> None:
    shared.a_computes()
    run(shared.a, *IDENTITY, "tag", "-a", "-m", "First", "joined@v1.0.0")
    run(shared.a, "git", "push", "-q", "origin", "joined@v1.0.0")
    projects.edit(shared.a, sign="-")
    run(shared.a, "dvc", "repro")
    shared.publish(shared.a, "Compute another")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    origin = str(shared.home / "origin")
    run(elsewhere, "dvc", "artifacts", "get", origin, "joined", "--rev", "v1.0.0")
    assert (elsewhere / "join").read_text() == "slow+quick"
    run(elsewhere, "dvc", "get", origin, "join", "--out", "new")
    assert (elsewhere / "new").read_text() == "slow-quick"
    assert sorted(p.name for p in elsewhere.iterdir()) == ["join", "new"]


def test_a_damaged_object_of_the_remote_is_refused_and_the_rest_comes(shared: Shared) -> None:
    shared.a_computes()
    b = shared.clone("b")
    damaged = shared.remote_object("quick")
    mode = damaged.stat().st_mode
    damaged.chmod(0o644)
    damaged.write_text("quack")
    damaged.chmod(mode)  # DVC hashes writable files again
    assert "work-quick" in run(b, "dvc", "pull", "work@quick", "work@slow", fails=True)
    assert (b / "work-slow").read_text() == "slow"
    assert not (b / "work-quick").exists()
    run(b, "audionas", "verify-cache")  # no damaged object was pulled

    # A push compares only names, so the object is deleted first.
    name = str(Path(*damaged.parts[-2:]))
    assert "corrupted cache file" in (said := run(b, "dvc", "pull", "-v", fails=True)) and name in said
    assert "up to date" in run(shared.a, "dvc", "push")
    damaged.unlink()
    run(shared.a, "dvc", "push")
    run(b, "dvc", "pull")
    assert (b / "work-quick").read_text() == "quick"


def test_a_push_that_was_cut_short_is_completed_by_the_next(shared: Shared) -> None:
    shared.a_computes()
    lost = shared.remote_object("slow")
    lost.unlink()
    b = shared.clone("b")
    assert "work-slow" in run(b, "dvc", "pull", fails=True)
    assert (b / "work-quick").read_text() == "quick"  # existing objects were pulled
    run(shared.a, "dvc", "push")
    run(b, "dvc", "pull")
    assert (b / "work-slow").read_text() == "slow"


def test_a_remote_that_can_not_be_written_loses_nothing(shared: Shared) -> None:
    """The remote's folder is a file: no rights are needed to refuse root as well."""
    run(shared.a, "dvc", "repro")
    shared.remote.write_text("no folder")
    said = run(shared.a, "dvc", "push", fails=True)
    assert str(shared.remote) in said
    assert (shared.a / "join").read_text() == "slow+quick"
    assert "up to date" in run(shared.a, "dvc", "status")


READS_A_FOLDER = """
stages:
  measure:
    matrix: {name: "${names}"}
    cmd: mkdir -p results/eval && echo ${item.name} > results/eval/${item.name}.json
    outs: [{"results/eval/${item.name}.json": {persist: true}}]
  tables:
    cmd: python tables.py
    deps: [results/eval]
    params: [names]
    outs: [table]
"""
TABLES = """
from pathlib import Path
import yaml
from audionas.runtime.leftovers import remove_leftovers

names = yaml.safe_load(Path("params.yaml").read_text())["names"]
folder = Path("results/eval")
remove_leftovers(folder, [folder / f"{name}.json" for name in names])
Path("table").write_text("".join(path.read_text() for path in sorted(folder.glob("*.json"))))
"""


@pytest.mark.parametrize("engine", [("dvc", "repro"), ("snakemake", "-c1")], ids=["dvc", "snakemake"])
def test_what_was_taken_out_leaves_nothing_stale(shared: Shared, engine: tuple[str, ...]) -> None:
    """A stage that reads a folder, such as `tables`, removes files of deleted parameters."""
    (shared.a / "dvc.yaml").write_text(READS_A_FOLDER)
    (shared.a / "tables.py").write_text(TABLES)
    (shared.a / "dvc.lock").unlink(missing_ok=True)
    projects.edit(shared.a, names=["kept", "removed"])
    run(shared.a, *engine)
    assert (shared.a / "table").read_text() == "kept\nremoved\n"
    projects.edit(shared.a, names=["kept"])
    run(shared.a, *engine)
    assert "up to date" in run(shared.a, "dvc", "status")
    shared.publish(shared.a, "Take one out")
    b = shared.clone("b")
    run(b, "dvc", "pull")
    assert "up to date" in run(b, "dvc", "status") and planned(b) == set()
    assert (b / "table").read_text() == "kept\n"
