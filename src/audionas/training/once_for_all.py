"""What a step of supernet training minimises (section 2.3 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor

from audionas.config import Distillation, SupernetTraining
from audionas.models.architecture import LARGEST, Subnetwork
from audionas.models.cnn10 import Cnn10
from audionas.models.supernet import Supernet
from audionas.search.space import SearchSpace
from audionas.training.objectives import Distilled


class OnceForAll(Distilled):
    """The supernet (section 2.3): the largest network first, then uniformly sampled ones, k a step."""

    network: Supernet

    def __init__(
        self,
        network: Supernet,
        teacher: Cnn10,
        settings: Distillation,
        space: SearchSpace,
        schedule: SupernetTraining,
    ):
        super().__init__(network, teacher, settings)
        self.space, self.schedule = space, schedule

    def outputs(self, x: Tensor, keep: Tensor, iteration: int):
        """Logits of this step's sub-networks, their common beginnings computed once."""
        for _, logits in self.network.outputs(x, self.sample(iteration), keep=keep):
            yield logits

    def sample(self, iteration: int) -> list[Subnetwork]:
        """The sub-networks of one step."""
        if iteration < self.schedule.largest_iterations:
            return [LARGEST]
        chosen = torch.randint(len(self.space), (self.schedule.networks_per_step,))
        return [self.space.subnetworks[i] for i in chosen.tolist()]
