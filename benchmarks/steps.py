"""Steps of training as closures; all that benchmarks know of the interfaces of `audionas.training`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audionas.data.store import ClipStore, write_store
from audionas.models import Cnn10
from audionas.search.cnn10 import Cnn10Architecture, Cnn10Space, Cnn10Subnetwork
from audionas.settings.audio import Augment
from audionas.settings.training import Distillation, SupernetTraining, Training
from audionas.supernet.cnn10 import Cnn10Supernet
from audionas.supernet.training import OnceForAll
from audionas.tasks import MultiLabel
from audionas.training.augment import draw_mixup, mix, spec_augment
from audionas.training.checkpoint import Checkpoint
from audionas.training.feed import Batch, Feed
from audionas.training.loop import train
from audionas.training.objectives.supervised import Supervised
from benchmarks import where

Step = Callable[[], None]


def made(clips: int, frames: int, classes: int) -> tuple[Tensor, Tensor]:
    """Log-mel [clips, frames, 64] in dB and labels [clips, classes] of made clips."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(clips, frames, 64, generator=rng) * 10 - 40
    y = (torch.rand(clips, classes, generator=rng) < 2 / classes).float()
    return x.to(where.device()), y.to(where.device())


@contextmanager
def made_store(clips: int, frames: int, classes: int):
    """A ClipStore of made clips, on disk."""
    x, y = made(clips, frames, classes)
    y[:, 0] = 1
    with TemporaryDirectory() as folder:
        path = Path(folder, "logmel.h5")
        names = [*map(str, range(max(clips, classes)))]
        data = x.cpu().numpy().astype(np.float16)
        write_store(path, names[:clips], y.byte().cpu().numpy(), data, classes=names[:classes], settings={})
        yield ClipStore(path)


def feed(store: ClipStore, clips: int) -> Feed:
    """The package's batches."""
    return Feed(store, Training(batch_size=clips), Augment(), 1.0, where.device())


def augmented(x: Tensor, y: Tensor, mixup_alpha: float = 1.0) -> Batch:
    """A batch as the feed gives it, without the reading."""
    if mixup_alpha:
        share, partner = draw_mixup(len(x), mixup_alpha, x.device)
        x, y = mix(x, x[partner], share), mix(y, y[partner], share)
    keep = spec_augment(*x.shape, Augment(), x.device)
    return Batch(x, y, keep, torch.arange(len(x), device=x.device))


def supervised(
    architecture: Cnn10Architecture, x: Tensor, y: Tensor, precision: str = "float32", compiled: bool = False
) -> Step:
    """The teacher's step: mixup, SpecAugment, binary cross-entropy, Adam."""
    network = Cnn10(architecture.num_classes, architecture.base_channels).train().to(x.device)
    objective = Supervised(network, MultiLabel())
    if compiled:
        objective.compile()
    optimiser = adam(network)

    def run() -> None:
        with in_precision(precision):
            loss = objective(augmented(x, y), 0)
        _apply(loss, optimiser)

    return run


def adam(network: torch.nn.Module) -> torch.optim.Adam:
    """The loop's optimiser."""
    return torch.optim.Adam(network.parameters(), lr=1e-3, fused=where.on_gpu())


def in_precision(precision: str) -> torch.autocast:
    """The loop's autocast."""
    return torch.autocast(where.device().type, torch.bfloat16, enabled=precision == "bfloat16")


class OnceForAllSteps:
    """Steps of supernet training on one batch, for given draws of sub-networks.

    Attributes:
        shared: the package's step.
        separate: the same objective, a forward and a backward pass for each sub-network.
    """

    def __init__(
        self,
        architecture: Cnn10Architecture,
        draws: list[list[Cnn10Subnetwork]],
        x: Tensor,
        y: Tensor,
        precision: str = "float32",
    ):
        torch.manual_seed(0)
        self.supernet, self.draws, self.x, self.y = Cnn10Supernet(architecture).train(), draws, x, y
        self.supernet.to(x.device)
        self.precision = precision
        teacher = Cnn10(architecture.num_classes, architecture.base_channels)
        self.objective = OnceForAll(
            self.supernet,
            MultiLabel(),
            teacher,
            Distillation(),
            Cnn10Space("2-2-x", architecture),
            SupernetTraining(largest_iterations=0, sampled_iterations=1),
        )
        self.objective.sample = lambda iteration: self.draws[iteration]
        self.optimiser = adam(self.supernet)

    def shared(self) -> None:
        """One step for each draw."""
        for i in range(len(self.draws)):
            with in_precision(self.precision):
                loss = self.objective(augmented(self.x, self.y, 0.0), i)
            _apply(loss, self.optimiser)

    def separate(self) -> None:
        """One step for each draw; gradients of the passes are summed, as once-for-all's own code does."""
        for draw in self.draws:
            batch = augmented(self.x, self.y, 0.0)
            with in_precision(self.precision):
                target = self.objective.target(batch)
            self.optimiser.zero_grad(set_to_none=True)
            for subnetwork in draw:
                with in_precision(self.precision):
                    logits = self.supernet(batch.x, batch.keep, subnetwork)
                    loss = F.binary_cross_entropy_with_logits(logits, target) / len(draw)
                loss.backward()
                loss.item()
            self.optimiser.step()


class _Clocked(Supervised):
    """With the time at which steps begin: of the third, and of the one that many later."""

    WARM_UP = 2

    def __init__(self, network: Cnn10, steps: int):
        super().__init__(network, MultiLabel())
        self.steps, self.calls, self.began = steps, 0, []

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        if self.calls in (self.WARM_UP, self.WARM_UP + self.steps):
            where.wait()
            self.began.append(time.perf_counter())
        self.calls += 1
        return super().__call__(batch, iteration)

    @property
    def iterations(self) -> int:
        """That have to be run."""
        return self.WARM_UP + self.steps + 1

    @property
    def seconds(self) -> float:
        """Of a step, from its beginning to that of the next."""
        first, last = self.began
        return (last - first) / self.steps


def bare_and_loop(
    architecture: Cnn10Architecture, store: ClipStore, clips: int, steps: int, folder: Path
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Seconds of a step on a store's batches, as so many take it, bare and in `training.loop.train`."""

    def start() -> tuple[_Clocked, Feed]:
        torch.manual_seed(0)
        network = Cnn10(architecture.num_classes, architecture.base_channels).train()
        return _Clocked(network.to(where.device()), steps), feed(store, clips)

    def bare() -> float:
        objective, batches = start()
        optimiser = adam(objective.network)
        for i in range(objective.iterations):
            _apply(objective(batches.batch(i), i), optimiser)
        return objective.seconds

    def loop() -> float:
        objective, batches = start()
        train(
            objective,
            batches,
            iterations=objective.iterations,
            settings=Training(batch_size=clips),
            learning_rate=1e-3,
            checkpoint=Checkpoint("loop", "0", folder),
            curves=folder / "curves",
            validate=lambda network: {},
            description="loop",
        )
        return objective.seconds

    return bare, loop


def _apply(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    loss.item()  # as the loop, which looks at every loss on a CPU, at one of 20 on a GPU
