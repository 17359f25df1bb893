"""SIGKILL of an engine and its processes at random times: the next run starts without repair."""

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

KILLS = 20  # number of kills per engine
NAMES = ["slow", "quick", "more"]
REFUSED = "unlock", "rwlock", "Traceback", "corrupted", "Unable to acquire lock", "unable to read"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return projects.environment(tmp_path_factory.mktemp("environment"))


ENGINES = {"dvc": ("dvc", "repro", "-P"), "snakemake": ("snakemake", "-c2", "--config", "pipeline=all")}
MADE = "dvc.lock", "join", "apart", "source", "start"


def folders(where: Path) -> tuple[Path, Path]:
    """Return the lock files of both pipelines."""
    return where, where / "pipelines/extra"


def outputs(where: Path) -> dict[str, bytes]:
    made = [folder / name for folder in folders(where) for name in MADE]
    return {str(path.relative_to(where)): path.read_bytes() for path in made if path.exists()}


@pytest.mark.parametrize("command", ENGINES.values(), ids=ENGINES)
def test_after_any_kill_the_next_run_starts_by_itself(
    command: tuple[str, ...], environment: dict[str, str], tmp_path: Path
) -> None:
    """Each run resumes the previous one. After completion, all results are deleted."""
    toy = projects.several(tmp_path / "toy")
    for folder in folders(toy):
        projects.edit(folder, names=NAMES, seconds=dict.fromkeys(NAMES, 0))
    whole = shutil.copytree(toy, tmp_path / "whole", symlinks=True)
    run(whole, *ENGINES["dvc"], env=environment)
    assert len(outputs(whole)) == 7
    chance, killed = random.Random(0), 0
    begun = time.monotonic()
    run(toy, *command, env=environment)
    longest = time.monotonic() - begun  # spreads the kills over a run on any machine
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
    """Delete all results, so that there are stale stages."""
    for folder in folders(where):
        for path in [*(folder / name for name in MADE), *folder.glob("work-*")]:
            path.unlink(missing_ok=True)
    shutil.rmtree(where / ".dvc/cache", ignore_errors=True)
