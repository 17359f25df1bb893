"""`audionas STAGE …`: what the DAG runs, and what people type by hand."""

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

from audionas.commands import classify, verify_cache
from audionas.runtime.environment import world_size
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.extras import optional
from audionas.runtime.interruption import RESTART, Interrupted
from audionas.runtime.redaction import RedactingFormatter
from audionas.runtime.state import STATE
from audionas.runtime.text import lines
from audionas.settings.experiment import Experiment
from audionas.systems.common.checks import notes
from audionas.systems.common.commands import positive
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
        raise UserError(
            f"params.yaml: corpus.name is {corpus.name}, whose lists are no matter of this command"
        )
    for name, (size, digest) in fetch_lists(corpus.address, corpus.lists, corpus.ontology).items():
        print(f"{digest}  {size:>11,}  {name}")


def _check(options: argparse.Namespace) -> None:
    for path in [options.params] if options.params else parameter_files():
        config = load_config(path)
        check(config, path)
        print(f"{path}: well formed: {summary(config)}")
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
        raise UserError("this stage is for one process; run it without `torchrun`")
    if ranks == 1 and stage.trains and config.training.gpus > 1:
        from audionas.runtime.ranks import launch

        return launch(line, config.training.gpus, RESTART)
    with (
        nullcontext() if ranks == 1 else import_module("audionas.runtime.ranks").join(config.training.device)
    ):
        getattr(import_module(f"audionas.systems.{stage.module}"), stage.function)(config, **arguments)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's grammar, with the stages of the system that params.yaml names."""
    top = argparse.ArgumentParser(
        prog="audionas",
        description="Once-for-all acoustic event classification: train one supernet, cut out a network for "
        "every budget. `dvc repro` runs every stage in order; here each can be run by itself, in the "
        "project's folder, with the parameters of params.yaml.",
        epilog="Example: audionas check && dvc repro. AUDIONAS_DEBUG=1 shows tracebacks and every request.",
    )
    system = commands_of_project()
    top.set_defaults(system=system)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("check", help="check params.yaml, or another parameters file, and run nothing")
    one.add_argument(
        "params", nargs="?", help="the file (default: params.yaml, and that of each folder in pipelines/)"
    )
    one.set_defaults(run=_check)

    one = commands.add_parser(
        "lists",
        help="get AudioSet's official lists into the folder corpus.lists",
        description="The official lists and the ontology, from corpus.address and corpus.ontology of "
        "params.yaml, with their checksums; what is there already is checked and not fetched again.",
    )
    one.set_defaults(run=_lists)

    system.add_commands(commands)

    one = commands.add_parser(
        "classify",
        help="say what is heard in recordings",
        description="The most probable classes in the first seconds of each file, as many as the clips have "
        "that the network learned from, with their names where classes.csv stands beside the model, as in "
        "models/release. A file that can't be used is reported, the others are classified, and the exit code "
        "is 1 at the end. A warning tells where a recording reaches higher in frequency, or is much louder "
        "or quieter, than what the network learned from.",
        epilog="Example: audionas classify models/release/26k.pt kitchen.wav phone.m4a. Formats: WAV, FLAC, "
        "Ogg, MP3, AIFF, CAF, AU; and by ffmpeg M4A, AAC, WebM, WMA, AMR (imageio-ffmpeg's, or the one that "
        "AUDIONAS_FFMPEG names).",
    )
    one.add_argument("model", help="a network's file, such as models/release/26k.pt")
    one.add_argument("recordings", nargs="+", metavar="RECORDING", help="audio files")
    one.add_argument("--top", type=positive, default=5, help="classes to print (default: %(default)s)")
    one.set_defaults(run=classify.run)

    one = commands.add_parser(
        "verify-cache",
        help="hash again what DVC keeps here, and name what is damaged",
        description="Every object of DVC's cache and every output in place against the hashes they should "
        "have; exits with 1 where one differs. DVC by itself looks only at sizes and times.",
    )
    one.add_argument("--delete", action="store_true", help="delete damaged objects, so that they come anew")
    one.set_defaults(run=verify_cache.run)

    one = commands.add_parser(
        "completion",
        help="print what completes `audionas` in your shell",
        description='For bash: eval "$(audionas completion bash)". DVC has its own: dvc completion -s bash.',
    )
    one.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    one.set_defaults(run=_completion)

    one = commands.add_parser(
        "stage",
        help="stage: by its name in the DAG, as `dvc stage list` shows it",
        description="What dvc.yaml runs for each entry of the study's lists.",
    )
    one.add_argument("name", metavar="NAME", help="such as teacher@0 or search@2-2-x-26k-0")
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


def spin_less() -> None:
    """Have GNU OpenMP's threads sleep sooner where they wait for one another; before PyTorch is imported.

    With its own number of turns a training of two threads takes ten times as long beside other work, with
    this one five (docs/performance.md). What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")


class PlainFormatter(RedactingFormatter):
    """A formatter that also lets no name in a message act on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text without escape codes."""
        return lines(super().format(record))


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns the exit code: 0 when it went well, 1 with a message for what the user can fix, RESTART where a
    training stopped on purpose.
    """
    spin_less()
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if os.environ.get("AUDIONAS_DEBUG"):
        logging.getLogger("audionas").setLevel(logging.DEBUG)
    options = parser().parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    name = f"audionas {options.command}"
    try:
        name += f" (rank {os.environ['RANK']})" if world_size() > 1 else ""
        with optional():
            code = options.run(options) or 0
        if sys.stdout:
            sys.stdout.flush()  # here and not at the interpreter's end, which has no words for a full disk
        return code
    except UserError as error:
        return _failed(name, error)
    except Interrupted as error:
        _say(name, error)
        return RESTART
    except KeyboardInterrupt:
        _say(name, "interrupted; run it again to go on")
        return 130
    except OSError as error:
        refused = _unwritten() if error.filename is None else None
        if refused is None:
            return _failed(name, os_error(error))
        if isinstance(refused, BrokenPipeError):  # `audionas space … | head`
            return 0
        return _failed(name, os_error(refused, "standard output"))
    except sqlite3.OperationalError as error:  # of a database below .state
        why = f"{STATE}: {error}; make room on its disk, or get the right to write there, then run again"
        return _failed(name, UserError(why))


def _failed(name: str, error: UserError) -> int:
    """Its exit code; with AUDIONAS_DEBUG the traceback as well."""
    if os.environ.get("AUDIONAS_DEBUG"):
        raise error
    _say(name, error)
    return 1


def _say(name: str, what: object) -> None:
    with suppress(OSError):  # the errors of a full disk may go to a file of it
        print(lines(f"{name}: {what}"), file=sys.stderr, flush=True)


def _unwritten() -> OSError | None:
    """Why standard output can't be written, if so; it is given up then, or Python would try again."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError):  # closed, or of a test
        return None
    try:
        sys.stdout.flush()
        os.write(number, b"\n")  # what was not buffered is not tried again
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        return error
    return None


if __name__ == "__main__":
    sys.exit(main())
