"""The recipe of all stages that train one network from initial weights (OFA-AEC, sections 3.2 and 4.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from audionas.search.cnn10 import Cnn10Subnetwork
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import architecture_of
from audionas.systems.once_for_all.build import cnn10
from audionas.systems.once_for_all.config import Config
from audionas.tasks import MultiLabel
from audionas.training.objectives.distillation import Distilled
from audionas.training.objectives.supervised import Supervised
from audionas.training.run import TrainingRun


def train_single_network(
    config: Config,
    subnetwork: Cnn10Subnetwork,
    output: Path,
    *,
    stage: str,
    seed: int,
    recipe: Literal["baseline", "kd"],
    about: dict[str, Any],
) -> dict[str, float]:
    """Train a network with the widths and depths of a sub-network from initial weights.

    Args:
        config: configuration of the system.
        subnetwork: gives widths and depths.
        output: model file to write.
        stage: name of the stage in `dvc.yaml`.
        seed: seed of the weights and of all random draws, and of the teacher.
        recipe: `baseline` uses labels, and neither the teacher nor the section `distillation`; `kd` uses the
            teacher.
        about: metadata of the model file; the function adds `ratios`, `depths`, `recipe` and `iterations`.

    Returns:
        Validation mAP, number of clips and number of classes, as `TrainingRun.measure` returns them.
    """
    baseline, teacher_path = recipe == "baseline", paths.teacher(seed)
    sections = ("network", "augment", "individual", "calibration")
    with TrainingRun(
        config,
        output,
        stage=stage,
        seed=seed,
        task=MultiLabel(),
        train=open_logmel(config, "train"),
        valid=open_logmel(config, "valid"),
        sections=sections if baseline else (*sections, "distillation"),
        files=() if baseline else (teacher_path,),
    ) as run:
        widths = architecture_of(config).widths(subnetwork)
        network = cnn10(config, widths=widths, depths=(2, *subnetwork.depths)).to(run.device)
        if baseline:
            objective = Supervised(network, run.task)
        else:
            teacher, _ = load_for(teacher_path, run.train)
            objective = Distilled(
                network, run.task, teacher, config.distillation, run.train, config.training.batch_size
            )
        run.fit(objective, iterations=config.individual.iterations, augment=config.augment)
        run.calibrate(network)
        measured = run.measure(network)
        about = {
            **about,
            "ratios": list(subnetwork.ratios),
            "depths": list(subnetwork.depths),
            "recipe": recipe,
            "iterations": config.individual.iterations,
        }
        run.save(network, about | measured)
    return measured
