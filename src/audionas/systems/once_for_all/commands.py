"""Commands of the system `once_for_all`: its stages, their names in `dvc.yaml`, and the command `space`."""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import PurePath
from typing import Any

from audionas.runtime.errors import UserError
from audionas.search.cnn10 import SPACES
from audionas.settings.file import PARAMS
from audionas.settings.values import parse_constraint
from audionas.systems.common import commands as common
from audionas.systems.common.commands import Stage, checked, flag
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config, parse_shape

RECIPES = "baseline", "kd"


def _training(module: str, help: str, *arguments: str, function: str = "run") -> Stage:
    return Stage(f"once_for_all.stages.{module}", help, arguments, function, shared=True, trains=True)


def _stage(module: str, help: str, *arguments: str) -> Stage:
    return Stage(f"once_for_all.stages.{module}", help, arguments)


#: Stages in the order of the DAG.
STAGES = {
    **common.STAGES,
    "teacher": _training("teacher", "train the CNN10 teacher", "seed"),
    "supernet": _training(
        "supernet", "train a once-for-all supernet by distillation from the teacher", "space", "seed"
    ),
    "score": _training(
        "score", "score every sub-network on the validation split, in one pass", "space", "seed"
    ),
    "search": _stage(
        "search", "extract the best sub-networks for a constraint", "space", "constraint", "seed"
    ),
    "finetune": _training(
        "finetune", "fine-tune a found sub-network", "space", "constraint", "iterations", "seed"
    ),
    "individual": _training(
        "individual", "train one uniform network: baseline or kd", "recipe", "size", "seed"
    ),
    "init": _training(
        "individual",
        "train a found architecture from random initialization",
        *("space", "constraint", "seed"),
        function="run_init",
    ),
    "ranked": _training(
        "ranked", "train a sampled sub-network individually, and score it", "space", "index", "seed"
    ),
    "evaluate": _stage("evaluate", "evaluate a model on the test split", "model"),
    "tables": _stage("tables", "write the tables and figures of the study, with confidence intervals"),
    "export-budget": _stage(
        "export_budget", "export the network to release for a budget: PyTorch, ONNX, int8 ONNX", "constraint"
    ),
    "evaluate-exported": _stage(
        "evaluate_exported", "evaluate the exported files of a budget on the test split", "constraint"
    ),
    "release": _stage("release", "write the released models to models/release, with model cards"),
    "report": _stage("report", "write the report of the study, results/report.html"),
    "listen": _stage("listen", "write the page that classifies in the browser, results/listen.html"),
}


def _model(text: str) -> str:
    if PurePath(text).parts[:1] != ("models",) or ".." in PurePath(text).parts:
        raise argparse.ArgumentTypeError(f"{text!r} is not below models/ in the project folder")
    return text


ARGUMENTS: dict[str, dict[str, Any]] = {
    **common.ARGUMENTS,
    "seed": flag("seed of the run", type=int),
    "space": flag("search space", choices=SPACES),
    "constraint": flag(
        "budget: parameters such as 900k, multiply-adds such as 1.2Gmacs, or both: 900k_1.2Gmacs",
        type=checked(parse_constraint),
    ),
    "iterations": flag("optimiser steps", type=int),
    "index": flag("index of a sub-network in a random order of the space", type=int),
    "recipe": flag("baseline: BCE with the labels; kd: distillation", choices=RECIPES),
    "size": flag("uniform network as RATIOxDEPTH, such as 0.6x1", type=checked(parse_shape)),
    "model": {"help": "a file below models/", "type": _model},
}

#: Arguments in the stage names of dvc.yaml, in the order in which they follow the @. A stage receives only
#: its name. No text of params.yaml reaches a shell, and only names made from validated values are accepted.
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
    "export-budget": "constraint",
    "evaluate-exported": "constraint",
}


def named(name: str, config: Config) -> tuple[str, dict[str, Any]]:
    """Return the command and arguments of a stage by its name in dvc.yaml, such as `search@2-2-x-26k-0`.

    Raises:
        UserError: the study has no such stage.
    """
    study = config.study
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
        arguments = dict(zip(axes, values, strict=True))
        if stage in STAGES and "-" in stage:
            return stage, arguments
        if stage.startswith("evaluate-"):
            model = paths.MODELS / stage.removeprefix("evaluate-") / f"{key}.pt"
            return "evaluate", {"model": model.as_posix()}
        command, _, recipe = stage.partition("-")
        if recipe:
            arguments["recipe"] = recipe
        if "space" in STAGES[command].arguments:
            arguments.setdefault("space", study.chosen_space)
        return command, arguments
    raise UserError(f"{name[:200]!r}: {PARAMS} defines no such stage; `dvc stage list` lists all stages")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of this system that are not stages."""
    one = commands.add_parser(
        "space",
        help="list the sub-networks of a search space with their costs",
        description="List the sub-networks of a search space. The defaults are the CNN10 of the paper.",
    )
    one.add_argument("name", choices=SPACES)
    one.add_argument(
        "--csv",
        action="store_true",
        help="print CSV, one sub-network per line: r2,r3,r4,d2,d3,d4,params,macs",
    )
    one.add_argument("--classes", type=int, default=527, help="default: %(default)s")
    one.add_argument("--base-channels", type=int, default=64, help="default: %(default)s")
    one.add_argument("--mels", type=int, default=64, help="default: %(default)s")
    one.add_argument(
        "--frames",
        type=int,
        default=1001,
        help="frames of a clip, to count multiply-adds; default: %(default)s",
    )
    one.add_argument(
        "--width-rounding", choices=("floor", "nearest"), default="floor", help="default: %(default)s"
    )
    one.set_defaults(run=_space)


def _space(options: argparse.Namespace) -> None:
    from audionas.search.cnn10 import Cnn10Architecture, Cnn10Space
    from audionas.search.tables import space_table

    architecture = Cnn10Architecture(
        options.classes, options.base_channels, options.mels, options.width_rounding
    )
    table = space_table(Cnn10Space(options.name, architecture, options.frames))
    if options.csv:
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
        return
    low, high = table.params.min(), table.params.max()
    least, most = table.macs.min() / 1e9, table.macs.max() / 1e9
    print(
        f"{options.name}: {len(table)} sub-networks, {low:,} to {high:,} parameters, {least:.3f} to "
        f"{most:.3f} G multiply-adds per clip; --csv lists them"
    )
