"""Commands that all systems share: the stages from the lists to the features."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from audionas.settings.values import SPLITS


class Stage(NamedTuple):
    """A stage of the DAG as a command.

    Attributes:
        module: below `audionas.systems`; imported on use, because PyTorch takes seconds.
        help: what it does.
        arguments: names among the system's `ARGUMENTS`, in order.
        function: of the module; it takes the configuration and the arguments.
        shared: whether the ranks of `torchrun` can compute it together.
        trains: whether it starts a rank for each of `training.gpus` GPUs.
    """

    module: str
    help: str
    arguments: tuple[str, ...] = ()
    function: str = "run"
    shared: bool = False
    trains: bool = False


def flag(help: str, required: bool = True, **more: Any) -> dict[str, Any]:
    """An option as argparse takes it; an argument without `required` is positional."""
    return {"help": help, "required": required, **more}


def checked(parse: Callable[[str], object]) -> Callable[[str], str]:
    """A type for argparse: the text itself where `parse` accepts it, and its ValueError as the message."""

    def check(text: str) -> str:
        try:
            parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(error) from None
        return text

    return check


def positive(text: str) -> int:
    """A type for argparse: a whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


STAGES = {
    "segments": Stage("common.segments", "write the lists of clips and labels of every split"),
    "download": Stage(
        "common.download", "get the original audio of a split, with a ledger", ("split", "limit")
    ),
    "resample": Stage("common.resample", "decode to mono waveforms of one rate and length", ("split",)),
    "coverage": Stage(
        "common.coverage", "report how much of the audio is here, and why not all", ("to_results",)
    ),
    "logmel": Stage("common.logmel", "pack log-mel spectrograms of a split in HDF5", ("split",), shared=True),
}
ARGUMENTS = {
    "to_results": flag("also write it to results/coverage, as the DAG does", False, action="store_true"),
    "limit": flag("of clips, to try it out; the stage's output is left as it is", False, type=positive),
    "split": flag("which split", choices=SPLITS),
}
