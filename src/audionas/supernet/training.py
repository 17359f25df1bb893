"""What a step of supernet training minimises (section 2.3 of the paper), and which sub-networks learn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audionas.data.store import ClipStore
from audionas.models.cnn10 import Cnn10
from audionas.search.cnn10 import LARGEST, Cnn10Space, Cnn10Subnetwork
from audionas.settings.training import Distillation, SupernetTraining
from audionas.supernet.cnn10 import Cnn10Supernet
from audionas.supernet.sorting import sort_channels
from audionas.training.feed import Batch
from audionas.training.objectives import Distilled, compiled


class OnceForAll(Distilled):
    """The supernet (section 2.3): the largest network first, then sampled ones, k a step.

    Args:
        seed: of the sub-networks' draws.
        store, batch_size: as in `Distilled`.
    """

    network: Cnn10Supernet

    def __init__(
        self,
        network: Cnn10Supernet,
        teacher: Cnn10,
        settings: Distillation,
        space: Cnn10Space,
        schedule: SupernetTraining,
        *,
        seed: int = 0,
        store: ClipStore | None = None,
        batch_size: int = 64,
    ):
        super().__init__(network, teacher, settings, store, batch_size)
        self.space, self.schedule, self.seed = space, schedule, seed
        self._draw = {"uniform": uniform, "sandwich": sandwich}[schedule.sampling]

    def compile(self) -> None:
        """Only the teacher: of sub-networks there are hundreds, and each would be a graph of its own."""
        self.teach = compiled(self.teacher)

    def begin(self, iteration: int, companions: Iterable[tuple[str, Tensor]]) -> None:
        """Sort the channels where the sampled phase begins, if the parameters ask for it.

        Adam's moments move with their weights: the step after is the one that the largest network would have
        taken, where fresh moments would take a step of full length in every weight.
        """
        if self.schedule.sort_channels and iteration == self.schedule.largest_iterations:
            sort_channels(self.network, companions)

    def outputs(self, x: Tensor, keep: Tensor, iteration: int) -> Iterator[Tensor]:
        """Logits of this step's sub-networks, their common beginnings computed once."""
        for _, logits in self.network.outputs(x, self.sample(iteration), keep=keep):
            yield logits

    def sample(self, iteration: int) -> list[Cnn10Subnetwork]:
        """The sub-networks of one step: a function of seed and iteration, the same in every process."""
        if iteration < self.schedule.largest_iterations:
            return [LARGEST]
        generator = np.random.default_rng((self.seed, iteration))
        return self._draw(self.space, self.schedule.networks_per_step, generator)


class InPlace(OnceForAll):
    """In-place distillation (BigNAS, Yu et al., 2020; AlphaNet, Wang et al., 2021).

    The largest network learns from the teacher, the others from what the largest says in this same step.
    Labels, where they have a weight, reach the others through the largest only.
    """

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See `Objective`."""
        outputs = list(self.network.outputs(batch.x, self.sample(iteration), keep=batch.keep))
        target = self.target(batch)
        soft = torch.sigmoid(dict(outputs)[LARGEST].detach().to(target.dtype))
        losses = [
            F.binary_cross_entropy_with_logits(z, target if subnetwork == LARGEST else soft)
            for subnetwork, z in outputs
        ]
        return sum(losses) / len(losses)


def uniform(space: Cnn10Space, count: int, generator: np.random.Generator) -> list[Cnn10Subnetwork]:
    """Sub-networks drawn independently, each as likely as any other (the paper; Once-for-all)."""
    return [space.subnetworks[i] for i in generator.integers(len(space), size=count)]


def sandwich(space: Cnn10Space, count: int, generator: np.random.Generator) -> list[Cnn10Subnetwork]:
    """The sandwich rule (Yu and Huang, 2019; BigNAS, Yu et al., 2020): both ends, and the rest uniformly."""
    return [LARGEST, space.smallest, *uniform(space, count - 2, generator)]
