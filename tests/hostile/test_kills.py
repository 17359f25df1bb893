"""SIGKILL for an engine and all that it runs, at random instants: the next run starts by itself."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import projects
import pytest
from projects import run

pytestmark = [pytest.mark.engine, pytest.mark.slow]

KILLS = 20  # of each engine
NAMES = ["slow", "quick", "more"]
REFUSED = "unlock", "rwlock", "Traceback", "corrupted", "Unable to acquire lock", "unable to read"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return projects.environment(tmp_path_factory.mktemp("environment"))


def outputs(where: Path) -> dict[str, bytes]:
    return {name: (where / name).read_bytes() for name in ("dvc.lock", "join", "apart", "source")}


@pytest.mark.parametrize("command", [("dvc", "repro"), ("snakemake", "-c2")], ids=["dvc", "snakemake"])
def test_after_any_kill_the_next_run_starts_by_itself(
    command: tuple[str, ...], environment: dict[str, str], tmp_path: Path
) -> None:
    """Each run gets a little further; when all is done, the results are deleted and it begins again."""
    toy = projects.toy(tmp_path / "toy")
    projects.edit(toy, names=NAMES, seconds=dict.fromkeys(NAMES, 0))
    whole = shutil.copytree(toy, tmp_path / "whole", symlinks=True)
    run(whole, "dvc", "repro", env=environment)
    chance, killed = random.Random(0), 0
    begun = time.monotonic()
    run(toy, *command, env=environment)
    longest = time.monotonic() - begun  # so that the instants spread over a run on any machine
    while killed < KILLS:
        if killed % 5 == 0:
            forget(toy)
        with (toy / "said").open("wb") as said:
            process = subprocess.Popen(
                command, cwd=toy, env=environment, stdout=said, stderr=said, start_new_session=True
            )
        try:
            process.wait(timeout=chance.uniform(0.2, longest))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        else:
            assert process.returncode == 0, (toy / "said").read_text()
            forget(toy)
        text = (toy / "said").read_text()
        assert not any(word in text for word in REFUSED), text
    run(toy, *command, env=environment)
    assert outputs(toy) == outputs(whole)
    assert "up to date" in run(toy, "dvc", "status", env=environment)


def forget(where: Path) -> None:
    """All that was computed, so that there is something to do."""
    for name in ("dvc.lock", "join", "apart", "source"):
        (where / name).unlink(missing_ok=True)
    for path in where.glob("work-*"):
        path.unlink()
    shutil.rmtree(where / ".dvc/cache", ignore_errors=True)
