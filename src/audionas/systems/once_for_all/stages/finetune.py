"""Stage `finetune@constraint,iterations,seed`: fine-tuning by distillation (OFA-AEC, section 4.3)."""

from __future__ import annotations

from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.tasks import MultiLabel
from audionas.training.objectives.distillation import Distilled
from audionas.training.run import TrainingRun


def run(config: Config, space: str, constraint: str, iterations: int, seed: int) -> None:
    """Fine-tune a found network, and write models/finetuned/{constraint}-{iterations}-{seed}.pt."""
    source = paths.found(space, constraint, seed)
    with TrainingRun(
        config,
        paths.finetuned(constraint, iterations, seed),
        stage="finetune",
        seed=seed,
        task=MultiLabel(),
        train=open_logmel(config, "train"),
        valid=open_logmel(config, "valid"),
        sections=("augment", "distillation", "finetune", "calibration"),
        files=(source, paths.teacher(seed)),
    ) as run:
        network, found = load_for(source, run.train)
        network = network.to(run.device)
        teacher, _ = load_for(paths.teacher(seed), run.train)
        objective = Distilled(
            network, run.task, teacher, config.distillation, run.train, config.training.batch_size
        )
        run.fit(
            objective,
            iterations=iterations,
            augment=config.augment,
            learning_rate=config.finetune.learning_rate,
        )
        run.calibrate(network)
        about = {
            **{key: found[key] for key in ("space", "constraint", "ratios", "depths")},
            "kind": "finetuned",
            "recipe": f"OFA + {iterations:,}",
            "iterations": iterations,
            "supernet_iterations": found["iterations"],
        }
        run.save(network, about | run.measure(network))
