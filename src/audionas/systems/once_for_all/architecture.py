"""The largest network and the search spaces of an experiment."""

from __future__ import annotations

from audionas.search.cnn10 import Cnn10Architecture, Cnn10Space
from audionas.systems.once_for_all.config import Config


def architecture_of(config: Config) -> Cnn10Architecture:
    """The CNN10 that the parameters ask for."""
    network = config.network
    return Cnn10Architecture(
        network.num_classes, network.base_channels, config.features.mels, network.width_rounding
    )


def space_of(config: Config, name: str) -> Cnn10Space:
    """The search space of this name, over the experiment's network and clips."""
    return Cnn10Space(name, architecture_of(config), config.frames)
