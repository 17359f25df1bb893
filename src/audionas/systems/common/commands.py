"""Commands that all systems share: the data stages."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from audionas.settings.values import SPLITS


class Stage(NamedTuple):
    """A stage of the DAG as a command.

    Attributes:
        module: module below `audionas.systems`; imported on use, because importing PyTorch takes seconds.
        help: description of the stage.
        arguments: names of its arguments in `ARGUMENTS` of the system, in order.
        function: function of the module; it takes the configuration and the arguments.
        shared: whether several ranks of `torchrun` can run the stage.
        trains: whether the stage starts one rank per GPU of `training.gpus`.
    """

    module: str
    help: str
    arguments: tuple[str, ...] = ()
    function: str = "run"
    shared: bool = False
    trains: bool = False


def flag(help: str, required: bool = True, **more: Any) -> dict[str, Any]:
    """Return an option for argparse; an argument without `required` is positional."""
    return {"help": help, "required": required, **more}


def checked(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Return an argparse type that returns the text if `parse` accepts it, and reports its ValueError."""

    def check(text: str) -> str:
        try:
            parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(error) from None
        return text

    return check


def positive(text: str) -> int:
    """An argparse type: a positive integer."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


STAGES = {
    "segments": Stage("common.segments", "write the clips and labels of every split"),
    "download": Stage(
        "common.download", "download the original audio of a split, with a ledger", ("split", "limit")
    ),
    "resample": Stage(
        "common.resample", "decode a split to mono waveforms of one sample rate and length", ("split",)
    ),
    "coverage": Stage(
        "common.coverage",
        "report how much of the audio is present, and why clips are missing",
        ("to_results",),
    ),
    "logmel": Stage(
        "common.logmel", "compute log-mel spectrograms of a split, in HDF5", ("split",), shared=True
    ),
}
ARGUMENTS = {
    "to_results": flag(
        "also write the report to results/coverage, as the DAG does", False, action="store_true"
    ),
    "limit": flag(
        "number of clips, for a trial; the output of the stage does not change", False, type=positive
    ),
    "split": flag("the split", choices=SPLITS),
}
