"""Training steps as closures. Only this module of the benchmarks uses `audionas.training`."""

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
from benchmarks import target_device

Step = Callable[[], None]


def made(clips: int, frames: int, classes: int) -> tuple[Tensor, Tensor]:
    """Generate log-mel [clips, frames, 64] in dB and labels [clips, classes]."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(clips, frames, 64, generator=rng) * 10 - 40
    y = (torch.rand(clips, classes, generator=rng) < 2 / classes).float()
    return x.to(target_device.device()), y.to(target_device.device())


@contextmanager
def made_store(clips: int, frames: int, classes: int):
    """Write a ClipStore of generated clips."""
    x, y = made(clips, frames, classes)
    y[:, 0] = 1
    with TemporaryDirectory() as folder:
        path = Path(folder, "logmel.h5")
        names = [*map(str, range(max(clips, classes)))]
        data = x.cpu().numpy().astype(np.float16)
        write_store(path, names[:clips], y.byte().cpu().numpy(), data, classes=names[:classes], settings={})
        yield ClipStore(path)


def feed(store: ClipStore, clips: int) -> Feed:
    """Yield batches of the package."""
    return Feed(store, Training(batch_size=clips), Augment(), 1.0, target_device.device())


def augmented(x: Tensor, y: Tensor, mixup_alpha: float = 1.0) -> Batch:
    """Return a batch like those of the feed, without reading."""
    if mixup_alpha:
        share, partner = draw_mixup(len(x), mixup_alpha, x.device)
        x, y = mix(x, x[partner], share), mix(y, y[partner], share)
    keep = spec_augment(*x.shape, Augment(), x.device)
    return Batch(x, y, keep, torch.arange(len(x), device=x.device))


def supervised(
    architecture: Cnn10Architecture, x: Tensor, y: Tensor, precision: str = "float32", compiled: bool = False
) -> Step:
    """Return the training step of the teacher: mixup, SpecAugment, binary cross-entropy, Adam."""
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
    """Return the optimiser of the training loop."""
    return torch.optim.Adam(network.parameters(), lr=1e-3, fused=target_device.on_gpu())


def in_precision(precision: str) -> torch.autocast:
    """Return the autocast context of the training loop."""
    return torch.autocast(target_device.device().type, torch.bfloat16, enabled=precision == "bfloat16")


class OnceForAllSteps:
    """Steps of supernet training on one batch, for given draws of sub-networks.

    Attributes:
        shared: the step of this package.
        separate: the same objective, with a forward and a backward pass per sub-network.
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
        """Run one step per draw."""
        for i in range(len(self.draws)):
            with in_precision(self.precision):
                loss = self.objective(augmented(self.x, self.y, 0.0), i)
            _apply(loss, self.optimiser)

    def separate(self) -> None:
        """Run one step per draw, and sum the gradients of all passes like the published once-for-all code."""
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
    """A network that records the start time of the third step, and of the step a given number later."""

    WARM_UP = 2

    def __init__(self, network: Cnn10, steps: int):
        super().__init__(network, MultiLabel())
        self.steps, self.calls, self.began = steps, 0, []

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        if self.calls in (self.WARM_UP, self.WARM_UP + self.steps):
            target_device.wait()
            self.began.append(time.perf_counter())
        self.calls += 1
        return super().__call__(batch, iteration)

    @property
    def iterations(self) -> int:
        """Return the iterations to run."""
        return self.WARM_UP + self.steps + 1

    @property
    def seconds(self) -> float:
        """Return the seconds from the start of a step to the start of the next."""
        first, last = self.began
        return (last - first) / self.steps


def bare_and_loop(
    architecture: Cnn10Architecture, store: ClipStore, clips: int, steps: int, folder: Path
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return the seconds of a step on batches of a store, alone and in `training.loop.train`."""

    def start() -> tuple[_Clocked, Feed]:
        torch.manual_seed(0)
        network = Cnn10(architecture.num_classes, architecture.base_channels).train()
        return _Clocked(network.to(target_device.device()), steps), feed(store, clips)

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
    loss.item()  # like the loop, which reads every loss on a CPU and one of 20 on a GPU
