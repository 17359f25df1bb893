"""Training objectives of a supernet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor, nn

from audionas.data.store import ClipStore
from audionas.search.space import Configuration, FiniteSpace
from audionas.settings.training import Distillation, SupernetTraining
from audionas.supernet.base import Supernet
from audionas.supernet.sampling import RULES
from audionas.supernet.sorting import sort_channels
from audionas.tasks import Task
from audionas.training.feed import Batch
from audionas.training.objectives.base import compiled
from audionas.training.objectives.distillation import Distilled


class OnceForAll(Distilled):
    """Distillation of the largest sub-network, then of k sampled ones per step (OFA-AEC, section 2.3).

    Args:
        network: supernet to train.
        task, teacher, settings, store, batch_size: as in `Distilled`.
        space: search space of the sub-networks.
        schedule: iterations of both phases, sampling rule and k.
        seed: seed of the sub-network draws.
    """

    network: Supernet

    def __init__(
        self,
        network: Supernet[Configuration],
        task: Task,
        teacher: nn.Module,
        settings: Distillation,
        space: FiniteSpace[Configuration],
        schedule: SupernetTraining,
        *,
        seed: int = 0,
        store: ClipStore | None = None,
        batch_size: int = 64,
    ):
        super().__init__(network, task, teacher, settings, store, batch_size)
        self.space, self.schedule, self.seed = space, schedule, seed
        self._draw = RULES[schedule.sampling]

    def compile(self) -> None:
        """Compile only the teacher, because each of hundreds of sub-networks would need a separate graph."""
        self.teacher_forward = compiled(self.teacher)

    def begin(self, iteration: int, companions: Iterable[tuple[str, Tensor]]) -> None:
        """Sort the channels at the start of the sampled phase, if `supernet.sort_channels` is set.

        Adam's moments are permuted with their weights, so that sorting does not change the next step of the
        largest network. Reset moments would change every weight by a full learning-rate step.
        """
        if self.schedule.sort_channels and iteration == self.schedule.largest_iterations:
            sort_channels(self.network, companions)

    def outputs(self, x: Tensor, keep: Tensor | None, iteration: int) -> Iterator[Tensor]:
        """Yield logits [batch, classes] of this step's sub-networks. Common prefixes are computed once."""
        for _, logits in self.network.outputs(x, self.sample(iteration), keep=keep):
            yield logits

    def sample(self, iteration: int) -> list[Configuration]:
        """Return the sub-networks of one step. They depend only on seed and iteration, so all ranks agree."""
        if iteration < self.schedule.largest_iterations:
            return [self.space.largest]
        generator = np.random.default_rng((self.seed, iteration))
        return self._draw(self.space, self.schedule.networks_per_step, generator)


class InPlace(OnceForAll):
    """In-place distillation (BigNAS, Yu et al., 2020; AlphaNet, Wang et al., 2021).

    The largest sub-network learns from the teacher, and the others learn from its outputs in the same step.
    Only the largest sub-network uses labels, if `distillation.hard_label_weight` is above 0.
    """

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See `Objective`."""
        outputs = list(self.network.outputs(batch.x, self.sample(iteration), keep=batch.keep))
        target = self.target(batch)
        largest = self.space.largest
        soft = self.task.activation(dict(outputs)[largest].detach().to(target.dtype))
        losses = [
            self.task.loss(logits, target if subnetwork == largest else soft)
            for subnetwork, logits in outputs
        ]
        return sum(losses) / len(losses)
