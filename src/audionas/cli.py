"""The command line `audionas COMMAND`, for the DAG and for users."""

from __future__ import annotations

import argparse
import logging
import os
import sqlite3
import sys
from contextlib import chdir, nullcontext, suppress
from importlib import import_module
from types import ModuleType
from typing import Any

from audionas.commands import classify, export, measure, page, publish, specialize, verify_cache
from audionas.runtime.environment import world_size
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.extras import optional
from audionas.runtime.interruption import RESTART, Interrupted
from audionas.runtime.redaction import RedactingFormatter
from audionas.runtime.state import STATE
from audionas.runtime.text import lines
from audionas.settings.experiment import Experiment
from audionas.systems.common.checks import notes
from audionas.systems.registry import (
    check,
    commands_of_project,
    load_config,
    parameter_files,
    pipeline_folder,
    summary,
)


def _lists(options: argparse.Namespace) -> None:
    from audionas.data.corpora.audioset_lists import fetch_lists

    corpus = load_config().corpus
    if corpus.name != "audioset":
        raise UserError(f"params.yaml: corpus.name is {corpus.name}; `audionas lists` supports only audioset")
    for name, (size, digest) in fetch_lists(corpus.address, corpus.lists, corpus.ontology).items():
        print(f"{digest}  {size:>11,}  {name}")


def _check(options: argparse.Namespace) -> None:
    for path in [options.params] if options.params else parameter_files():
        config = load_config(path)
        check(config, path)
        print(f"{path}: valid: {summary(config)}")
        with chdir(pipeline_folder(path)):
            for note in notes(config):
                print(f"note: {path}: {note}", file=sys.stderr)


def _completion(options: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(parser(), options.shell))


def _named_stage(options: argparse.Namespace) -> int:
    config = load_config()
    check(config)
    return _run(config, options.system, *options.system.named(options.name, config), options.arguments)


def _stage(options: argparse.Namespace) -> int:
    config = load_config()
    check(config)
    names = options.system.STAGES[options.command].arguments
    arguments = {name: getattr(options, name) for name in names}
    return _run(config, options.system, options.command, arguments, options.arguments)


def _run(
    config: Experiment, system: ModuleType, command: str, arguments: dict[str, Any], line: list[str]
) -> int:
    stage = system.STAGES[command]
    ranks = world_size()
    if ranks > 1 and not stage.shared:
        raise UserError("this stage supports a single process; run it without `torchrun`")
    if ranks == 1 and stage.trains and config.training.gpus > 1:
        from audionas.runtime.ranks import launch

        return launch(line, config.training.gpus, RESTART)
    with (
        nullcontext() if ranks == 1 else import_module("audionas.runtime.ranks").join(config.training.device)
    ):
        getattr(import_module(f"audionas.systems.{stage.module}"), stage.function)(config, **arguments)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the argument parser, with the stages of the system that params.yaml selects."""
    top = argparse.ArgumentParser(
        prog="audionas",
        description="Audio classifiers that fit a device budget. `dvc repro` runs all stages in order. Each "
        "stage is also a command, which runs in the project folder with the parameters of params.yaml.",
        epilog="Example: audionas check && dvc repro. AUDIONAS_DEBUG=1 shows tracebacks and every request.",
    )
    system = commands_of_project()
    top.set_defaults(system=system)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser(
        "check", help="check params.yaml, or another parameter file, without running a stage"
    )
    one.add_argument(
        "params", nargs="?", help="the file (default: params.yaml, and that of each folder in pipelines/)"
    )
    one.set_defaults(run=_check)

    one = commands.add_parser(
        "lists",
        help="download the official lists of AudioSet to the folder corpus.lists",
        description="Download the official lists and the ontology from corpus.address and corpus.ontology of "
        "params.yaml, and print their checksums. Existing files are checked and not downloaded again.",
    )
    one.set_defaults(run=_lists)

    system.add_commands(commands)

    classify.add_parser(commands)

    publish.add_parser(commands)
    specialize.add_parser(commands)
    measure.add_parser(commands)
    export.add_parser(commands)
    page.add_parser(commands)

    one = commands.add_parser(
        "verify-cache",
        help="verify the hashes of DVC's cache and outputs",
        description="Compare every object of DVC's cache and every output of the project with its hash. The "
        "exit code is 1 if one differs. DVC itself compares only sizes and times.",
    )
    one.add_argument(
        "--delete", action="store_true", help="delete damaged objects, so that DVC restores them"
    )
    one.set_defaults(run=verify_cache.run)

    one = commands.add_parser(
        "completion",
        help="print a completion script for the shell",
        description='For bash: eval "$(audionas completion bash)". DVC has its own: dvc completion -s bash.',
    )
    one.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    one.set_defaults(run=_completion)

    one = commands.add_parser(
        "stage",
        help="run a stage by its name in the DAG, as in `dvc stage list`",
        description="Run the stage that dvc.yaml defines for an entry of the lists of the study.",
    )
    one.add_argument(
        "name", metavar="NAME", help="name of the stage, such as teacher@0 or search@2-2-x-26k-0"
    )
    one.set_defaults(run=_named_stage)

    for name, stage in system.STAGES.items():
        one = commands.add_parser(
            name, help=f"stage: {stage.help}", description=f"Stage of the DAG: {stage.help}."
        )
        for argument in stage.arguments:
            options = system.ARGUMENTS[argument]
            one.add_argument(
                f"--{argument.replace('_', '-')}" if "required" in options else argument, **options
            )
        one.set_defaults(run=_stage)
    return top


def limit_openmp_spinning() -> None:
    """Let waiting threads of GNU OpenMP sleep sooner. Call this before PyTorch is imported.

    On a busy machine, a training with two threads takes ten times as long with the default spin count, and
    five times as long with this one (docs/performance.md). User settings take precedence.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")


class PlainFormatter(RedactingFormatter):
    """A formatter that also removes escape codes, so that names cannot control the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text without escape codes."""
        return lines(super().format(record))


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 on success, 1 after an error that the user can fix, RESTART if a training stopped on
        request.
    """
    limit_openmp_spinning()
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if os.environ.get("AUDIONAS_DEBUG"):
        logging.getLogger("audionas").setLevel(logging.DEBUG)
    given, known = sys.argv[1:] if arguments is None else arguments, parser()
    for one in given:
        if one.startswith("--") and one.endswith("=--"):  # argparse drops the value, even that of a number
            known.error(f"{lines(one)}: -- is not a value; give another one")
    options = known.parse_args(arguments)
    options.arguments = given
    name = f"audionas {options.command}"
    try:
        name += f" (rank {os.environ['RANK']})" if world_size() > 1 else ""
        with optional():
            code = options.run(options) or 0
        if sys.stdout:
            sys.stdout.flush()  # flush here: the interpreter reports a full disk poorly at exit
        return code
    except UserError as error:
        return _failed(name, error)
    except Interrupted as error:
        _say(name, error)
        return RESTART
    except KeyboardInterrupt:
        _say(name, "interrupted; run it again to resume")
        return 130
    except OSError as error:
        refused = _unwritten() if error.filename is None else None
        if refused is None:
            return _failed(name, os_error(error))
        if isinstance(refused, BrokenPipeError):  # `audionas space … | head`
            return 0
        return _failed(name, os_error(refused, "standard output"))
    except sqlite3.OperationalError as error:  # from a database below .state
        why = f"{STATE}: {error}; free space on its disk, or get write permission, then run again"
        return _failed(name, UserError(why))


def _failed(name: str, error: UserError) -> int:
    """Print the error and return the exit code. With AUDIONAS_DEBUG, raise it for the traceback."""
    if os.environ.get("AUDIONAS_DEBUG"):
        raise error
    _say(name, error)
    return 1


def _say(name: str, what: object) -> None:
    with suppress(OSError):  # stderr may be a file on a full disk
        print(lines(f"{name}: {what}"), file=sys.stderr, flush=True)


def _unwritten() -> OSError | None:
    """Return the error of standard output, or None. A broken one is closed, or Python would retry at exit."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError):  # closed, or replaced by a test
        return None
    try:
        sys.stdout.flush()
        os.write(number, b"\n")  # unbuffered output is not retried
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        return error
    return None


if __name__ == "__main__":
    sys.exit(main())
