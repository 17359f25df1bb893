"""`audionas STAGE …`: what the DAG runs, and what people type by hand."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import nullcontext, suppress
from importlib import import_module
from itertools import product
from pathlib import Path, PurePath

from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, read_rows
from audionas.runtime.environment import world_size
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.interruption import RESTART, Interrupted
from audionas.runtime.redaction import RedactingFormatter
from audionas.runtime.state import STATE
from audionas.runtime.text import line, lines
from audionas.settings.file import PARAMS
from audionas.settings.values import SPLITS, parse_constraint
from audionas.systems.common.checks import notes
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import SPACES, Config, Study, parse_shape
from audionas.systems.once_for_all.study import check
from audionas.systems.registry import load_config

_PATH = 4096  # characters of a path that are shown
_MANY = 10  # recordings, beyond which progress is shown

# stage: (module, function, arguments, help); modules are imported on use, for torch takes seconds
STAGES = {
    "segments": ("common.segments", "run", "", "write the lists of clips and labels of every split"),
    "download": ("common.download", "run", "split limit", "get the original audio of a split, with a ledger"),
    "resample": ("common.resample", "run", "split", "decode to mono waveforms of one rate and length"),
    "coverage": (
        "common.coverage",
        "run",
        "to_results",
        "report how much of the audio is here, and why not all",
    ),
    "logmel": ("common.logmel", "run", "split", "pack log-mel spectrograms of a split in HDF5"),
    "teacher": ("once_for_all.stages.teacher", "run", "seed", "train the CNN10 teacher"),
    "supernet": (
        "once_for_all.stages.supernet",
        "run",
        "space seed",
        "train a once-for-all supernet, distilled from the teacher",
    ),
    "score": (
        "once_for_all.stages.score",
        "run",
        "space seed",
        "score every sub-network on validation, in one pass",
    ),
    "search": (
        "once_for_all.stages.search",
        "run",
        "space constraint seed",
        "cut out the best sub-networks for a constraint",
    ),
    "finetune": (
        "once_for_all.stages.finetune",
        "run",
        "space constraint iterations seed",
        "train a found sub-network further",
    ),
    "individual": (
        "once_for_all.stages.individual",
        "run",
        "recipe size seed",
        "train one uniform network: baseline or kd",
    ),
    "init": (
        "once_for_all.stages.individual",
        "run_init",
        "space constraint seed",
        "train a found architecture from fresh weights",
    ),
    "ranked": (
        "once_for_all.stages.ranked",
        "run",
        "space index seed",
        "train a drawn sub-network by itself, and score it",
    ),
    "evaluate": ("once_for_all.stages.evaluate", "run", "model", "measure a model on the test split"),
    "tables": (
        "once_for_all.stages.tables",
        "run",
        "",
        "make the study's tables and figures, with intervals, from all results",
    ),
    "report": ("once_for_all.stages.report", "run", "", "put the study on one page, results/report.html"),
    "release": (
        "once_for_all.stages.release",
        "run",
        "",
        "put what there is to ship into models/release, with model cards",
    ),
}
#: What stands after the @ in the names that dvc.yaml makes from the study's lists, in order. Such a stage is
#: told its name alone, so no text of params.yaml reaches a shell, and only names of checked values are known.
NAMED = {
    "teacher": "seed",
    "supernet": "space seed",
    "score": "space seed",
    "search": "space constraint seed",
    "finetune": "constraint iterations seed",
    "individual-baseline": "size seed",
    "individual-kd": "size seed",
    "init": "constraint seed",
    "ranked": "index seed",
    "evaluate-teacher": "seed",
    "evaluate-individual": "recipe size seed",
    "evaluate-found": "space constraint seed",
    "evaluate-within": "space constraint seed",
    "evaluate-finetuned": "constraint iterations seed",
    "evaluate-init": "constraint seed",
}
RECIPES = "baseline", "kd"
# on training.gpus GPUs
_TRAINED = {"teacher", "supernet", "score", "finetune", "individual", "init", "ranked"}
_SHARED = {"logmel", *_TRAINED}  # what the ranks of `torchrun` can do together


def _checked(parse):
    def check(text: str) -> str:
        try:
            parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(error) from None
        return text

    return check


def _model(text: str) -> str:
    if PurePath(text).parts[:1] != ("models",) or ".." in PurePath(text).parts:
        raise argparse.ArgumentTypeError(f"{text!r} does not lie below models/ in the project's folder")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _flag(help: str, required: bool = True, **more) -> dict:
    return {"help": help, "required": required, **more}


# as argparse takes them; what has no `required` is no flag but stands by its place
ARGUMENTS = {
    "to_results": _flag("also write it to results/coverage, as the DAG does", False, action="store_true"),
    "limit": _flag("of clips, to try it out; the stage's output is left as it is", False, type=_positive),
    "split": _flag("which split", choices=SPLITS),
    "seed": _flag("seed of the run", type=int),
    "space": _flag("search space", choices=SPACES),
    "constraint": _flag(
        "budget: parameters such as 900k, multiply-adds such as 1.2Gmacs, or both: 900k_1.2Gmacs",
        type=_checked(parse_constraint),
    ),
    "iterations": _flag("optimiser steps", type=int),
    "index": _flag("which sub-network, by its place in a drawn order", type=int),
    "recipe": _flag("BCE with the labels, or distillation", choices=RECIPES),
    "size": _flag("uniform network as RATIOxDEPTH, such as 0.6x1", type=_checked(parse_shape)),
    "model": {"help": "a file below models/", "type": _model},
}


def _space(options: argparse.Namespace) -> None:
    from audionas.search.cnn10 import Cnn10Architecture, Cnn10Space
    from audionas.search.tables import describe

    architecture = Cnn10Architecture(
        options.classes, options.base_channels, options.mels, options.width_rounding
    )
    table = describe(Cnn10Space(options.name, architecture), options.frames)
    if options.csv:
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
        return
    low, high = table.params.min(), table.params.max()
    least, most = table.macs.min() / 1e9, table.macs.max() / 1e9
    print(
        f"{options.name}: {len(table)} sub-networks, {low:,} to {high:,} parameters, {least:.3f} to "
        f"{most:.3f} G multiply-adds a clip; --csv lists them"
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
    config = load_config(options.params)
    check(config, options.params)
    study = config.study
    print(
        f"{options.params}: well formed: corpus {config.corpus.name}, {len(study.seeds)} seed(s), spaces "
        f"{', '.join(study.spaces)}, constraints {', '.join(study.constraints)}"
    )
    for note in notes(config):
        print(f"note: {note}", file=sys.stderr)


def _classify(options: argparse.Namespace) -> int:
    _require_model(options.model, options.recordings)
    from tqdm import tqdm

    from audionas.inference import Classifier

    classify = Classifier(options.model)
    beside = Path(options.model).with_name(data_paths.CLASSES.name)
    listed = read_rows(beside, CLASSES) if beside.exists() else []
    names = {row["mid"]: row["display_name"] for row in listed}
    failed = 0
    # Shown only on a terminal, and where it is worth a line.
    quiet = None if len(options.recordings) > _MANY else True
    with tqdm(options.recordings, desc="classify", unit="files", disable=quiet, leave=False) as bar:
        for recording in bar:
            try:
                heard = classify.hear(recording)
            except UserError as error:
                failed += 1
                bar.write(f"audionas classify: {lines(error)}", file=sys.stderr)
                continue
            for warning in heard.warnings:
                bar.write(f"audionas classify: {line(recording, _PATH)}: warning: {warning}", file=sys.stderr)
            rest = f" (first {classify.clip_seconds:g} s of {heard.seconds:.1f} s)"
            said = [line(recording, _PATH) + rest * (round(heard.seconds, 1) > classify.clip_seconds)]
            for place in (-heard.probabilities).argsort()[: options.top]:
                mid = classify.classes[place]
                said.append(f"  {heard.probabilities[place]:.3f}  {line(names.get(mid, mid))}")
            bar.write("\n".join(said), file=sys.stdout)
    if failed:
        print(
            f"audionas classify: {failed} of {len(options.recordings)} recordings not classified",
            file=sys.stderr,
        )
    return int(failed > 0)


def _require_model(model: str, recordings: list[str]) -> None:
    """Refuse a recording in the place of the model, before PyTorch is loaded."""
    from audionas.audio.containers import container

    try:
        with Path(model).open("rb") if Path(model).is_file() else io.BytesIO() as file:
            head = file.read(64)
    except OSError:
        return  # for the reading of models to say
    if container(head).extension != "bin":
        given = " ".join(line(name, _PATH) for name in (model, *recordings[:2]))
        raise UserError(
            f"{line(model, _PATH)}: a recording, where the model's file should stand; give that first, as "
            f"in: audionas classify models/release/26k.pt {given}" + " …" * (len(recordings) > 2)
        )


def _verify_cache(options: argparse.Namespace) -> int:
    from audionas.runtime.dvc_cache import verify

    verdict = verify(Path(_dvc("cache", "dir")) / "files" / "md5", Path(_dvc("root")))
    for kept in verdict.objects:
        needed = f"holds {', '.join(sorted(kept.of))}" if kept.of else "no stage of this dvc.lock needs it"
        print(f"damaged: {kept.path}: {needed}")
        if options.delete:
            try:
                kept.path.unlink()
            except OSError as error:
                print(f"not deleted: {kept.path}: {error.strerror}; ask whose it is")
    for kept in verdict.outputs:
        print(f"changed: {kept.path}: not what dvc.lock says of {', '.join(kept.of)}")
    for path, why in verdict.unread.items():
        print(f"not read: {path}: {why}")
    for output in verdict.unlisted:
        print(f"not checked: {output}: the list of its files is not in the cache, or damaged")
    print(f"{verdict.files} files of {verdict.size / 1e6:.1f} MB read", end="; ")
    print(f"{len(verdict.objects)} damaged in the cache, {len(verdict.outputs)} changed in place")
    if verdict.absent:
        print(f"{len(verdict.absent)} outputs are not in the cache: `dvc pull` brings what was pushed")
    if verdict.leftover:
        print(*verdict.leftover, sep="\n")
        print(f"{len(verdict.leftover)} files are left over from writes cut short; delete them at will")
    if verdict.objects:
        left = any(kept.path.exists() for kept in verdict.objects)
        gone = "delete them (audionas verify-cache --delete)" if left else "they are deleted"
        print(
            f"To mend the cache: {gone}, then `dvc pull`, or `dvc commit` where the output in place is whole,"
        )
        print("or delete the output and `dvc repro --no-run-cache`, where it was never pushed")
    if verdict.outputs:
        print("To mend what changed: delete the file, then `dvc checkout PATH`, once the cache is sound")
    return int(not verdict.sound)


def _dvc(*command: str) -> str:
    """What one of DVC's commands prints."""
    asked = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True)
    if asked.returncode:
        raise UserError(f"{asked.stderr.strip()}; run it in the project's folder")
    return asked.stdout.strip()


def _completion(options: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(parser(), options.shell))


def named(name: str, study: Study) -> tuple[str, dict]:
    """Command and arguments of a stage by its name in dvc.yaml, such as `search@2-2-x-26k-0`.

    Raises UserError: the study has no such stage.
    """
    stage, _, key = name.rpartition(":")[2].partition("@")
    lists = {
        "seed": study.seeds,
        "space": study.spaces,
        "constraint": study.constraints,
        "iterations": study.finetune_iterations,
        "recipe": RECIPES,
        "size": study.sizes,
        "index": study.ranked,
    }
    axes = NAMED.get(stage, "").split()
    for values in product(*(lists[axis] for axis in axes)) if axes else ():
        if "-".join(map(str, values)) != key:
            continue
        if stage.startswith("evaluate-"):
            model = paths.MODELS / stage.removeprefix("evaluate-") / f"{key}.pt"
            return "evaluate", {"model": model.as_posix()}
        arguments = dict(zip(axes, values, strict=True))
        command, _, recipe = stage.partition("-")
        if recipe:
            arguments["recipe"] = recipe
        if "space" in STAGES[command][2].split():
            arguments.setdefault("space", study.chosen_space)
        return command, arguments
    raise UserError(f"{name[:200]!r}: {PARAMS} asks for no such stage; `dvc stage list` names them all")


def _named_stage(options: argparse.Namespace) -> int:
    config = load_config()
    check(config)
    return _run(config, *named(options.name, config.study), options.arguments)


def _stage(options: argparse.Namespace) -> int:
    config = load_config()
    check(config)
    arguments = {name: getattr(options, name) for name in STAGES[options.command][2].split()}
    return _run(config, options.command, arguments, options.arguments)


def _run(config: Config, command: str, arguments: dict, line: list[str]) -> int:
    module, function, *_ = STAGES[command]
    ranks = world_size()
    if ranks > 1 and command not in _SHARED:
        raise UserError("this stage is for one process; run it without `torchrun`")
    if ranks == 1 and command in _TRAINED and config.training.gpus > 1:
        from audionas.runtime.ranks import launch

        return launch(line, config.training.gpus, RESTART)
    with (
        nullcontext() if ranks == 1 else import_module("audionas.runtime.ranks").join(config.training.device)
    ):
        getattr(import_module(f"audionas.systems.{module}"), function)(config, **arguments)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="audionas",
        description="Once-for-all acoustic event classification: train one supernet, cut out a network for "
        "every budget. `dvc repro` runs every stage in order; here each can be run by itself, in the "
        "project's folder, with the parameters of params.yaml.",
        epilog="Example: audionas check && dvc repro. AUDIONAS_DEBUG=1 shows tracebacks and every request.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("check", help="check params.yaml, or another parameters file, and run nothing")
    one.add_argument("params", nargs="?", default=PARAMS, help="the file (default: %(default)s)")
    one.set_defaults(run=_check)

    one = commands.add_parser(
        "lists",
        help="get AudioSet's official lists into the folder corpus.lists",
        description="The official lists and the ontology, from corpus.address and corpus.ontology of "
        "params.yaml, with their checksums; what is there already is checked and not fetched again.",
    )
    one.set_defaults(run=_lists)

    one = commands.add_parser(
        "space",
        help="list the sub-networks of a search space with their costs",
        description="Sub-networks of a search space; the defaults are the paper's CNN10.",
    )
    one.add_argument("name", choices=SPACES)
    one.add_argument("--csv", action="store_true", help="one line each: r2,r3,r4,d2,d3,d4,params,macs")
    one.add_argument("--classes", type=int, default=527, help="default: %(default)s")
    one.add_argument("--base-channels", type=int, default=64, help="default: %(default)s")
    one.add_argument("--mels", type=int, default=64, help="default: %(default)s")
    one.add_argument(
        "--frames", type=int, default=1001, help="of a clip, for multiply-adds; default: %(default)s"
    )
    one.add_argument(
        "--width-rounding", choices=("floor", "nearest"), default="floor", help="default: %(default)s"
    )
    one.set_defaults(run=_space)

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
    one.add_argument("--top", type=_positive, default=5, help="classes to print (default: %(default)s)")
    one.set_defaults(run=_classify)

    one = commands.add_parser(
        "verify-cache",
        help="hash again what DVC keeps here, and name what is damaged",
        description="Every object of DVC's cache and every output in place against the hashes they should "
        "have; exits with 1 where one differs. DVC by itself looks only at sizes and times.",
    )
    one.add_argument("--delete", action="store_true", help="delete damaged objects, so that they come anew")
    one.set_defaults(run=_verify_cache)

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

    for name, (*_, names, text) in STAGES.items():
        one = commands.add_parser(name, help=f"stage: {text}", description=f"Stage of the DAG: {text}.")
        for argument in names.split():
            options = ARGUMENTS[argument]
            flag = f"--{argument.replace('_', '-')}" if "required" in options else argument
            one.add_argument(flag, **options)
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

    Returns the exit code: 0 when it went well, 1 with a message for what the user can mend, RESTART where a
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
