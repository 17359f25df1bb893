"""A network of an experiment with fresh weights."""

from __future__ import annotations

from audionas.models.cnn10 import Cnn10
from audionas.systems.once_for_all.config import Config


def cnn10(config: Config, **form) -> Cnn10:
    """A CNN10 with fresh weights in this experiment's size; `form` may give widths and depths."""
    network = config.network
    return Cnn10(
        network.num_classes,
        network.base_channels,
        mels=config.features.mels,
        block_dropout=network.block_dropout,
        head_dropout=network.head_dropout,
        **form,
    )
