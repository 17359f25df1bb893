"""`teacher@seed`: CNN10 with mixup and SpecAugment (section 3.2)."""

from __future__ import annotations

from audionas import paths
from audionas.config import Config
from audionas.stages.runs import fresh, training_run
from audionas.training.objectives import Supervised


def run(config: Config, seed: int) -> None:
    """data/logmel/{train,valid}.h5 to models/teacher/{seed}.pt."""
    training_run(
        config,
        paths.teacher(seed),
        lambda device: Supervised(fresh(config).to(device)),
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
