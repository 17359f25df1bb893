"""For tests of the engines: a toy pipeline, and this project's own files, each in a folder of its own."""

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

# `source` feeds two branches that `join` brings together; `apart` stands alone. Of the branches, the one that
# comes first in dvc.yaml ends last.
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
# A second pipeline, in pipelines/extra: its stages have the names of those above, two of them use outputs of
# the pipeline above, and `wdir` and `vars` are as in this project's own dvc.yaml.
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
    """What a command prints; its exit code must be 0, or another where it `fails` (None: either)."""
    environment = {**ENV, **(env or {})}
    done = subprocess.run(command, cwd=where, env=environment, text=True, capture_output=True, timeout=1200)
    said = done.stdout + done.stderr
    assert fails is None or (done.returncode != 0) == fails, said
    return said


def until(met: Callable[[], object], what: str, seconds: float = 600, logs: Iterable[Path] = ()) -> None:
    """Wait for it; the logs are shown where it does not come."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            told = "".join(f"\n{log}:\n{log.read_text(errors='replace')}" for log in logs)
            raise AssertionError(f"{what} did not come in {seconds:.0f} s{told}")
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def edit(where: Path, **changes: object) -> None:
    """Put other values at the top of the params.yaml of a folder."""
    path = where / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def project(where: Path) -> Path:
    """Make a folder one of git and DVC."""
    where.mkdir(exist_ok=True)
    run(where, "git", "init", "-q")
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    run(where, "git", *identity, "commit", "-q", "--allow-empty", "-m", "Begin")
    if not (where / ".dvc").exists():
        run(where, "dvc", "init", "-q")
    run(where, "dvc", "config", "core.analytics", "false")
    return where


def add_workflow(where: Path) -> None:
    """What Snakemake needs to schedule a dvc.yaml."""
    shutil.copy(ROOT / "Snakefile", where)
    shutil.copytree(ROOT / "workflow", where / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    (where / "profiles").mkdir()
    shutil.copy(ROOT / "profiles" / "default", where / "profiles", follow_symlinks=False)


def toy(where: Path) -> Path:
    """The pipeline above, not run yet."""
    where.mkdir(exist_ok=True)
    (where / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (where / "dvc.yaml").write_text(PIPELINE)
    (where / "step.py").write_text(STEP)
    add_workflow(where)
    return project(where)


def several(where: Path) -> Path:
    """The pipeline above and a second one, `extra`, not run yet."""
    folder = toy(where) / "pipelines" / "extra"
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "sign": "*"}))
    (folder / "dvc.yaml").write_text(EXTRA)
    return where


def house(where: Path) -> Path:
    """This project's own files, without data."""
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
    """What `make install` leaves, without its downloads: an environment whose `dvc` is changed at its start.

    Returns the environment variables in which its `dvc` is found first.
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
    """The module of the workflow, which is no package."""
    spec = importlib.util.spec_from_file_location("safe_dvc", ROOT / "workflow" / "safe_dvc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
