"""The largest network and the search spaces of an experiment."""

from __future__ import annotations

from audionas.search.cnn10 import Cnn10Architecture, Cnn10Space
from audionas.systems.once_for_all.config import Config


def architecture_of(config: Config) -> Cnn10Architecture:
    """Return the architecture of the largest CNN10 of the parameters."""
    network = config.network
    return Cnn10Architecture(
        network.num_classes, network.base_channels, config.features.mels, network.width_rounding
    )


def space_of(config: Config, name: str) -> Cnn10Space:
    """Return the search space `name` for the network and the clips of the experiment.

    Raises:
        UserError: there is no space of this name.
    """
    return Cnn10Space(name, architecture_of(config), config.frames)
