"""Outputs are replaced only by complete new ones, and contain nothing of earlier runs."""

import shutil
from pathlib import Path

import projects
import pytest
import yaml
from dag import ROOT
from projects import run

from audionas.runtime.files import new_folder
from audionas.training.curves import Curves

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
OUTPUTS = [out for stage in STAGES.values() for out in stage["outs"] + stage.get("metrics", [])]


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_dvc_deletes_no_output_before_a_stage_runs():
    assert all(settings == {"persist": True} for out in OUTPUTS for settings in out.values())


def test_a_new_folder_takes_the_place_of_the_old_one_or_leaves_it(tmp_path):
    folder = tmp_path / "parts" / "tables"
    with new_folder(folder) as new:
        (new / "one").write_text("1")
        (new / "two").write_text("2")
    with pytest.raises(ZeroDivisionError), new_folder(folder) as new:
        (new / "one").write_text("half")
        1 / 0  # noqa: B018
    assert files(folder) == {"one": b"1", "two": b"2"}
    left = folder.with_name(".tables.tmp")  # left by a killed run
    left.mkdir()
    (left / "junk").touch()
    with new_folder(folder) as new:
        (new / "three").write_text("3")
    assert files(folder.parent) == {"tables/three": b"3"} and len(list(folder.parent.iterdir())) == 1


def test_a_curve_begins_in_an_empty_folder(tmp_path):
    points = [{"iteration": 1, "loss": 0.5, "valid_mAP": 0.1}, {"iteration": 2, "loss": 0.4}]
    with Curves(tmp_path / "fresh", points):
        pass
    with Curves(tmp_path / "again", [{"iteration": i, "other": 1.0} for i in range(9)]):
        pass
    (tmp_path / "again" / "junk").touch()
    with Curves(tmp_path / "again", points):
        pass
    assert files(tmp_path / "again") == files(tmp_path / "fresh") != {}


def test_make_clean_deletes_what_stages_write_and_nothing_else(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    mine = [
        Path(name)
        for name in ("data/mine/a.wav", "models/mine.pt", "results/paper/figure.pdf", "logs/mine/x")
    ]
    theirs = [Path(next(iter(out)).replace("${", "").replace("}", "")) for out in OUTPUTS]
    for path in [*mine, *theirs, Path("logs/teacher_0.log"), Path("logs/seconds/teacher/0.txt")]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    run(tmp_path, "make", "clean")
    assert set(files(tmp_path)) == {"Makefile", *(path.as_posix() for path in mine)}
    for path in mine:
        (tmp_path / path).unlink()
    run(tmp_path, "make", "clean")
    assert not (tmp_path / "models").exists()


PERSISTENT = """
stages:
  folder:
    cmd: python step.py
    deps: [step.py]
    params: [names, fail]
    outs:
      - out:
          persist: true
"""
STEP = """
import shutil, sys, yaml
from pathlib import Path
params = yaml.safe_load(Path("params.yaml").read_text())
new = Path(".out.tmp")
shutil.rmtree(new, ignore_errors=True)
new.mkdir()
for name in params["names"]:
    (new / name).write_text(name)
if params["fail"]:
    sys.exit("broken")
if Path("out").exists():
    shutil.rmtree("out")
new.rename("out")
"""


@pytest.mark.slow
@pytest.mark.parametrize("links", ["copy", "hardlink,copy", "symlink,copy"])
def test_a_persistent_folder_equals_one_made_from_scratch_and_the_cache_stays_whole(tmp_path, links):
    def start(name: str) -> Path:
        where = tmp_path / name
        where.mkdir()
        (where / "dvc.yaml").write_text(PERSISTENT)
        (where / "step.py").write_text(STEP)
        (where / "params.yaml").write_text("names: [a, b]\nfail: false\n")
        projects.project(where)
        run(where, "dvc", "config", "cache.type", links)
        return where

    used, fresh = start("used"), start("fresh")
    run(used, "dvc", "repro")
    before = files(used / "out")
    projects.edit(used, names=["c"], fail=True)
    assert "broken" in run(used, "dvc", "repro", fails=True)
    assert files(used / "out") == before  # the old files are kept
    projects.edit(used, fail=False, names=["a", "c"])
    run(used, "dvc", "repro")
    projects.edit(fresh, names=["a", "c"])
    run(fresh, "dvc", "repro")
    assert files(used / "out") == files(fresh / "out")
    assert (used / "dvc.lock").read_bytes() == (fresh / "dvc.lock").read_bytes()
    run(used, "audionas", "verify-cache")
    assert "up to date" in run(used, "dvc", "status")
