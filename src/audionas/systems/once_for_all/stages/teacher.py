"""Stage `teacher@seed`: CNN10 with mixup and SpecAugment (OFA-AEC, section 3.2)."""

from __future__ import annotations

from audionas.systems.common.loading import open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.build import cnn10
from audionas.systems.once_for_all.config import Config
from audionas.tasks import MultiLabel
from audionas.training.objectives.supervised import Supervised
from audionas.training.run import TrainingRun


def run(config: Config, seed: int) -> None:
    """Train the teacher on data/logmel, and write models/teacher/{seed}.pt."""
    iterations = config.teacher.iterations
    about = {"kind": "teacher", "recipe": "BCE + mixup + SpecAugment", "iterations": iterations}
    with TrainingRun(
        config,
        paths.teacher(seed),
        stage="teacher",
        seed=seed,
        task=MultiLabel(),
        train=open_logmel(config, "train"),
        valid=open_logmel(config, "valid"),
        sections=("network", "augment", "teacher", "calibration"),
    ) as run:
        network = cnn10(config).to(run.device)
        run.fit(
            Supervised(network, run.task),
            iterations=iterations,
            augment=config.augment,
            mixup_alpha=config.teacher.mixup_alpha,
        )
        run.calibrate(network)
        run.save(network, about | run.measure(network))
