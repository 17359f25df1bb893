"""Commands of the system once-for-all: its stages, their names in `dvc.yaml`, and its search spaces."""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import PurePath
from typing import Any

from audionas.runtime.errors import UserError
from audionas.settings.file import PARAMS
from audionas.settings.values import parse_constraint
from audionas.systems.common import commands as common
from audionas.systems.common.commands import Stage, checked, flag
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import SPACES, Config, parse_shape

RECIPES = "baseline", "kd"


def _training(module: str, help: str, *arguments: str, function: str = "run") -> Stage:
    return Stage(f"once_for_all.stages.{module}", help, arguments, function, shared=True, trains=True)


def _stage(module: str, help: str, *arguments: str) -> Stage:
    return Stage(f"once_for_all.stages.{module}", help, arguments)


#: In the order of the DAG.
STAGES = {
    **common.STAGES,
    "teacher": _training("teacher", "train the CNN10 teacher", "seed"),
    "supernet": _training(
        "supernet", "train a once-for-all supernet, distilled from the teacher", "space", "seed"
    ),
    "score": _training("score", "score every sub-network on validation, in one pass", "space", "seed"),
    "search": _stage(
        "search", "cut out the best sub-networks for a constraint", "space", "constraint", "seed"
    ),
    "finetune": _training(
        "finetune", "train a found sub-network further", "space", "constraint", "iterations", "seed"
    ),
    "individual": _training(
        "individual", "train one uniform network: baseline or kd", "recipe", "size", "seed"
    ),
    "init": _training(
        "individual",
        "train a found architecture from fresh weights",
        *("space", "constraint", "seed"),
        function="run_init",
    ),
    "ranked": _training(
        "ranked", "train a drawn sub-network by itself, and score it", "space", "index", "seed"
    ),
    "evaluate": _stage("evaluate", "measure a model on the test split", "model"),
    "tables": _stage("tables", "make the study's tables and figures, with intervals, from all results"),
    "report": _stage("report", "put the study on one page, results/report.html"),
    "release": _stage("release", "put what there is to ship into models/release, with model cards"),
}


def _model(text: str) -> str:
    if PurePath(text).parts[:1] != ("models",) or ".." in PurePath(text).parts:
        raise argparse.ArgumentTypeError(f"{text!r} does not lie below models/ in the project's folder")
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
    "index": flag("which sub-network, by its place in a drawn order", type=int),
    "recipe": flag("BCE with the labels, or distillation", choices=RECIPES),
    "size": flag("uniform network as RATIOxDEPTH, such as 0.6x1", type=checked(parse_shape)),
    "model": {"help": "a file below models/", "type": _model},
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


def named(name: str, config: Config) -> tuple[str, dict[str, Any]]:
    """Command and arguments of a stage by its name in dvc.yaml, such as `search@2-2-x-26k-0`.

    Raises UserError: the study has no such stage.
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
        if stage.startswith("evaluate-"):
            model = paths.MODELS / stage.removeprefix("evaluate-") / f"{key}.pt"
            return "evaluate", {"model": model.as_posix()}
        arguments = dict(zip(axes, values, strict=True))
        command, _, recipe = stage.partition("-")
        if recipe:
            arguments["recipe"] = recipe
        if "space" in STAGES[command].arguments:
            arguments.setdefault("space", study.chosen_space)
        return command, arguments
    raise UserError(f"{name[:200]!r}: {PARAMS} asks for no such stage; `dvc stage list` names them all")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of this system that are no stages."""
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
        f"{most:.3f} G multiply-adds a clip; --csv lists them"
    )
