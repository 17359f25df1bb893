"""Projects for tests of the engines: a toy pipeline, and a copy of this project."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ENV = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}

# `source` has two branches, which `join` combines; `apart` is independent. The branch that is first in
# dvc.yaml ends last.
PARAMS = {"names": ["slow", "quick"], "seconds": {"slow": 2, "quick": 0}, "sign": "+", "fail": "", "cores": 1}
PIPELINE = r"""
stages:
  source:
    cmd: python step.py source
    deps: [step.py]
    outs: [source]
  work:
    matrix:
      name: ${names}
    cmd: python step.py work-${item.name} source
    deps: [source]
    params: ["seconds.${item.name}", fail]
    outs: ["work-${item.name}"]
    meta: {threads: "${cores}", mem_mb: 10, retries: 0}
  join:
    cmd: python step.py join work-slow work-quick
    deps: [work-slow, work-quick]
    params: [sign]
    outs: [join]
  apart:
    cmd: python step.py apart
    deps: [step.py]
    outs: [apart]
artifacts:
  joined: {path: join, type: model, desc: what came of both}
"""
# A second pipeline, in pipelines/extra. Its stages have the same names, and two of them use outputs of the
# pipeline above. `wdir` and `vars` are as in this project's dvc.yaml.
EXTRA = r"""
stages:
  start:
    cmd: python ../../step.py start ../../join
    deps: [../../join, ../../step.py]
    outs: [start]
  work:
    matrix:
      name: ${names}
    wdir: ${key}/..
    vars: [params.yaml]
    cmd: python ../../step.py work-${item.name} start
    deps: [start]
    params: ["seconds.${item.name}", fail]
    outs: ["work-${item.name}"]
    meta: {threads: "${cores}", mem_mb: 10, retries: 0}
  join:
    cmd: python ../../step.py join work-slow work-quick ../../apart
    deps: [work-slow, work-quick, ../../apart]
    params: [sign]
    outs: [join]
"""
STEP = r"""
import pathlib, sys, time, yaml
params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
out, *deps = sys.argv[1:]
name = out.removeprefix("work-")
pathlib.Path("began").mkdir(exist_ok=True)
pathlib.Path("began", name).touch()
time.sleep(params["seconds"].get(name, 0))
if name == params["fail"]:
    sys.exit(f"{name} is broken")
text = params["sign"].join(pathlib.Path(dep).read_text() for dep in deps) if name == "join" else name
pathlib.Path(out).write_text(text)
"""


def run(where: Path, *command: str, fails: bool | None = False, env: dict[str, str] | None = None) -> str:
    """Return the output of a command. Its exit code must be 0, or not 0 if `fails`; None allows both."""
    environment = {**ENV, **(env or {})}
    done = subprocess.run(command, cwd=where, env=environment, text=True, capture_output=True, timeout=1200)
    said = done.stdout + done.stderr
    assert fails is None or (done.returncode != 0) == fails, said
    return said


def until(met: Callable[[], object], what: str, seconds: float = 600, logs: Iterable[Path] = ()) -> None:
    """Wait for a condition; show the logs if it is never met."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            told = "".join(f"\n{log}:\n{log.read_text(errors='replace')}" for log in logs)
            raise AssertionError(f"{what} did not come in {seconds:.0f} s{told}")
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return unused ports on loopback."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def edit(where: Path, **changes: object) -> None:
    """Change top-level values in the params.yaml of a folder."""
    path = where / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def project(where: Path) -> Path:
    """Initialise git and DVC in a folder."""
    where.mkdir(exist_ok=True)
    run(where, "git", "init", "-q")
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    run(where, "git", *identity, "commit", "-q", "--allow-empty", "-m", "Begin")
    if not (where / ".dvc").exists():
        run(where, "dvc", "init", "-q")
    run(where, "dvc", "config", "core.analytics", "false")
    return where


def add_workflow(where: Path) -> None:
    """Copy the files that Snakemake needs to schedule a dvc.yaml."""
    shutil.copy(ROOT / "Snakefile", where)
    shutil.copytree(ROOT / "workflow", where / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    (where / "profiles").mkdir()
    shutil.copy(ROOT / "profiles" / "default", where / "profiles", follow_symlinks=False)


def toy(where: Path) -> Path:
    """Create the pipeline above, without results."""
    where.mkdir(exist_ok=True)
    (where / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (where / "dvc.yaml").write_text(PIPELINE)
    (where / "step.py").write_text(STEP)
    add_workflow(where)
    return project(where)


def several(where: Path) -> Path:
    """Create the pipeline above and a second one, `extra`, without results."""
    folder = toy(where) / "pipelines" / "extra"
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "sign": "*"}))
    (folder / "dvc.yaml").write_text(EXTRA)
    return where


def house(where: Path) -> Path:
    """Copy the files of this project, without data."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, where / name, follow_symlinks=False)
    return project(where)


def environment(where: Path) -> dict[str, str]:
    """Create an environment with a patched `dvc`, as `make install` does, but without downloads.

    Returns:
        Environment variables with its `dvc` first in PATH.
    """
    venv.create(where, symlinks=True)
    (site,) = where.glob("lib/python*/site-packages")
    here = sysconfig.get_path("purelib")
    (site / "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    python = where / "bin" / "python"
    dvc = where / "bin" / "dvc"
    dvc.write_text(f"#!{python}\nimport sys\nfrom dvc.cli import main\nsys.exit(main())\n")
    dvc.chmod(0o755)
    run(where, str(python), str(ROOT / "workflow" / "safe_dvc.py"))
    return {**ENV, "PATH": f"{where / 'bin'}{os.pathsep}{ENV['PATH']}"}


def safe_dvc() -> ModuleType:
    """Import `safe_dvc` from the workflow, which is not a package."""
    spec = importlib.util.spec_from_file_location("safe_dvc", ROOT / "workflow" / "safe_dvc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
