"""Run the DAG's stages on a machine without DVC, such as one with a GPU that reaches no registry.

`python experiments/forked.py list > stages.json` needs DVC. `python experiments/forked.py run stages.json`
needs only what the stages import. Each stage is a fork of one process that has imported PyTorch. A stage with
a mark in .state/forked is skipped; nothing else is checked. Outputs are those of `dvc repro`, without
dvc.lock.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
import traceback
from pathlib import Path

from audionas.cli import limit_openmp_spinning
from audionas.cli import main as audionas

DONE, LOGS = Path(".state/forked"), Path("logs/forked")


def list_stages() -> None:
    """Print the stages of dvc.yaml in the order of DVC, with their commands and dependencies."""
    from dvc.repo import Repo
    from dvc.repo.reproduce import plan_repro

    with Repo() as repo:
        graph = repo.index.graph
        stages = [stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"]
        ordered = plan_repro(graph, stages)
        listed = {
            one.addressing: {
                "command": one.cmd,
                "needs": [needed.addressing for needed in graph.successors(one)],
            }
            for one in ordered
        }
    print(json.dumps(listed, indent=1))


def fork(name: str, command: str) -> int:
    """Start a stage, and return its process id. The process exits with the exit code of the stage."""
    log = os.open(LOGS / f"{name}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    if number := os.fork():
        os.close(log)
        return number
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        os.environ["DVC_STAGE"] = name  # as DVC does
        sys.argv = [os.path.expandvars(word) for word in shlex.split(command)]  # `audionas STAGE …`
        code = audionas(sys.argv[1:])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(listed: dict[str, dict], jobs: int, seconds: float) -> int:
    """Run the unfinished stages, at most `jobs` at once.

    After `seconds`, on SIGTERM and on Ctrl-C, all running stages save and exit. Returns 0 if every stage is
    done.
    """
    limit_openmp_spinning()
    import torch  # noqa: F401  # once, before the forks

    import audionas.training.run  # noqa: F401

    DONE.mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    started, running, failed, over = time.monotonic(), {}, set(), False
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    done = {name for name in listed if (DONE / name).exists()}
    while True:
        if not over and (stopped or time.monotonic() - started > seconds):
            over = True
            for other in running:
                os.kill(other, signal.SIGTERM)
        ready = [
            name
            for name, stage in listed.items()
            if name not in done | failed | set(running.values()) and done.issuperset(stage["needs"])
        ]
        for name in ready[: 0 if over else jobs - len(running)]:
            running[fork(name, listed[name]["command"])] = name
        if not running:
            break
        number, status = os.waitpid(-1, os.WNOHANG)
        if not number:
            time.sleep(0.02)
            continue
        name, code = running.pop(number), os.waitstatus_to_exitcode(status)
        took = f"{time.monotonic() - started:6.1f} s"
        if code == 0:
            done.add(name)
            (DONE / name).touch()
        else:
            failed.add(name)
            log = (LOGS / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            print(f"{took} {name}: exit code {code}\n{log[-1500:]}", flush=True)
    left = len(listed) - len(done)
    print(f"{time.monotonic() - started:.1f} s: {len(done)} of {len(listed)} stages done, {left} left")
    return int(bool(left))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("list", help="print the stages of dvc.yaml as JSON")
    one = commands.add_parser("run", help="run the stages of such a list in this folder")
    one.add_argument("stages", type=Path)
    one.add_argument("--jobs", type=int, default=4, help="at once (default: %(default)s)")
    one.add_argument(
        "--seconds", type=float, default=float("inf"), help="seconds until running stages save and exit"
    )
    one.add_argument("--without", nargs="*", default=[], metavar="KIND", help="kinds of stages to leave out")
    options = parser.parse_args()
    if options.what == "list":
        list_stages()
        return 0
    listed = json.loads(options.stages.read_text(encoding="utf-8"))
    left_out = {name for name in listed if name.split("@")[0] in options.without}
    listed = {
        name: {**stage, "needs": [needed for needed in stage["needs"] if needed not in left_out]}
        for name, stage in listed.items()
        if name not in left_out
    }
    return run(listed, options.jobs, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
