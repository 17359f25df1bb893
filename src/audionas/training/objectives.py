"""What a training step minimises, one short class for each recipe.

Each maps a `Batch` and the iteration to a scalar loss; `network` is what is trained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from audionas.config import Distillation
from audionas.device import device_of
from audionas.models.cnn10 import Cnn10
from audionas.training.feed import Batch


class Supervised:
    """Binary cross-entropy with the labels (section 3.2)."""

    def __init__(self, network: Cnn10):
        self.network = network

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See the module."""
        return F.binary_cross_entropy_with_logits(self.network(batch.x, batch.keep), batch.y)


class Distilled:
    """Binary cross-entropy with the teacher's probabilities (equation 2) for one network."""

    def __init__(self, network: Cnn10, teacher: Cnn10, settings: Distillation):
        self.network, self.settings = network, settings
        self.teacher = teacher.eval().requires_grad_(False).to(device_of(network))

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See the module."""
        target = self.target(batch)
        outputs = list(self.outputs(batch.x, batch.keep, iteration))
        return sum(F.binary_cross_entropy_with_logits(z, target) for z in outputs) / len(outputs)

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """The teacher's probabilities, mixed with the labels where the parameters ask for it."""
        seen = batch.keep if self.settings.teacher_input == "augmented" else None
        soft = torch.sigmoid(self.teacher(batch.x, seen).float())
        # Cross-entropy is linear in its target, so mixing targets mixes the losses.
        return torch.lerp(soft, batch.y, self.settings.hard_label_weight)

    def outputs(self, x: Tensor, keep: Tensor, iteration: int):
        """Logits of all networks that learn in this step."""
        yield self.network(x, keep)
