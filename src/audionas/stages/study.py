"""What the study asks for, checked before anything runs."""

from __future__ import annotations

from pathlib import Path

from audionas.config import Config, parse_constraint, parse_size
from audionas.configfile import PARAMS
from audionas.errors import UserError
from audionas.models.architecture import Architecture
from audionas.search.space import SearchSpace


def check(config: Config, path: str | Path = PARAMS) -> None:
    """Every constraint of the study against every space; `path` is the file to name.

    Raises:
        UserError: no sub-network of a space meets a constraint; names the nearest sizes.
    """
    tolerance = parse_size(config.search.tolerance)
    architecture = Architecture.of(config)
    for space in config.study.spaces:
        for constraint in config.study.constraints:
            try:
                SearchSpace(space, architecture).near(parse_constraint(constraint), tolerance, config.frames)
            except UserError as error:
                raise UserError(f"{path}: study.constraints: {constraint}: {error}") from None
    chosen = SearchSpace(config.study.chosen_space, architecture)
    if beyond := [index for index in config.study.ranked if index >= len(chosen)]:
        raise UserError(
            f"{path}: study.ranked: {beyond[0]}: space {chosen.name} has {len(chosen)} sub-networks; write "
            f"numbers from 0 to {len(chosen) - 1}"
        )
