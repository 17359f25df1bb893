"""What every stage that trains has in common: train or resume, calibrate, save."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from audionas.data.store import ClipStore
from audionas.evaluation.metrics import mean_average_precision, measurable
from audionas.evaluation.prediction import calibration_batches, predict
from audionas.models.calibration import calibrate
from audionas.models.cnn10 import Cnn10
from audionas.models.files import save_model
from audionas.runtime.device import prepare
from audionas.runtime.files import atomic_write
from audionas.runtime.ranks import current
from audionas.runtime.state import basis_of, declared_code, only_one, state_key
from audionas.systems.common.loading import open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.training.checkpoint import Checkpoint
from audionas.training.feed import Feed
from audionas.training.loop import train


def training_run(
    config: Config,
    path: Path,
    build: Callable[[torch.device], Any],
    *,
    stage: str,
    sections: tuple[str, ...],
    inputs: tuple[Path, ...] = (),
    iterations: int,
    mixup_alpha: float = 0.0,
    seed: int,
    about: dict[str, Any],
    learning_rate: float | None = None,
    validate: Callable | None = None,
    finish: Callable | None = None,
) -> None:
    """Train the network of `build`'s objective and write it to `path`, with its curves and a log of its time.

    One process, or the ranks of one, at a time.

    Args:
        build: makes the objective on a device, after the seed is set.
        stage: its name in `dvc.yaml`.
        sections: keys of the configuration that bear on this run; with `inputs` and the code that the stage
            declares they name the state that a killed run resumes from.
        about: what identifies the model in the tables.
        validate, finish: how to measure, and what to do at the end (network, store of the split, calibration
            batches); by default validation mAP, and new BatchNorm statistics. With the default measure the
            file holds that of the network as it is saved, with the number of clips and classes.
    """
    name = "-".join(path.with_suffix("").parts[1:])
    with only_one(name) if current().first else nullcontext():
        settings = config.training
        train_store, valid_store = open_logmel(config, "train"), open_logmel(config, "valid")
        device = prepare(settings, seed)
        objective = build(device)
        if settings.compile:
            objective.compile()
        network = objective.network
        batches = [
            x.to(device)
            for x in calibration_batches(train_store, settings.batch_size, config.calibration.batches)
        ]
        parameters = {name: getattr(config, name).model_dump() for name in sections}
        parameters["training"] = settings.model_dump(exclude={"checkpoint_seconds", "gpus"})
        command = {**about, "output": str(path), "seed": seed, "iterations": iterations}
        files = [train_store.path, valid_store.path, *inputs, *declared_code(stage)]
        basis = basis_of({"run": command, **parameters}, files)
        checkpoint = Checkpoint(name, state_key(basis), basis=basis)
        if current().first:
            checkpoint.tell_of_others()

        def valid_map(measured: Cnn10) -> dict[str, float]:
            probabilities = predict(measured, valid_store, settings.batch_size)
            return {"valid_mAP": mean_average_precision(valid_store.labels, probabilities)}

        def measure(measured: Cnn10) -> dict[str, float]:
            if validate is None and measured is not network:
                calibrate(measured, batches)  # averaged weights come without statistics
            return validate(measured, valid_store, batches) if validate else valid_map(measured)

        seconds = train(
            objective,
            Feed(train_store, settings, config.augment, mixup_alpha, device, seed),
            iterations=iterations,
            settings=settings,
            learning_rate=learning_rate or settings.learning_rate,
            checkpoint=checkpoint,
            curves=paths.curves(path),
            validate=measure,
            description=" ".join(path.with_suffix("").parts[1:]),
        )
        (finish or _finish)(network, valid_store, batches)
        # Not the last point of the curve, which is measured before `finish`.
        valid = {} if validate else valid_map(network)
        if valid:
            valid |= {
                "valid_clips": len(valid_store),
                "valid_classes": int(measurable(valid_store.labels).sum()),
            }
        if current().first:
            save_model(
                path,
                network,
                {
                    **about,
                    **valid,
                    "seed": seed,
                    "corpus": config.corpus.name,
                    "train_clips": len(train_store),
                    "classes": train_store.classes,
                    "settings": train_store.settings,
                },
            )
            with atomic_write(paths.seconds(path)) as temporary:
                temporary.write_text(f"{seconds:.1f}\n", encoding="utf-8")
            checkpoint.remove()
        current().wait()  # none ends before the network is written


def _finish(network, store: ClipStore, batches) -> None:
    calibrate(network, batches)
