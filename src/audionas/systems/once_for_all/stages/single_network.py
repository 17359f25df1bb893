"""What the stages have in common that train one network by itself, from fresh weights (sections 3.2, 4.3)."""

from __future__ import annotations

from pathlib import Path

from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.build import cnn10
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.training_runs import training_run
from audionas.training.objectives import Distilled, Supervised


def train_alone(
    config: Config, path: Path, widths, depths, recipe: str, stage: str, seed: int, about: dict
) -> None:
    """A network of these block widths and depths from fresh weights, by `baseline` or `kd`, to `path`.

    `about` says which it is, with `ratios` and `depths` as of a sub-network.
    A baseline reads neither the teacher nor the section `distillation`. `stage` is its name in `dvc.yaml`.
    """
    teacher_path, baseline = paths.teacher(seed), recipe == "baseline"

    def build(device):
        network = cnn10(config, widths=widths, depths=depths).to(device)
        if baseline:
            return Supervised(network)
        store = open_logmel(config, "train")
        teacher, _ = load_for(teacher_path, store)
        return Distilled(network, teacher, config.distillation, store, config.training.batch_size)

    iterations = config.individual.iterations
    training_run(
        config,
        path,
        build,
        stage=stage,
        sections=(
            "network",
            "augment",
            "individual",
            "calibration",
            *(() if baseline else ("distillation",)),
        ),
        inputs=() if baseline else (teacher_path,),
        iterations=iterations,
        seed=seed,
        about={**about, "recipe": recipe, "iterations": iterations},
    )
