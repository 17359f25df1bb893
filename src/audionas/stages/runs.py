"""What every stage that trains has in common: train or resume, calibrate, save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import audionas
from audionas import paths
from audionas.config import Config
from audionas.device import prepare
from audionas.evaluation import calibration_batches, mean_average_precision, measurable, predict
from audionas.files import atomic_write
from audionas.models.calibration import calibrate
from audionas.models.cnn10 import Cnn10
from audionas.models.modelfile import save_model
from audionas.ranks import current
from audionas.stages.inputs import open_logmel
from audionas.state import state_key
from audionas.store import ClipStore
from audionas.training.checkpoint import Checkpoint
from audionas.training.feed import Feed
from audionas.training.loop import train


def fresh(config: Config, **form) -> Cnn10:
    """A CNN10 with fresh weights in this experiment's size; `form` may give widths and depths."""
    network = config.network
    return Cnn10(
        network.num_classes,
        network.base_channels,
        mels=config.features.mels,
        block_dropout=network.block_dropout,
        head_dropout=network.head_dropout,
        **form,
    )


def code() -> list[Path]:
    """The modules that a training's state is bound to: all but those that read results and bear on none."""
    package = Path(audionas.__file__).parent
    return sorted(path for path in package.rglob("*.py") if path.parent != package / "reporting")


def training_run(
    config: Config,
    path: Path,
    build: Callable[[torch.device], Any],
    *,
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

    Args:
        build: makes the objective on a device, after the seed is set.
        sections: keys of the configuration that bear on this run; with `inputs` and the code they name
            the state that a killed run resumes from.
        about: what identifies the model in the tables.
        validate, finish: how to measure, and what to do at the end (network, store of the split, calibration
            batches); by default validation mAP, and new BatchNorm statistics. With the default measure the
            file holds that of the network as it is saved, with the number of clips and classes.
    """
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
    key = state_key([command, parameters], [train_store.path, valid_store.path, *inputs, *code()])
    checkpoint = Checkpoint("-".join(path.with_suffix("").parts[1:]), key)

    def measure(measured: Cnn10) -> dict[str, float]:
        if validate is None and measured is not network:
            calibrate(measured, batches)  # averaged weights come without statistics
        return (validate or _valid_map)(measured, valid_store, batches)

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
    valid = {} if validate else _valid_map(network, valid_store, batches)
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


def _valid_map(network, store: ClipStore, batches) -> dict[str, float]:
    return {"valid_mAP": mean_average_precision(store.labels, predict(network, store))}


def _finish(network, store: ClipStore, batches) -> None:
    calibrate(network, batches)
