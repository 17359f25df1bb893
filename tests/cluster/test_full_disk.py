"""A cache on a disk that is too small."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import projects
import pytest
from projects import run

pytestmark = pytest.mark.cluster

PIPELINE = """
stages:
  small:
    cmd: echo small > small
    outs: [small]
  large:
    cmd: python -c "print('x' * 3_000_000)" > large && cat small
    deps: [small]
    outs: [large]
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def test_a_full_disk_is_named_and_costs_one_stage(disk: Path, tmp_path: Path) -> None:
    project = projects.project(tmp_path / "project")
    (project / "dvc.yaml").write_text(PIPELINE)
    run(project, "dvc", "cache", "dir", str(disk / "cache"))
    said = run(project, "dvc", "repro", fails=True)
    assert "No space left" in said
    assert "large" in said
    assert (project / "small").read_text() == "small\n"
    run(project, "audionas", "verify-cache")  # the cached files are intact

    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    said = run(project, "dvc", "repro")
    assert "'small' didn't change" in said
    assert len((project / "large").read_text()) == 3_000_001
    run(project, "audionas", "verify-cache")
