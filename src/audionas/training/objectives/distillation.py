"""Knowledge distillation: training on a teacher's probabilities (Hinton et al., 2015)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from audionas.data.store import ClipStore
from audionas.evaluation.prediction import predict
from audionas.runtime.device import device_of
from audionas.settings.training import Distillation
from audionas.tasks import Task
from audionas.training.feed import Batch
from audionas.training.objectives.base import Objective, compiled


class Distilled(Objective):
    """The task's loss with the teacher's probabilities for one network.

    For several labels that is binary cross-entropy (equation 2 of once-for-all, `reference/ofa-aec.md`). With
    `teacher_input` stored, the teacher's outputs for every clip as it is are computed once, before the first
    step; they do not follow the student's augmentation. (Shen and Xing, 2022, store those of every crop.)

    Args:
        task: of both networks.
        teacher: whose weights stay as they are.
        store: the training split; needed for `teacher_input` stored, and only for that.
        batch_size: of the teacher's pass over it.

    Raises:
        ValueError: stored without a store.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        teacher: nn.Module,
        settings: Distillation,
        store: ClipStore | None = None,
        batch_size: int = 64,
    ):
        super().__init__(network, task)
        self.settings = settings
        self.teacher = teacher.eval().requires_grad_(False).to(device_of(network))
        self.teacher_forward: Callable[..., Tensor] = self.teacher
        self.stored: Tensor | None = None  # the teacher's probabilities [clips, classes]
        if settings.teacher_input == "stored":
            if store is None:
                raise ValueError("distillation.teacher_input stored needs the store of the training split")
            probabilities = predict(self.teacher, store, batch_size, task.activation)
            self.stored = torch.from_numpy(probabilities).to(device_of(network))
            self.allows_mixup = False  # a stored target belongs to one clip

    def compile(self) -> None:
        """See `Objective`; the teacher too."""
        super().compile()
        self.teacher_forward = compiled(self.teacher)

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See `Objective`."""
        target = self.target(batch)
        outputs = list(self.outputs(batch.x, batch.keep, iteration))
        return sum(self.task.loss(logits, target) for logits in outputs) / len(outputs)

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """The teacher's probabilities, mixed with the labels where the parameters ask for it."""
        if self.stored is not None:
            soft = self.stored[batch.rows]
        else:
            keep = batch.keep if self.settings.teacher_input == "augmented" else None
            soft = self.task.activation(self.teacher_forward(batch.x, keep).to(batch.y.dtype))
        # Cross-entropy is linear in its target, so mixing targets mixes the losses.
        return torch.lerp(soft, batch.y, self.settings.hard_label_weight)

    def outputs(self, x: Tensor, keep: Tensor | None, iteration: int) -> Iterator[Tensor]:
        """Logits of all networks that learn in this step."""
        yield self.forward(x, keep)
