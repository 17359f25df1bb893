"""Jobs in separate PID namespaces, which cannot see each other's processes, as on several machines."""

import shutil
import subprocess
import sys
from pathlib import Path

import projects
import pytest
from projects import ENV, run, until

pytestmark = pytest.mark.cluster

UNSHARED = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    if not shutil.which("unshare") or subprocess.run([*UNSHARED, "true"], capture_output=True).returncode:
        pytest.skip("PID namespaces need root and unshare (util-linux)")
    where = projects.toy(tmp_path / "toy")
    projects.edit(where, seconds={"slow": 30, "quick": 30})
    run(where, "snakemake", "-c1", "source")
    return where


def job(where: Path, stage: str, number: int) -> subprocess.Popen:
    """Start the job of a stage as on a separate machine."""
    command = [*UNSHARED, sys.executable, "workflow/plan.py", "run", stage, f"{number}.log"]
    return subprocess.Popen(command, cwd=where, env={**ENV, "SLURM_JOB_ID": str(number)}, text=True)


def test_stages_on_many_machines_leave_what_dvc_repro_leaves(toy: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(toy, tmp_path / "alone", symlinks=True)
    run(alone, "dvc", "repro")
    jobs = [job(toy, stage, number) for number, stage in enumerate(["work@slow", "work@quick", "apart"])]
    until(lambda: all((toy / "began" / name).exists() for name in ("slow", "quick")), "both")
    said = run(toy, "snakemake", "-c2")
    assert [one.wait(timeout=600) for one in jobs] == [0, 0, 0]
    for stage in ("work@slow", "work@quick"):
        assert f"another job already runs {stage}" in said
    assert (toy / "dvc.lock").read_bytes() == (alone / "dvc.lock").read_bytes()
    assert "up to date" in run(toy, "dvc", "repro")
