"""Networks of an experiment with initial weights."""

from __future__ import annotations

from audionas.models.cnn10 import Cnn10
from audionas.systems.once_for_all.config import Config


def cnn10(config: Config, **form) -> Cnn10:
    """Return a CNN10 with initial weights and the size of the experiment.

    Args:
        config: configuration of the system.
        form: optional `widths` and `depths` of the blocks.
    """
    network = config.network
    return Cnn10(
        network.num_classes,
        network.base_channels,
        mels=config.features.mels,
        block_dropout=network.block_dropout,
        head_dropout=network.head_dropout,
        **form,
    )
