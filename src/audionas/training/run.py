"""One training as a recipe reads it: fit, calibrate, measure, save."""

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
from audionas.tasks import Task
from audionas.training.checkpoint import Checkpoint
from audionas.training.feed import Feed
from audionas.training.loop import train
from audionas.training.objectives.base import Objective


class Corpus(Protocol):
    """Section `corpus`, as far as a training reads it."""

    name: str


class TrainingConfig(Protocol):
    """The sections that every training reads; a system's `Config` has them among others."""

    corpus: Corpus
    training: Training
    calibration: Calibration


class TrainingRun:
    """The training of one network, from fresh weights or the last checkpoint to the file. Use it in `with`.

        with TrainingRun(config, Path("models/teacher/0.pt"), stage="teacher", seed=0, ...) as run:
            network = Cnn10(num_classes=4).to(run.device)
            run.fit(Supervised(network, run.task), iterations=1_000)
            run.calibrate(network)
            run.save(network, {"kind": "teacher", **run.measure(network)})

    Entering sets threads, determinism and the seed, so networks are built inside. One process, or the ranks
    of one, trains for an output at a time.

    Args:
        config: the configuration of the system.
        output: the model file, as in `models/teacher/0.pt`. `results/curves/teacher/0/` gets the curves and
            `logs/seconds/teacher/0.txt` the duration, which is a log: no two runs take equally long.
        stage: its name in `dvc.yaml`. The code that it declares there binds the checkpoint.
        seed: of the fresh weights and of all draws.
        task: gives objectives the loss, and validation the metric.
        train, valid: stores of the two splits.
        sections: names of further sections of `config` that bear on the result.
        inputs: further files that bear on the result, such as the teacher's.

    Attributes:
        device: that computes; set on entering.

    Raises:
        UserError: on entering, if another process trains for this output, the device is missing, or the
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
        inputs: Sequence[Path] = (),
    ):
        self.config, self.output, self.stage, self.seed, self.task = config, output, stage, seed, task
        self.train, self.valid, self.sections, self.inputs = train, valid, sections, inputs
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
        """Batches of training clips on the device, over which BatchNorm statistics are estimated."""
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
        """Train the objective's network in place; resumes from a checkpoint of the same run.

        Same means equal arguments, network, settings, inputs and code. Call it once in a run.

        Args:
            iterations: optimiser steps in all.
            augment: SpecAugment's masks; None for none.
            mixup_alpha: of mixup's Beta(alpha, alpha); 0 for none.
            learning_rate: in place of `training.learning_rate`.
            validate: gives the points of the validation curve; by default the task's metric, for averaged
                weights after `calibrate`.

        Raises:
            RuntimeError: this run has trained already.
            UserError, Interrupted, ValueError: as `training.loop.train`.
        """
        if self._checkpoint is not None:
            raise RuntimeError("a TrainingRun trains once; open another one")
        settings = self.config.training
        if settings.compile:
            objective.compile()

        def measure(network: nn.Module) -> dict[str, float]:
            if network is not objective.network:  # averaged weights have no statistics of their own yet
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
        """Estimate the network's BatchNorm statistics over `calibration`; leaves it in eval mode."""
        calibrate(network, self.calibration)

    def measure(self, network: nn.Module) -> dict[str, float]:
        """The network's metric on validation, with the number of clips and classes that it is the mean of."""
        return {
            **self._metric(network),
            "valid_clips": len(self.valid),
            "valid_classes": int(self.task.measured(self.valid.labels).sum()),
        }

    def save(self, network: Network, about: dict[str, Any]) -> None:
        """Write the network, what is known about it and the duration; then remove the checkpoint.

        Args:
            about: plain values that identify the model in tables; seed, corpus, number of training clips,
                classes and the settings of the features are added.
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
            save_model(self.output, network, about)
            log = Path("logs", "seconds", *self.output.with_suffix(".txt").parts[1:])
            with atomic_write(log) as temporary:
                temporary.write_text(f"{self._seconds:.1f}\n", encoding="utf-8")
            if self._checkpoint is not None:
                self._checkpoint.remove()
        current().wait()  # no rank ends before the network is written

    def _metric(self, network: nn.Module) -> dict[str, float]:
        probabilities = predict(network, self.valid, self.config.training.batch_size, self.task.activation)
        return {f"valid_{self.task.metric_name}": self.task.metric(self.valid.labels, probabilities)}

    def _open_checkpoint(self, objective: Objective, arguments: dict[str, float]) -> Checkpoint:
        """The checkpoint of this run, named by all that its state follows from."""
        run = {
            **arguments,
            "output": self.output.as_posix(),
            "seed": self.seed,
            "objective": type(objective).__name__,
            "network": {"name": objective.network.name, **objective.network.spec},
        }
        settings = {name: getattr(self.config, name).model_dump() for name in self.sections}
        settings["training"] = self.config.training.model_dump(exclude={"checkpoint_seconds", "gpus"})
        files = [self.train.path, self.valid.path, *self.inputs, *declared_code(self.stage)]
        basis = basis_of({"run": run, **settings}, files)
        checkpoint = Checkpoint("-".join(self._parts), state_key(basis), basis=basis)
        if current().first:
            checkpoint.report_unused()
        return checkpoint
