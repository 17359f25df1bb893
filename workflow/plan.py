"""The plan of a Snakemake run, derived from DVC.

The `dvc.yaml` files define the DAG, and only DVC decides which stages are stale. `make` stores this decision
in a plan, and `rules/stages.smk` creates one rule per stage from it. Snakemake only checks stamp files. A
fresh stage has a stamp; a stale stage and all stages that depend on it have none.

There may be several pipelines. `dvc.yaml` in the project's folder defines `main`, and
`pipelines/NAME/dvc.yaml` defines any other. A plan contains all stages of the chosen pipelines, and the
stages of other pipelines that they depend on.

`run` is the job of one stage. A cluster job may outlive its Snakemake process, and another Snakemake may
submit the same stage again. Only the job that holds the stage's lock runs it. The other job waits, then finds
the stage up to date or resumes it.

`record_lock_order` and `restore_lock_order` keep the entry order of each `dvc.lock` equal to that of `dvc
repro`. DVC appends an entry when a stage ends, so parallel jobs would append in the order in which they end.
"""

import ctypes
import fcntl
import gc
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import nullcontext, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import safe_dvc

PIPELINES = Path("pipelines")
MAIN = "main"  # name of the pipeline in the project's folder
ALL = "all"
HOME = Path(".state/plan")
PLAN = HOME / "plan.json"
STAMPS = HOME / "stamps"
LOCKS = HOME / "locks"
LOCK_ORDER = HOME / "lock-order.json"
DRIVER = HOME / "driver"  # lock file of the Snakemake process that plans or runs
SNAKEMAKE_LOCKS = Path(".snakemake/locks")
CLUSTERS = "SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST"  # environment variables of cluster jobs
_PR_SET_PDEATHSIG = 1  # option of Linux prctl
_MARGIN = 120.0  # seconds of a job's time limit that are kept for its start and the last checkpoint
DEFAULTS = {"threads": 1, "mem_mb": 1000, "gpus": 0, "ranks": 1, "runtime": 60, "retries": 0}
RULES = {"all", "results"}  # rules that are not stages


def make(pipelines: str = MAIN) -> dict:
    """Ask DVC which stages are stale, write the plan, and create stamps for exactly the fresh stages.

    Args:
        pipelines: comma-separated names of the pipelines to plan, or `all`.

    Returns:
        The plan; see `load`.
    """
    chosen = _chosen(pipelines)
    for folder in chosen.values():
        _check_parameters(folder)
    gc.disable()  # garbage collection over the objects of DVC and Snakemake takes a second
    _patch_dvc()
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import get_active_graph, plan_repro
    from dvc.stage import PipelineStage

    _disable_rwlock()  # a stage that still runs from an earlier run is stale, and `run` waits for it
    stages, stale, entries, watched = {}, set(), {}, set()
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        graph = get_active_graph(repo.index.graph)
        folders = set(chosen.values())
        made = [Path(out.fs_path) for stage in repo.index.stages for out in stage.outs]
        rules = _rule_names([stage.addressing for stage in repo.index.stages])
        defined = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
        targets = [stage for stage in defined if Path(stage.path_in_repo).parent in folders]
        # In the order of `dvc repro`: dependencies come first.
        for stage in plan_repro(graph, targets) if targets else ():
            name, needs = stage.addressing, [needed.addressing for needed in graph.successors(stage)]
            if stale.intersection(needs) or _stale(stage, made):
                stale.add(name)
            watched.update(
                os.path.relpath(dep.fs_path) for dep in stage.deps if isinstance(dep, ParamsDependency)
            )
            if isinstance(stage, PipelineStage):  # a .dvc file has no lock file
                entries.setdefault(Path(stage.path_in_repo).parent, []).append(stage.name)
            rule = rules[name]
            stamp = (STAMPS / rule).as_posix()
            stages[name] = {"rule": rule, "stamp": stamp, "needs": needs, **_resources(name, stage.meta)}
        locks = {
            (folder / "dvc.lock").as_posix(): {
                "planned": planned,
                "defined": [each.name for each in defined if Path(each.path_in_repo).parent == folder],
            }
            for folder, planned in entries.items()
        }
    gc.freeze()
    gc.enable()
    for folder in entries.keys() - folders:
        _check_parameters(folder)
    _set_stamps(stages, stale)
    for folder in folders | entries.keys():
        watched |= {(folder / name).as_posix() for name in ("dvc.yaml", "params.yaml")}
    files = {path: _digest(path) for path in sorted(watched)}
    plan = {"pipelines": list(chosen), "files": files, "locks": locks, "stages": stages}
    _write(PLAN, plan)
    return plan


def _chosen(pipelines: str) -> dict[str, Path]:
    """Return pipeline folders by name. Exits with a message if a pipeline does not exist."""
    found = {MAIN: Path()} if Path("dvc.yaml").exists() else {}
    for path in sorted(PIPELINES.glob("*/dvc.yaml")):
        if path.parent.name in (MAIN, ALL):
            sys.exit(f"{path.parent}: the name `{path.parent.name}` is reserved; rename the folder")
        found[path.parent.name] = path.parent
    if pipelines == ALL:
        return found
    names = str(pipelines).split(",")
    if unknown := [name for name in names if name not in found]:
        sys.exit(
            f"--config pipeline={pipelines}: there is no pipeline {unknown[0]!r}; choose from "
            f"{', '.join([*found, ALL])}"
        )
    return {name: folder for name, folder in found.items() if name in names}


def _check_parameters(folder: Path) -> None:
    """Exit with the error message of the stages if they would reject the parameters."""
    # Before the package is imported, since other pipelines need not have it.
    if "cmd: audionas" in (folder / "dvc.yaml").read_text(encoding="utf-8"):
        from audionas.runtime.errors import UserError
        from audionas.systems import registry

        path = folder / "params.yaml"
        try:
            registry.check(registry.load_config(path), path)
        except UserError as error:
            sys.exit(f"{error}")


def _stale(stage: "Stage", made: list[Path]) -> bool:  # noqa: F821 - DVC is imported late
    """Return whether DVC considers a stage stale, ignoring missing files that no stage produces.

    A user who pulls a study does not need the original recordings, as with `dvc repro --allow-missing`. A
    missing path that contains, or lies in, an output of a stage still makes the stage stale.

    Args:
        stage: stage of DVC.
        made: outputs of all stages.
    """
    changed = [entry for entries in stage.status().values() for entry in entries]
    if not changed:
        return False
    missing = set()
    for dep in stage.deps:
        path = Path(dep.fs_path)
        if not any(path.is_relative_to(out) or out.is_relative_to(path) for out in made):
            missing.add(str(dep))
    return not all(
        isinstance(entry, dict)
        and set(entry) == {"changed deps"}
        and all(how == "deleted" and dep in missing for dep, how in entry["changed deps"].items())
        for entry in changed
    )


def load() -> dict:
    """Read the plan. All processes except the main one use it.

    Returns:
        `pipelines`: names; `files`: SHA-256 by path; `locks`: stage names by lock file; `stages`: rule,
        stamp, dependencies and resources by stage.
    """
    try:
        plan = json.loads(PLAN.read_text(encoding="utf-8"))
        return {
            "pipelines": list(plan["pipelines"]),
            **{part: dict(plan[part]) for part in ("files", "locks", "stages")},
        }
    except FileNotFoundError:
        problem = "is missing"
    except (ValueError, KeyError, TypeError):
        problem = "is damaged"
    sys.exit(f"{PLAN} {problem}; restart snakemake to create a new plan")


def open_plan(pipelines: str = MAIN) -> dict:
    """Return the plan for Snakemake's main process: a new plan, or that of an active run in this folder.

    Snakemake's own locks survive a SIGKILL, but a lock of the operating system does not. The main process
    holds such a lock during its lifetime. A process that acquires it can safely remove the locks of a killed
    run.

    Args:
        pipelines: as in `make`.
    """
    if not _claim():
        try:
            plan = load()
        except SystemExit as damage:
            print(f"Warning: {damage.code.partition(';')[0]}; creating a new plan", file=sys.stderr)
        else:
            _warn_of_differences(plan, pipelines)
            return plan
    return make(pipelines)


def _claim() -> bool:
    """Try to become the only process that plans and runs in this folder; return whether it succeeded."""
    HOME.mkdir(parents=True, exist_ok=True)
    driver = os.open(
        DRIVER, os.O_CREAT | os.O_RDWR, 0o666
    )  # stays open until exit; child processes do not inherit it
    while True:
        locked = SNAKEMAKE_LOCKS.is_dir() and any(SNAKEMAKE_LOCKS.iterdir())
        try:
            fcntl.flock(driver, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if locked:
                return False
            time.sleep(0.1)  # the other process is planning, and has no Snakemake lock yet
        except OSError:  # no flock on this file system, so an active run cannot be detected
            return not locked
        else:
            if locked:
                print("The last run in this folder was killed; removing its locks", file=sys.stderr)
                shutil.rmtree(SNAKEMAKE_LOCKS)
            return True


def _warn_of_differences(plan: dict, pipelines: str) -> None:
    """Print a warning if the plan of the active run is for other pipelines or other files."""
    if plan["pipelines"] != list(_chosen(pipelines)):
        print(
            f"Warning: a run of pipeline {', '.join(plan['pipelines'])} holds this folder. The output "
            f"below is about that run, not about {pipelines}.",
            file=sys.stderr,
        )
    if changed := _changed(plan):
        print(
            f"Warning: {changed} changed since this plan was made, and a run holds this folder. The output "
            "below is based on the old files. If no run is active, use `snakemake --unlock`; the next run "
            "then creates a new plan.",
            file=sys.stderr,
        )


def check() -> None:
    """Exit if parameters or pipelines changed after the plan was made."""
    if changed := _changed(load()):
        sys.exit(
            f"{changed} changed during this run, so the run would mix two experiments. "
            "This stage did not run; restart snakemake to create a new plan."
        )


def _changed(plan: dict) -> str:
    return ", ".join(path for path, digest in plan["files"].items() if _digest(path) != digest)


def run(stage: str, log: str, minutes: str = "") -> None:
    """Run one stage with DVC if it is stale, and exit with DVC's exit code.

    A lock ensures that only one process runs the stage. It works on all machines that share this folder, if
    the file system supports flock (Lustre: mount option -o flock). The stage inherits the lock, so the lock
    is held until both DVC and the stage have ended.

    SIGTERM is forwarded to the stage, so that it can save a checkpoint. DVC waits for the stage and records
    completed ones. Under Slurm, a training stops by itself before the time limit of the job. The log is
    opened for appending, because jobs that waited write to it too.

    Args:
        stage: DVC's name of the stage.
        log: path of the log file.
        minutes: time limit of the job; used only under Slurm.
    """
    allowed = float(minutes) * 60 if minutes and "SLURM_JOB_ID" in os.environ else float("inf")
    deadline = time.monotonic() + allowed - min(allowed / 10, _MARGIN)
    try:
        rule = load()["stages"][stage]["rule"]
    except KeyError:
        sys.exit(
            f"{PLAN}: no stage {stage!r} in the plan; `snakemake -n` creates a new plan and lists its stages"
        )
    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = os.open(LOCKS / rule, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another job already runs {stage}: waiting until it ends", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    written = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(written, stream.fileno())
    where = f"{socket.gethostname()}, job {os.environ.get('SLURM_JOB_ID', 'of this machine')}"
    print(f"--- {stage} on {where}, {datetime.now():%Y-%m-%d %H:%M:%S}", flush=True)
    check()
    import psutil  # noqa: F401 - `_forward_signal` cannot import it during another import

    _patch_dvc()
    signal.signal(signal.SIGTERM, _forward_signal)
    _configure_stage_start(lock, deadline)
    # DVC starts the stage with this shell. Bash replaces itself by a single command. Another shell may remain
    # as the parent, die of SIGTERM, and make DVC believe that the stage has ended.
    os.environ["SHELL"] = shutil.which("bash") or "/bin/sh"
    if any(name in os.environ for name in CLUSTERS):
        _disable_rwlock()
    from dvc.cli import main

    sys.exit(main(["--wait-for-lock", "repro", "--single-item", stage]))


_terminating = False  # whether SIGTERM was received


def _forward_signal(number: int, _frame: object) -> None:
    """Forward SIGTERM to the stage, or prevent its start. DVC itself completes what it is doing.

    The signal is forwarded only once. Slurm also signals the stage, and a launcher that receives three
    signals exits before its ranks have saved a checkpoint.
    """
    import psutil

    global _terminating
    children = [] if _terminating else psutil.Process().children()
    _terminating = True
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.send_signal(number)


def _configure_stage_start(lock: int, deadline: float) -> None:
    """Make DVC start the stage with the lock, the time limit, and SIGTERM on the death of this process.

    Args:
        lock: file descriptor of the stage's lock.
        deadline: end of the time limit, on the clock `time.monotonic`.
    """
    import dvc.stage.run as starting

    prepare, system = starting.prepare_kwargs, ctypes.CDLL(None)

    def prepared(*arguments, **options) -> dict:
        if _terminating:
            sys.exit(128 + signal.SIGTERM)
        given = prepare(*arguments, **options)
        if sys.platform == "linux":
            given["preexec_fn"] = lambda: system.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if deadline < float("inf"):
            given["env"].setdefault("AUDIONAS_TIME_LIMIT", f"{deadline - time.monotonic():.0f}")
        return {**given, "pass_fds": (lock,)}

    starting.prepare_kwargs = prepared


def _patch_dvc() -> None:
    """Apply `safe_dvc`. Exits if the installed version of DVC is not supported."""
    if not safe_dvc.supported():
        sys.exit(
            f"DVC {version('dvc')} is installed, but workflow/plan.py requires DVC "
            f"{safe_dvc.TESTED}; run `make install`, or use `dvc repro` instead of snakemake"
        )
    safe_dvc.activate()


def _disable_rwlock() -> None:
    """Disable DVC's record of which process uses which file.

    DVC identifies processes by their ids, which are meaningless on another machine. There, DVC treats running
    stages as dead and makes them fail. The lock in `run` replaces this record.
    """
    import dvc.rwlock

    dvc.rwlock.rwlock = lambda *_: nullcontext()


def record_lock_order(plan: dict) -> None:
    """Record the entry order of each `dvc.lock`: old entries, then new ones in the order of `dvc repro`."""
    from dvc.repo import Repo, lock_repo

    noted = _recorded_orders()
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        entries = {
            lock: _lock_entries(lock) for lock in {*noted, *plan["locks"]}
        }  # read while DVC's lock is held
    for lock in noted.keys() & plan["locks"].keys():
        known = {*entries[lock], *plan["locks"][lock]["defined"]}
        noted[lock] = [name for name in noted[lock] if name in known]
    if not any(set(order).difference(entries[lock]) for lock, order in noted.items()):
        noted = {}  # no run was interrupted, or `dvc repro` completed it
    for lock, stages in plan["locks"].items():
        order = [*noted.get(lock, ()), *entries[lock], *stages["planned"]]
        noted[lock] = list(dict.fromkeys(order))
    _write(LOCK_ORDER, noted)


def restore_lock_order() -> None:
    """Sort each `dvc.lock` by the recorded order. The record is kept if the run was interrupted."""
    from dvc.repo import Repo, lock_repo
    from dvc.utils.serialize import modify_yaml

    unfinished = {}
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        for lock, order in _recorded_orders().items():
            rank = {name: place for place, name in enumerate(order)}
            entries = _lock_entries(lock)
            ordered = sorted(entries, key=lambda name: rank.get(name, len(rank)))
            if entries != ordered:
                with modify_yaml(lock) as content:
                    for name in ordered:
                        content["stages"].move_to_end(name)
            if rank.keys() - set(entries):
                unfinished[lock] = order
    if unfinished:
        _write(LOCK_ORDER, unfinished)
    else:
        LOCK_ORDER.unlink(missing_ok=True)


def _recorded_orders() -> dict[str, list[str]]:
    """Return the recorded order of stage names by the path of the lock file."""
    try:
        noted = json.loads(LOCK_ORDER.read_text(encoding="utf-8"))
        return {lock: [str(name) for name in order] for lock, order in noted.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        print(f"Warning: {LOCK_ORDER} is damaged; dvc.lock keeps its order", file=sys.stderr)
        return {}


def _lock_entries(lock: str) -> list[str]:
    from dvc.utils.serialize import parse_yaml

    path = Path(lock)
    content = parse_yaml(path.read_text(encoding="utf-8"), lock) if path.exists() else {}
    return list(content.get("stages") or {})


def _rule_names(stages: list[str]) -> dict[str, str]:
    """Return a valid rule name for each stage, such as `keywords_teacher_0` for `teacher@0` of `keywords`.

    Locks, stamps and logs have the same name, so it must not depend on the planned stages.
    """
    names = {}
    for stage in stages:
        short = re.sub(rf"^{PIPELINES}/([^/]+)/dvc\.yaml:", r"\1_", stage)
        names[stage] = re.sub(r"\W+", "_", short, flags=re.ASCII)
    uses = Counter([*names.values(), *RULES])
    for stage, name in names.items():
        if uses[name] > 1 or not name.isidentifier():
            names[stage] = f"stage_{name}_{hashlib.sha256(stage.encode()).hexdigest()[:8]}"
    return names


def _resources(stage: str, meta: dict | None) -> dict[str, int]:
    """Return the resources of a stage over all its ranks. Its `meta` gives the resources of one rank."""
    asked = {key: (meta or {}).get(key, default) for key, default in DEFAULTS.items()}
    try:
        asked = {key: int(value) for key, value in asked.items()}
    except (TypeError, ValueError):
        raise ValueError(
            f"meta of stage {stage!r} must contain integers, but is {asked}; fix its dvc.yaml"
        ) from None
    ranks = max(asked.pop("ranks"), 1)  # `ranks` is 0 without a GPU, and one process runs
    return {
        **asked,
        "threads": asked["threads"] * ranks,
        "mem_mb": asked["mem_mb"] * ranks,
        "gpus": min(asked["gpus"], ranks),
    }


def _set_stamps(stages: dict, stale: set[str]) -> None:
    STAMPS.mkdir(parents=True, exist_ok=True)
    fresh = {Path(stage["stamp"]) for name, stage in stages.items() if name not in stale}
    for stamp in set(STAMPS.iterdir()):
        if stamp.is_dir() and not stamp.is_symlink():  # not created by `make`
            shutil.rmtree(stamp)
        elif stamp not in fresh:
            stamp.unlink()
    for stamp in fresh:
        stamp.touch()


def _digest(path: str) -> str | None:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).exists() else None


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", stage, log, *minutes] if len(minutes) < 2:
            run(stage, log, *minutes)
        case _:
            sys.exit("usage: python workflow/plan.py run STAGE LOG [MINUTES]")
