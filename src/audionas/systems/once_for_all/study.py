"""Checks of the study before any stage runs, and its summary."""

from __future__ import annotations

from pathlib import Path

from audionas.runtime.errors import UserError
from audionas.search.budget import near, within
from audionas.settings.file import PARAMS
from audionas.settings.values import parse_constraint, parse_size
from audionas.systems.common.checks import require_own_folders
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config


def check(config: Config, path: str | Path = PARAMS) -> None:
    """Check the parameters across sections.

    Args:
        config: the configuration.
        path: the file that error messages name.

    Raises:
        UserError: the corpus overlaps a folder that stages write, no sub-network of a space meets a
            constraint (the message lists the nearest sizes), or an index of study.ranked is out of range.
    """
    require_own_folders(config, path)
    tolerance = parse_size(config.search.tolerance)
    for space in config.study.spaces:
        for constraint in config.study.constraints:
            searched, budget = space_of(config, space), parse_constraint(constraint)
            try:
                near(searched, budget, tolerance)
                within(searched, budget)
            except UserError as error:
                raise UserError(f"{path}: study.constraints: {constraint}: {error}") from None
    chosen = space_of(config, config.study.chosen_space)
    if beyond := [index for index in config.study.ranked if index >= len(chosen)]:
        raise UserError(
            f"{path}: study.ranked: {beyond[0]}: space {chosen.name} has {len(chosen)} sub-networks; use "
            f"numbers from 0 to {len(chosen) - 1}"
        )


def summary(config: Config) -> str:
    """Summarize the study in one line."""
    study = config.study
    return (
        f"corpus {config.corpus.name}, {len(study.seeds)} seed(s), spaces {', '.join(study.spaces)}, "
        f"constraints {', '.join(study.constraints)}"
    )
