"""What a training step minimises, one short class for each recipe.

Each maps a batch, x [batch, frames, mels] and y [batch, classes], and the iteration to a scalar loss;
`network` is what is trained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from audionas.config import Augment, Distillation
from audionas.device import device_of
from audionas.models.cnn10 import Cnn10
from audionas.training.augment import mixup, spec_augment


class Supervised:
    """Binary cross-entropy with the labels, mixup and SpecAugment (section 3.2; mixup_alpha 0 for none)."""

    def __init__(self, network: Cnn10, augment: Augment, mixup_alpha: float = 0.0):
        self.network, self.augment, self.mixup_alpha = network, augment, mixup_alpha

    def __call__(self, x: Tensor, y: Tensor, iteration: int) -> Tensor:
        """See the module."""
        x, y = mixup(x, y, self.mixup_alpha)
        keep = spec_augment(*x.shape, self.augment)
        device = device_of(self.network)
        logits = self.network(x.to(device), keep.to(device))
        return F.binary_cross_entropy_with_logits(logits, y.to(device))


class Distilled:
    """Binary cross-entropy with the teacher's probabilities (equation 2) for one network."""

    def __init__(self, network: Cnn10, teacher: Cnn10, augment: Augment, settings: Distillation):
        self.network, self.augment, self.settings = network, augment, settings
        self.teacher = teacher.eval().requires_grad_(False).to(device_of(network))

    def __call__(self, x: Tensor, y: Tensor, iteration: int) -> Tensor:
        """See the module."""
        keep = spec_augment(*x.shape, self.augment)
        device = device_of(self.network)
        x, y, keep = x.to(device), y.to(device), keep.to(device)
        target = self.target(x, y, keep)
        outputs = list(self.outputs(x, keep, iteration))
        return sum(F.binary_cross_entropy_with_logits(z, target) for z in outputs) / len(outputs)

    @torch.no_grad()
    def target(self, x: Tensor, y: Tensor, keep: Tensor) -> Tensor:
        """The teacher's probabilities, mixed with the labels where the parameters ask for it."""
        seen = keep if self.settings.teacher_input == "augmented" else None
        soft = torch.sigmoid(self.teacher(x, seen))
        # Cross-entropy is linear in its target, so mixing targets mixes the losses.
        return torch.lerp(soft, y, self.settings.hard_label_weight)

    def outputs(self, x: Tensor, keep: Tensor, iteration: int):
        """Logits of all networks that learn in this step."""
        yield self.network(x, keep)
