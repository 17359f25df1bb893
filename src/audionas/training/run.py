"""The interface for training recipes: fit, calibrate, measure, save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from audionas.data.store import ClipStore
from audionas.evaluation.prediction import calibration_batches, predict
from audionas.models.calibration import calibrate
from audionas.models.files import Network, save_model
from audionas.runtime.device import prepare
from audionas.runtime.files import atomic_write
from audionas.runtime.ranks import current
from audionas.runtime.state import basis_of, declared_code, only_one, state_key
from audionas.settings.audio import Augment
from audionas.settings.training import Calibration, Training
from audionas.tasks import MULTI_LABEL, Task
from audionas.training.checkpoint import Checkpoint
from audionas.training.feed import Feed
from audionas.training.loop import train
from audionas.training.objectives.base import Objective


class Corpus(Protocol):
    """The part of section `corpus` that a training reads."""

    name: str


class TrainingConfig(Protocol):
    """The sections that every training reads. The `Config` of a system has these and others."""

    corpus: Corpus
    training: Training
    calibration: Calibration


class TrainingRun:
    """A context manager that trains one network and writes its file. Resumes from the last checkpoint.

        with TrainingRun(config, Path("models/teacher/0.pt"), stage="teacher", seed=0, ...) as run:
            network = Cnn10(num_classes=4).to(run.device)
            run.fit(Supervised(network, run.task), iterations=1_000)
            run.calibrate(network)
            run.save(network, {"kind": "teacher", **run.measure(network)})

    Entry sets the number of threads, determinism and the seed, so networks must be built inside the block.
    Only one process (or one group of ranks) can train for an output at a time.

    Args:
        config: configuration of the system.
        output: model file, such as `models/teacher/0.pt`. Curves are written to `results/curves/teacher/0/`.
            The duration is written to `logs/seconds/teacher/0.txt`; it is a log because it varies.
        stage: name of the stage in `dvc.yaml`. A change of the code that it declares invalidates checkpoints.
        seed: seed of the initial weights and of all random draws.
        task: gives the loss and the validation metric.
        train, valid: stores of the two splits.
        sections: names of further sections of `config` that affect the result.
        files: further files that affect the result, such as the teacher's model file.

    Attributes:
        device: device of the training; set on entry.

    Raises:
        UserError: on entry, if another process trains for this output, the device is missing, or the
            labels of a split do not fit the task.
    """

    device: torch.device

    def __init__(
        self,
        config: TrainingConfig,
        output: Path,
        *,
        stage: str,
        seed: int,
        task: Task,
        train: ClipStore,
        valid: ClipStore,
        sections: Sequence[str],
        files: Sequence[Path] = (),
    ):
        self.config, self.output, self.stage, self.seed, self.task = config, output, stage, seed, task
        self.train, self.valid, self.sections, self.files = train, valid, sections, files
        self._parts = output.with_suffix("").parts[1:]
        self._checkpoint: Checkpoint | None = None
        self._seconds = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> TrainingRun:
        with ExitStack() as stack:
            if current().first:
                stack.enter_context(only_one("-".join(self._parts)))
            for store in (self.train, self.valid):
                self.task.check(store.labels, store.path)
            self.device = prepare(self.config.training, self.seed)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @cached_property
    def calibration(self) -> list[Tensor]:
        """Batches of training clips, on the device, for the estimation of BatchNorm statistics."""
        size, count = self.config.training.batch_size, self.config.calibration.batches
        return [x.to(self.device) for x in calibration_batches(self.train, size, count)]

    def fit(
        self,
        objective: Objective,
        *,
        iterations: int,
        augment: Augment | None = None,
        mixup_alpha: float = 0.0,
        learning_rate: float | None = None,
        validate: Callable[[nn.Module], dict[str, float]] | None = None,
    ) -> None:
        """Train the network of the objective in place. Resumes from a checkpoint of the same run.

        A checkpoint is of the same run if arguments, network, settings, files and code are equal. Call this
        method once per run.

        Args:
            objective: network and loss.
            iterations: total number of optimiser steps.
            augment: SpecAugment settings; None disables it.
            mixup_alpha: parameter of Beta(alpha, alpha); 0 disables mixup.
            learning_rate: replaces `training.learning_rate`.
            validate: returns the metrics of a network for the validation curve. By default the metric of the
                task; averaged weights are calibrated first.

        Raises:
            RuntimeError: the method was called before in this run.
            UserError, Interrupted, ValueError: as in `training.loop.train`.
        """
        if self._checkpoint is not None:
            raise RuntimeError("fit() was called twice on one TrainingRun; create another TrainingRun")
        settings = self.config.training
        if settings.compile:
            objective.compile()

        def measure(network: nn.Module) -> dict[str, float]:
            if network is not objective.network:  # averaged weights have no BatchNorm statistics yet
                self.calibrate(network)
            return self._metric(network)

        learning_rate = learning_rate or settings.learning_rate
        arguments = {"iterations": iterations, "mixup_alpha": mixup_alpha, "learning_rate": learning_rate}
        self._checkpoint = self._open_checkpoint(objective, arguments)
        self._seconds = train(
            objective,
            Feed(self.train, settings, augment, mixup_alpha, self.device, self.seed),
            iterations=iterations,
            settings=settings,
            learning_rate=learning_rate,
            checkpoint=self._checkpoint,
            curves=Path("results", "curves", *self._parts),
            validate=validate or measure,
            description=" ".join(self._parts),
        )

    def calibrate(self, network: nn.Module) -> None:
        """Estimate the network's BatchNorm statistics from `calibration`. Leaves the network in eval mode."""
        calibrate(network, self.calibration)

    def measure(self, network: nn.Module) -> dict[str, float]:
        """Return the validation metric, and the number of clips and classes that it covers."""
        return {
            **self._metric(network),
            "valid_clips": len(self.valid),
            "valid_classes": int(self.task.measured(self.valid.labels).sum()),
        }

    def save(self, network: Network, about: dict[str, Any]) -> None:
        """Write the network, its metadata and the duration, then remove the checkpoint.

        Args:
            network: trained network.
            about: plain values that identify the model in tables. The method adds the seed, the corpus, the
                number of training clips, the classes and the feature settings.
        """
        if current().first:
            about = {
                **about,
                "seed": self.seed,
                "corpus": self.config.corpus.name,
                "train_clips": len(self.train),
                "classes": self.train.classes,
                "settings": self.train.settings,
            }
            if (
                self.task.name != MULTI_LABEL.name
            ):  # that of files without a task, as version 0.1.0 writes them
                about["task"] = self.task.name
            save_model(self.output, network, about)
            log = Path("logs", "seconds", *self.output.with_suffix(".txt").parts[1:])
            with atomic_write(log) as temporary:
                temporary.write_text(f"{self._seconds:.1f}\n", encoding="utf-8")
            if self._checkpoint is not None:
                self._checkpoint.remove()
        current().wait()  # no rank exits before the network is written

    def _metric(self, network: nn.Module) -> dict[str, float]:
        probabilities = predict(network, self.valid, self.config.training.batch_size, self.task.activation)
        return {f"valid_{self.task.metric_name}": self.task.metric(self.valid.labels, probabilities)}

    def _open_checkpoint(self, objective: Objective, arguments: dict[str, float]) -> Checkpoint:
        """Return the checkpoint of this run. Its key hashes everything that determines the state."""
        run = {
            **arguments,
            "output": self.output.as_posix(),
            "seed": self.seed,
            "objective": type(objective).__name__,
            "network": {"name": objective.network.name, **objective.network.spec},
        }
        settings = {name: getattr(self.config, name).model_dump() for name in self.sections}
        settings["training"] = self.config.training.model_dump(exclude={"checkpoint_seconds", "gpus"})
        files = [self.train.path, self.valid.path, *self.files, *declared_code(self.stage)]
        basis = basis_of({"run": run, **settings}, files)
        checkpoint = Checkpoint("-".join(self._parts), state_key(basis), basis=basis)
        if current().first:
            checkpoint.report_unused()
        return checkpoint
