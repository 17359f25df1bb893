"""What Snakemake is to run, as DVC sees it.

The `dvc.yaml` files are the only definition of the DAG and DVC alone judges what is stale. `make` asks it and
freezes the answer in a plan, from which `rules/stages.smk` makes one rule per stage. The only files that
Snakemake looks at are stamps, one per stage: a fresh stage has one, a stale stage and all that depends on it
have none.

There may be several pipelines: `main` is defined by `dvc.yaml` in the project's folder, any other by
`pipelines/NAME/dvc.yaml`. A plan holds all stages of the chosen pipelines, and those stages of other
pipelines that they depend on.

`run` is the job of one stage. Jobs may outlive the Snakemake that sent them to a cluster, and another one may
send the same stage again: whoever holds its lock runs it; the other finds it done, or goes on with it.

`begin` and `settle` keep each `dvc.lock` as `dvc repro` would have written it. DVC appends an entry when a
stage has run, so parallel jobs would leave their entries in the order in which they happened to end.
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
MAIN = "main"  # the pipeline in the project's folder
ALL = "all"
HOME = Path(".state/plan")
PLAN = HOME / "plan.json"
STAMPS = HOME / "stamps"
LOCKS = HOME / "locks"
LOCK_ORDER = HOME / "lock-order.json"
DRIVER = HOME / "driver"  # locked by the Snakemake that plans or runs
SNAKEMAKE_LOCKS = Path(".snakemake/locks")
CLUSTERS = "SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST"  # in the environment of their jobs
_PR_SET_PDEATHSIG = 1  # of Linux' prctl
_SPARE = 120.0  # seconds before a job's end for a checkpoint, and for what had to start before the stage
DEFAULTS = {"threads": 1, "mem_mb": 1000, "gpus": 0, "ranks": 1, "runtime": 60, "retries": 0}
RULES = {"all", "results"}  # which are no stages


def make(pipelines: str = MAIN) -> dict:
    """Ask DVC what is stale, write the plan, and leave exactly the fresh stages with a stamp.

    Args:
        pipelines: names of the pipelines to plan, separated by commas, or `all`.
    """
    chosen = _chosen(pipelines)
    for folder in chosen.values():
        _check_parameters(folder)
    gc.disable()  # looking for garbage in all that DVC and Snakemake keep takes a second
    _begin_with_dvc()
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import get_active_graph, plan_repro
    from dvc.stage import PipelineStage

    _disable_rwlock()  # a stage that an earlier run has left running is stale, and waited for
    stages, stale, entries, watched = {}, set(), {}, set()
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        graph = get_active_graph(repo.index.graph)
        folders = set(chosen.values())
        made = [Path(out.fs_path) for stage in repo.index.stages for out in stage.outs]
        rules = _rule_names([stage.addressing for stage in repo.index.stages])
        defined = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
        targets = [stage for stage in defined if Path(stage.path_in_repo).parent in folders]
        # As `dvc repro` goes through them: what a stage needs comes before it.
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
            stages[name] = {"rule": rule, "stamp": stamp, "needs": needs, **_reserved(name, stage.meta)}
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
    """The folders of pipelines by name; ends with a message where there is no such pipeline."""
    found = {MAIN: Path()} if Path("dvc.yaml").exists() else {}
    for path in sorted(PIPELINES.glob("*/dvc.yaml")):
        if path.parent.name in (MAIN, ALL):
            sys.exit(f"{path.parent}: `{path.parent.name}` is no name for a pipeline; rename the folder")
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
    """Refuse parameters that the stages would refuse, before DVC reads them, with the same words."""
    if "cmd: audionas" in (folder / "dvc.yaml").read_text(encoding="utf-8"):
        from audionas.runtime.errors import UserError
        from audionas.systems import registry

        path = folder / "params.yaml"
        try:
            registry.check(registry.load_config(path), path)
        except UserError as error:
            sys.exit(f"{error}")


def _stale(stage: "Stage", made: list[Path]) -> bool:  # noqa: F821 - DVC is imported late
    """What DVC says of a stage, as `dvc repro --allow-missing` would of what no stage makes.

    Whoever pulls a study need not have the recordings that it began with. A missing file in `made`, or a
    folder of such, is still to be made.
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
    """The plan as it was frozen: what every process but the main one reads."""
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
    sys.exit(f"{PLAN} {problem}; start snakemake again, and it plans anew")


def open_plan(pipelines: str = MAIN) -> dict:
    """The plan for Snakemake's main process: a new one, or that of the run which holds this folder.

    Args:
        pipelines: as `make` takes them.

    Snakemake's own locks outlive a SIGKILL. A lock of the operating system does not, and the main process
    holds one for its lifetime: whoever gets it knows that no other is alive, and removes what locks a killed
    one has left.
    """
    if not _claim():
        try:
            plan = load()
        except SystemExit as damage:
            print(f"Warning: {damage.code.partition(';')[0]}; it is made anew", file=sys.stderr)
        else:
            _warn(plan, pipelines)
            return plan
    return make(pipelines)


def _claim() -> bool:
    """Whether this process is the one that plans and runs here, from now until its end."""
    HOME.mkdir(parents=True, exist_ok=True)
    driver = os.open(DRIVER, os.O_CREAT | os.O_RDWR, 0o666)  # stays open; started processes do not inherit it
    while True:
        locked = SNAKEMAKE_LOCKS.is_dir() and any(SNAKEMAKE_LOCKS.iterdir())
        try:
            fcntl.flock(driver, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if locked:
                return False
            time.sleep(0.1)  # the other one plans, or lists
        except OSError:  # a file system without such locks: only the user can tell whether a run is alive
            return not locked
        else:
            if locked:
                print("The last run here was killed; its locks are removed", file=sys.stderr)
                shutil.rmtree(SNAKEMAKE_LOCKS)
            return True


def _warn(plan: dict, pipelines: str) -> None:
    """Say so where the plan that stays as it is was made for other pipelines, or from other files."""
    if plan["pipelines"] != list(_chosen(pipelines)):
        print(
            f"Warning: a run of pipeline {', '.join(plan['pipelines'])} holds this folder. What follows is "
            f"about that run, not about {pipelines}.",
            file=sys.stderr,
        )
    if changed := _changed(plan):
        print(
            f"Warning: {changed} changed since this plan was made, and a run holds this folder. What follows "
            "is of the files as they were. If nothing runs here any more, `snakemake --unlock` has the next "
            "one plan anew.",
            file=sys.stderr,
        )


def check() -> None:
    """Refuse to go on with a plan made from parameters or a pipeline that have been edited since."""
    if changed := _changed(load()):
        sys.exit(
            f"{changed} changed while this run was going on, so it would mix two experiments. "
            "Nothing was run for this stage: start snakemake again, and it plans anew."
        )


def _changed(plan: dict) -> str:
    return ", ".join(path for path, digest in plan["files"].items() if _digest(path) != digest)


def run(stage: str, log: str, minutes: str = "") -> None:
    """Have DVC judge and run one stage, by no more than one process at a time; ends with DVC's exit code.

    The lock holds on every machine that shares this folder, as far as its file system knows flock (Lustre:
    mounted with -o flock), until DVC and the stage have ended, however that comes: the stage holds it too.
    SIGTERM is for the stage, which may have something to save: DVC waits for it, and records what has ended
    already. A training is told to end by itself before the minutes that Slurm gives the job are over. The log
    is appended to, for who waited adds a line.
    """
    allowed = float(minutes) * 60 if minutes and "SLURM_JOB_ID" in os.environ else float("inf")
    deadline = time.monotonic() + allowed - min(allowed / 10, _SPARE)
    try:
        rule = load()["stages"][stage]["rule"]
    except KeyError:
        sys.exit(f"{PLAN}: no stage {stage!r} in it; `snakemake -n` makes it anew and lists what there is")
    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = os.open(LOCKS / rule, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another job runs {stage} already: waiting for its end", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    written = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(written, stream.fileno())
    where = f"{socket.gethostname()}, job {os.environ.get('SLURM_JOB_ID', 'of this machine')}"
    print(f"--- {stage} on {where}, {datetime.now():%Y-%m-%d %H:%M:%S}", flush=True)
    check()
    import psutil  # noqa: F401 - a signal may come in the middle of an import, where `_hand_on` could not

    _begin_with_dvc()
    signal.signal(signal.SIGTERM, _hand_on)
    _start_with(lock, deadline)
    # By this shell DVC runs the stage. Bash gives its place to the one command there is; another may stay
    # between, die of the SIGTERM, and have DVC believe that the stage has ended.
    os.environ["SHELL"] = shutil.which("bash") or "/bin/sh"
    if any(name in os.environ for name in CLUSTERS):
        _disable_rwlock()
    from dvc.cli import main

    sys.exit(main(["--wait-for-lock", "repro", "--single-item", stage]))


_asked = False  # by SIGTERM to end


def _hand_on(number: int, _frame: object) -> None:
    """Pass SIGTERM to the stage, or keep it from beginning. What DVC itself is about, it ends.

    Once: Slurm tells the stage too, and a launcher that is told thrice leaves before its ranks have saved.
    """
    import psutil

    global _asked
    children = [] if _asked else psutil.Process().children()
    _asked = True
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.send_signal(number)


def _start_with(lock: int, deadline: float) -> None:
    """Have DVC start a stage that holds the lock, knows its time, and gets SIGTERM when this process dies."""
    import dvc.stage.run as starting

    prepare, system = starting.prepare_kwargs, ctypes.CDLL(None)

    def prepared(*arguments, **options) -> dict:
        if _asked:
            sys.exit(128 + signal.SIGTERM)
        given = prepare(*arguments, **options)
        if sys.platform == "linux":
            given["preexec_fn"] = lambda: system.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if deadline < float("inf"):
            given["env"].setdefault("AUDIONAS_TIME_LIMIT", f"{deadline - time.monotonic():.0f}")
        return {**given, "pass_fds": (lock,)}

    starting.prepare_kwargs = prepared


def _begin_with_dvc() -> None:
    """Change DVC as `safe_dvc` does; end where it is not the DVC whose internals are known here."""
    if not safe_dvc.supported():
        sys.exit(
            f"DVC {version('dvc')} is installed, and workflow/plan.py relies on internals of DVC "
            f"{safe_dvc.TESTED}; run `make install`, or use `dvc repro` instead of snakemake"
        )
    safe_dvc.activate()


def _disable_rwlock() -> None:
    """Have DVC neither note nor ask which process uses which file.

    It knows them by process numbers, which mean nothing on another machine: asked there, it takes running
    stages for dead ones and makes them fail. Stages are kept apart by `run`.
    """
    import dvc.rwlock

    dvc.rwlock.rwlock = lambda *_: nullcontext()


def begin(plan: dict) -> None:
    """Note the order in which `dvc repro` leaves each `dvc.lock`: old entries first, new ones as they run."""
    from dvc.repo import Repo, lock_repo

    noted = _noted_orders()
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        entries = {lock: _lock_entries(lock) for lock in {*noted, *plan["locks"]}}  # while nobody writes them
    for lock in noted.keys() & plan["locks"].keys():
        known = {*entries[lock], *plan["locks"][lock]["defined"]}
        noted[lock] = [name for name in noted[lock] if name in known]
    if not any(set(order).difference(entries[lock]) for lock, order in noted.items()):
        noted = {}  # no run was cut short, or DVC has ended it by itself
    for lock, stages in plan["locks"].items():
        order = [*noted.get(lock, ()), *entries[lock], *stages["planned"]]
        noted[lock] = list(dict.fromkeys(order))
    _write(LOCK_ORDER, noted)


def settle() -> None:
    """Put each `dvc.lock` in the order noted by `begin`; the note outlives a run that was cut short."""
    from dvc.repo import Repo, lock_repo
    from dvc.utils.serialize import modify_yaml

    unfinished = {}
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        for lock, order in _noted_orders().items():
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


def _noted_orders() -> dict[str, list[str]]:
    """By the path of a lock file, the order of its entries."""
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
    """A name for each stage that Snakemake accepts for a rule: `keywords_teacher_0` for a stage `teacher@0`.

    Locks, stamps and logs have the same name, so it must not depend on which stages are planned.
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


def _reserved(stage: str, meta: dict | None) -> dict[str, int]:
    """What the stage needs by its `meta`, which tells of one process: of all its ranks, in whole numbers."""
    asked = {key: (meta or {}).get(key, default) for key, default in DEFAULTS.items()}
    try:
        asked = {key: int(value) for key, value in asked.items()}
    except (TypeError, ValueError):
        raise ValueError(
            f"meta of stage {stage!r} must be whole numbers, but is {asked}; fix its dvc.yaml"
        ) from None
    ranks = max(asked.pop("ranks"), 1)  # 0: no GPU, one process
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
        if stamp.is_dir() and not stamp.is_symlink():  # nothing of ours
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
