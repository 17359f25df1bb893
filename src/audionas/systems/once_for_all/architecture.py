"""The largest network of an experiment, which sub-networks are cut from."""

from __future__ import annotations

from audionas.search.cnn10 import Cnn10Architecture
from audionas.systems.once_for_all.config import Config


def architecture_of(config: Config) -> Cnn10Architecture:
    """The CNN10 that the parameters ask for."""
    network = config.network
    return Cnn10Architecture(
        network.num_classes, network.base_channels, config.features.mels, network.width_rounding
    )
