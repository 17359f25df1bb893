"""`teacher@seed`: CNN10 with mixup and SpecAugment (section 3.2)."""

from __future__ import annotations

from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.build import cnn10
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.training_runs import training_run
from audionas.training.objectives import Supervised


def run(config: Config, seed: int) -> None:
    """data/logmel/{train,valid}.h5 to models/teacher/{seed}.pt."""
    training_run(
        config,
        paths.teacher(seed),
        lambda device: Supervised(cnn10(config).to(device)),
        stage="teacher",
        sections=("network", "augment", "teacher", "calibration"),
        mixup_alpha=config.teacher.mixup_alpha,
        iterations=config.teacher.iterations,
        seed=seed,
        about={
            "kind": "teacher",
            "recipe": "BCE + mixup + SpecAugment",
            "iterations": config.teacher.iterations,
        },
    )
