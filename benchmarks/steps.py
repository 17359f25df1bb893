"""Steps of training as closures; all that benchmarks know of the interfaces of `audionas.training`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audionas.config import Augment, Distillation, SupernetTraining, Training
from audionas.models import Cnn10, Supernet
from audionas.models.architecture import Architecture, Subnetwork
from audionas.search import SearchSpace
from audionas.store import ClipStore, write_store
from audionas.training.augment import draw_mixup, mix, spec_augment
from audionas.training.checkpoint import Checkpoint
from audionas.training.feed import Batch, Feed
from audionas.training.loop import train
from audionas.training.objectives import Supervised
from audionas.training.once_for_all import OnceForAll

Step = Callable[[], None]


def made(clips: int, frames: int, classes: int) -> tuple[Tensor, Tensor]:
    """Log-mel [clips, frames, 64] in dB and labels [clips, classes] of made clips."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(clips, frames, 64, generator=rng) * 10 - 40
    return x, (torch.rand(clips, classes, generator=rng) < 2 / classes).float()


@contextmanager
def made_store(clips: int, frames: int, classes: int):
    """A ClipStore of made clips, on disk."""
    x, y = made(clips, frames, classes)
    y[:, 0] = 1
    with TemporaryDirectory() as folder:
        path = Path(folder, "logmel.h5")
        names = [*map(str, range(max(clips, classes)))]
        data = x.numpy().astype(np.float16)
        write_store(path, names[:clips], y.byte().numpy(), data, classes=names[:classes], settings={})
        yield ClipStore(path)


def feed(store: ClipStore, clips: int) -> Feed:
    """The package's batches."""
    return Feed(store, Training(batch_size=clips), Augment(), 1.0)


def augmented(x: Tensor, y: Tensor, mixup_alpha: float = 1.0) -> Batch:
    """A batch as the feed gives it, without the reading."""
    if mixup_alpha:
        share, partner = draw_mixup(len(x), mixup_alpha)
        x, y = mix(x, x[partner], share), mix(y, y[partner], share)
    return Batch(x, y, spec_augment(*x.shape, Augment()), torch.arange(len(x)))


def supervised(architecture: Architecture, x: Tensor, y: Tensor) -> Step:
    """The teacher's step: mixup, SpecAugment, binary cross-entropy, Adam."""
    network = Cnn10(architecture.num_classes, architecture.base_channels).train()
    objective = Supervised(network)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)

    def run() -> None:
        _apply(objective(augmented(x, y), 0), optimiser)

    return run


class OnceForAllSteps:
    """Steps of supernet training on one batch, for given draws of sub-networks.

    Attributes:
        shared: the package's step.
        separate: the same objective, a forward and a backward pass for each sub-network.
    """

    def __init__(
        self, architecture: Architecture, draws: list[list[Subnetwork]], x: Tensor, y: Tensor, seed: int = 0
    ):
        torch.manual_seed(seed)
        self.supernet, self.draws, self.x, self.y = Supernet(architecture).train(), draws, x, y
        teacher = Cnn10(architecture.num_classes, architecture.base_channels)
        self.objective = OnceForAll(
            self.supernet,
            teacher,
            Distillation(),
            SearchSpace("2-2-x", architecture),
            SupernetTraining(largest_iterations=0, sampled_iterations=1),
        )
        self.objective.sample = lambda iteration: self.draws[iteration]
        self.optimiser = torch.optim.Adam(self.supernet.parameters(), lr=1e-3)

    def shared(self) -> None:
        """One step for each draw."""
        for i in range(len(self.draws)):
            _apply(self.objective(augmented(self.x, self.y, 0.0), i), self.optimiser)

    def separate(self) -> None:
        """One step for each draw; gradients of the passes are summed, as once-for-all's own code does."""
        for draw in self.draws:
            batch = augmented(self.x, self.y, 0.0)
            target = self.objective.target(batch)
            self.optimiser.zero_grad(set_to_none=True)
            for subnetwork in draw:
                logits = self.supernet(batch.x, batch.keep, subnetwork)
                loss = F.binary_cross_entropy_with_logits(logits, target) / len(draw)
                loss.backward()
                loss.item()
            self.optimiser.step()


def bare_and_loop(
    architecture: Architecture, store: ClipStore, clips: int, folder: Path
) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """So many steps on a store's batches, without the loop and by `training.loop.train`."""

    def start() -> tuple[Supervised, Feed]:
        torch.manual_seed(0)
        network = Cnn10(architecture.num_classes, architecture.base_channels).train()
        return Supervised(network), feed(store, clips)

    def bare(iterations: int) -> None:
        objective, batches = start()
        optimiser = torch.optim.Adam(objective.network.parameters(), lr=1e-3)
        for i in range(iterations):
            _apply(objective(batches.batch(i), i), optimiser)

    def loop(iterations: int) -> None:
        objective, batches = start()
        train(
            objective,
            batches,
            iterations=iterations,
            settings=Training(batch_size=clips),
            learning_rate=1e-3,
            checkpoint=Checkpoint("loop", "0", folder),
            curves=folder / "curves",
            validate=lambda network: {},
            description="loop",
        )

    return bare, loop


def _apply(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    loss.item()  # as the loop, which looks at every loss
