"""Knowledge distillation: training on the probabilities of a teacher (Hinton et al., 2015)."""

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
    """The loss of the task, with the teacher's probabilities as target.

    For multi-label tasks this is binary cross-entropy (equation 2 of the OFA-AEC paper). If
    `teacher_input` is stored, the teacher's outputs for all clips are computed once, without augmentation.
    (Shen and Xing, 2022, store the outputs of every crop instead.)

    Args:
        network: student network.
        task: task of both networks.
        teacher: teacher network; its weights are frozen.
        settings: input of the teacher and weight of the labels.
        store: training split; only used if `teacher_input` is stored.
        batch_size: batch size of the teacher's pass over the store.

    Raises:
        ValueError: `teacher_input` is stored and there is no store.
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
        self.stored: Tensor | None = None  # teacher probabilities [clips, classes]
        if settings.teacher_input == "stored":
            if store is None:
                raise ValueError("distillation.teacher_input stored needs the store of the training split")
            probabilities = predict(self.teacher, store, batch_size, task.activation)
            self.stored = torch.from_numpy(probabilities).to(device_of(network))
            self.allows_mixup = False  # each stored target belongs to one unmixed clip

    def compile(self) -> None:
        """See `Objective`. Compiles the teacher as well."""
        super().compile()
        self.teacher_forward = compiled(self.teacher)

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See `Objective`."""
        target = self.target(batch)
        outputs = list(self.outputs(batch.x, batch.keep, iteration))
        return sum(self.task.loss(logits, target) for logits in outputs) / len(outputs)

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """Return the target [batch, classes]: teacher probabilities, interpolated with the labels."""
        if self.stored is not None:
            soft = self.stored[batch.rows]
        else:
            keep = batch.keep if self.settings.teacher_input == "augmented" else None
            soft = self.task.activation(self.teacher_forward(batch.x, keep).to(batch.y.dtype))
        # Cross-entropy is linear in its target, so mixing targets mixes the losses.
        return torch.lerp(soft, batch.y, self.settings.hard_label_weight)

    def outputs(self, x: Tensor, keep: Tensor | None, iteration: int) -> Iterator[Tensor]:
        """Yield the logits [batch, classes] of each network that is trained in this step."""
        yield self.forward(x, keep)
