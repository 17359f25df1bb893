"""`finetune@constraint,iterations,seed`: continual fine-tuning by distillation (section 4.3)."""

from __future__ import annotations

from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.training_runs import training_run
from audionas.training.objectives import Distilled


def run(config: Config, space: str, constraint: str, iterations: int, seed: int) -> None:
    """A found network and the teacher to models/finetuned/{constraint}-{iterations}-{seed}.pt."""
    source = paths.found(space, constraint, seed)
    store, batch_size = open_logmel(config, "train"), config.training.batch_size
    network, about = load_for(source, store)
    teacher, _ = load_for(paths.teacher(seed), store)
    training_run(
        config,
        paths.finetuned(constraint, iterations, seed),
        lambda device: Distilled(network.to(device), teacher, config.distillation, store, batch_size),
        stage="finetune",
        sections=("augment", "distillation", "finetune", "calibration"),
        inputs=(source, paths.teacher(seed)),
        iterations=iterations,
        seed=seed,
        about={
            **{key: about[key] for key in ("space", "constraint", "ratios", "depths")},
            "kind": "finetuned",
            "recipe": f"OFA + {iterations:,}",
            "iterations": iterations,
            "supernet_iterations": about["iterations"],
        },
        learning_rate=config.finetune.learning_rate,
    )
