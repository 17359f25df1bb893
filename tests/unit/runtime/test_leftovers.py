"""A stage under DVC removes outputs of deleted parameters, but no files of the user."""

import logging
from pathlib import Path

import made
import pytest

from audionas.cli import main
from audionas.runtime import files
from audionas.runtime.leftovers import remove_leftovers
from audionas.systems.once_for_all import paths


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_tables_are_of_a_folder_without_the_budget_that_was_taken_out(monkeypatch, caplog):
    made.make(Path(), constraints=["5k"])
    wanted = files_below(paths.RESULTS)
    made.make(Path(), constraints=["5k", "12k"])
    assert files_below(paths.RESULTS) > wanted
    made.make(Path(), constraints=["5k"])
    own = paths.RESULTS / "eval" / "notes.txt"
    own.write_text("mine")
    before = files_below(paths.RESULTS)
    main(["tables"])  # a manual run removes nothing, because no cache has the files
    assert before <= files_below(paths.RESULTS)
    monkeypatch.setenv("DVC_STAGE", "tables")
    assert main(["tables"]) == 0
    left = files_below(paths.RESULTS / "eval") | files_below(paths.RESULTS / "scores")
    assert left == wanted | {own}
    assert f"{own}: not the output of a stage" in caplog.text


def test_leftovers_go_at_any_depth_and_named_files_stay(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("DVC_STAGE", "tables")
    named = [Path("eval/found/a.json"), Path("eval/found/a.npz")]
    dead = Path(f"eval/found/.a.json.{files._HOST}-999999999-0123abcd.tmp")
    for path in (
        *named,
        Path("eval/found/b.json"),
        Path("eval/gone/deep/c.npz"),
        Path("eval/.hidden.json"),
        dead,
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    remove_leftovers(Path("eval"), named)
    assert files_below(Path("eval")) == {*named, Path("eval/.hidden.json")}
    assert not Path("eval/gone").exists() and "eval/found/b.json: removed" in caplog.text
    remove_leftovers(Path("none"), named)
