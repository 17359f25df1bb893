"""experiments/forked.py runs stages in DVC's order, each once, and nothing after a failure."""

import json
import subprocess
import sys
from pathlib import Path

import projects
import tiny
from projects import ENV, ROOT, until

FORKED = str(ROOT / "experiments" / "forked.py")


def forked(where: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, FORKED, *arguments]
    return subprocess.run(command, cwd=where, env=ENV, text=True, capture_output=True)


def test_every_stage_is_listed_after_those_that_it_needs(tmp_path: Path) -> None:
    house = projects.house(tmp_path)
    listed = json.loads(forked(house, "list").stdout)
    names = list(listed)
    assert set(names) == set(projects.run(house, "dvc", "stage", "list", "--name-only").split())
    assert all(
        names.index(needed) < names.index(name) for name, stage in listed.items() for needed in stage["needs"]
    )
    assert listed["teacher@0"]["command"] == 'audionas stage "$DVC_STAGE"'


def test_stages_run_once_and_nothing_after_a_failure(tmp_path: Path) -> None:
    space = "audionas space 2-2-x --csv"
    stages = {
        "broken": {"command": "audionas check no-such-file.yaml", "needs": []},
        "after": {"command": space, "needs": ["broken"]},
        "first": {"command": space, "needs": []},
        "second": {"command": space, "needs": ["first", "left@out"]},
        "left@out": {"command": space, "needs": []},
    }
    Path(tmp_path, "stages.json").write_text(json.dumps(stages), encoding="utf-8")
    done = forked(tmp_path, "run", "stages.json", "--without", "left")
    assert done.returncode == 1 and "no-such-file.yaml" in done.stdout
    assert "2 of 4 stages done, 2 left" in done.stdout
    logs = {path.stem: path.read_text() for path in Path(tmp_path, "logs/forked").iterdir()}
    assert set(logs) == {"broken", "first", "second"} and logs["first"].count("\n") == 129
    assert forked(tmp_path, "run", "stages.json", "--without", "left").returncode == 1
    assert Path(tmp_path, "logs/forked/first.log").read_text() == logs["first"]  # not run again


def test_an_unexpected_error_is_in_the_log(tmp_path: Path) -> None:
    stages = {"odd": {"command": "audionas 'evaluate", "needs": []}}
    Path(tmp_path, "stages.json").write_text(json.dumps(stages), encoding="utf-8")
    done = forked(tmp_path, "run", "stages.json")
    assert done.returncode == 1 and "ValueError: No closing quotation" in done.stdout


def test_stages_that_do_not_fit_the_time_are_left(tmp_path: Path) -> None:
    stages = {"first": {"command": "audionas space 2-2-x --csv", "needs": []}}
    Path(tmp_path, "stages.json").write_text(json.dumps(stages), encoding="utf-8")
    late = forked(tmp_path, "run", "stages.json", "--seconds", "-1")
    assert late.returncode == 1 and "0 of 1 stages done, 1 left" in late.stdout


def test_a_stopped_training_resumes(tmp_path: Path) -> None:
    tiny.make(tmp_path, teacher={"iterations": 400}, training={"valid_every": 400})
    stages = {"teacher@0": {"command": 'audionas stage "$DVC_STAGE"', "needs": []}}
    Path(tmp_path, "stages.json").write_text(json.dumps(stages), encoding="utf-8")
    first = subprocess.Popen([sys.executable, FORKED, "run", "stages.json"], cwd=tmp_path, env=ENV)
    log = tmp_path / "logs/forked/teacher@0.log"
    until(lambda: log.exists() and "clips/s" in log.read_text(), "the training", logs=[log])
    first.terminate()
    assert first.wait(timeout=600) == 1 and list(Path(tmp_path, ".state").glob("teacher-0-*.pt"))
    assert "stopped by SIGTERM after iteration" in log.read_text()
    assert forked(tmp_path, "run", "stages.json").returncode == 0
    assert Path(tmp_path, "models/teacher/0.pt").exists()
