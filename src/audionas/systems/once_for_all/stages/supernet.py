"""Stage `supernet@space,seed`: once-for-all training by distillation (OFA-AEC, section 2.3)."""

from __future__ import annotations

from audionas.supernet.cnn10 import Cnn10Supernet
from audionas.supernet.scoring import score
from audionas.supernet.training import InPlace, OnceForAll
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config
from audionas.tasks import MultiLabel
from audionas.training.run import TrainingRun


def run(config: Config, space: str, seed: int) -> None:
    """Train a supernet with models/teacher/{seed}.pt, and write models/supernet/{space}-{seed}.pt."""
    search_space, schedule = space_of(config, space), config.supernet
    iterations = schedule.largest_iterations + schedule.sampled_iterations
    batch_size = config.training.batch_size
    with TrainingRun(
        config,
        paths.supernet(space, seed),
        stage="supernet",
        seed=seed,
        task=MultiLabel(),
        train=open_logmel(config, "train"),
        valid=open_logmel(config, "valid"),
        sections=("network", "augment", "distillation", "supernet", "calibration"),
        files=(paths.teacher(seed),),
    ) as run:
        teacher, _ = load_for(paths.teacher(seed), run.train)
        supernet = Cnn10Supernet(
            search_space.architecture,
            block_dropout=config.network.block_dropout,
            head_dropout=config.network.head_dropout,
        ).to(run.device)
        objective = (InPlace if config.distillation.in_place else OnceForAll)(
            supernet,
            run.task,
            teacher,
            config.distillation,
            search_space,
            schedule,
            seed=seed,
            store=run.train,
            batch_size=batch_size,
        )

        def validate(network: Cnn10Supernet) -> dict[str, float]:
            """mAP of the smallest and largest sub-network, each with separate BatchNorm statistics."""
            ends = {"smallest": search_space.smallest, "largest": search_space.largest}
            scores, _ = score(network, list(ends.values()), run.calibration, run.valid, batch_size)
            return {f"valid_mAP_{name}": value for name, value in zip(ends, scores, strict=True)}

        run.fit(objective, iterations=iterations, augment=config.augment, validate=validate)
        # The supernet is not calibrated: scoring and search estimate the statistics of each sub-network.
        run.save(supernet, {"kind": "supernet", "space": space, "recipe": "OFA", "iterations": iterations})
