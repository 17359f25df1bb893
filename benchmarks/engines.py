"""Overhead of the two engines, with as many empty stages as a study has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SOURCES = 15  # dependencies per stage, about as many as in this project
RUN, ASKED = 60, (60, 150)  # stages


def engines() -> dict:
    """Measure the overhead per stage in seconds, and the time of a run without stale stages."""
    with tempfile.TemporaryDirectory() as folder:
        project = _make(Path(folder), RUN)
        scheduled = _seconds(project, "snakemake", "-c2") / RUN
    with tempfile.TemporaryDirectory() as folder:
        project = _make(Path(folder), RUN)
        serial = _seconds(project, "dvc", "repro") / RUN
    rows = []
    for count in ASKED:
        with tempfile.TemporaryDirectory() as folder:
            project = _make(Path(folder), count)
            row = {"stages": str(count), "snakemake -n, all stale, s": _seconds(project, "snakemake", "-n")}
            for i in range(count):  # as after the stages
                (project / f"out{i}").write_text(f"{i}\n")
            _seconds(project, "dvc", "commit", "--force")
            row["snakemake -n, all done, s"] = _seconds(project, "snakemake", "-n")
            row["dvc repro, all done, s"] = _seconds(project, "dvc", "repro")
            rows.append({key: f"{value:.1f}" if key != "stages" else value for key, value in row.items()})
    return {
        "what": f"a stage of {RUN} that do nothing, each of {SOURCES} files, by `snakemake -c2`; "
        "reference: by `dvc repro`",
        "unit": "s",
        "ours": scheduled,
        "reference": serial,
        "floor": None,
        "counted": "nothing bounds it but Python's start",
        "table": rows,
    }


def _make(project: Path, count: int) -> Path:
    """Write three layers of stages with the shape of a study: few, many, one."""
    files = [f"source{i}.py" for i in range(SOURCES)]
    for name in files:
        (project / name).write_text(f"# {name}\n")
    stages = {}
    for i in range(count):
        needs = (
            [] if i < 5 else [f"out{i % 5}"] if i < count - 1 else [f"out{j}" for j in range(5, count - 1)]
        )
        stages[f"stage{i}"] = {"cmd": f"echo {i} > out{i}", "deps": [*files, *needs], "outs": [f"out{i}"]}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (project / "params.yaml").write_text("{}\n")
    shutil.copy(ROOT / "Snakefile", project)
    shutil.copytree(ROOT / "workflow", project / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "profiles").mkdir()
    shutil.copy(ROOT / "profiles" / "default", project / "profiles", follow_symlinks=False)
    for command in (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["dvc", "config", "core.analytics", "false"],
    ):
        _seconds(project, *command)
    return project


def _seconds(project: Path, *command: str) -> float:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    began = time.perf_counter()
    subprocess.run(command, cwd=project, env={**os.environ, "PATH": path}, check=True, capture_output=True)
    return time.perf_counter() - began
