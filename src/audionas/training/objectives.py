"""What a training step minimises, one short class for each recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audionas.data.store import ClipStore
from audionas.evaluation.prediction import predict
from audionas.models.cnn10 import Cnn10
from audionas.runtime.device import device_of
from audionas.settings.training import Distillation
from audionas.training.feed import Batch


class Objective:
    """Maps a `Batch` and the iteration to a scalar loss.

    Attributes:
        network: what is trained. forward: it, or its compiled form, as a step calls it.
        by_rows: looks clips up by their rows, so that batches must not be mixed.
    """

    by_rows = False

    def __init__(self, network: Cnn10):
        self.network = network
        self.forward: Callable[..., Tensor] = network

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See the class."""
        raise NotImplementedError

    def compile(self) -> None:
        """Compile what a step runs in one static form: one graph a network, whose shapes never change.

        Validation, whose batches are of other sizes, runs uncompiled.
        """
        self.forward = compiled(self.network)

    def begin(self, iteration: int, companions: Iterable[tuple[str, Tensor]]) -> None:
        """Called before the batch of every iteration; may rearrange the network, and its companions alike.

        Args:
            companions: names of parameters, and tensors that belong to them element by element.
        """


class Supervised(Objective):
    """Binary cross-entropy with the labels (section 3.2)."""

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See `Objective`."""
        return F.binary_cross_entropy_with_logits(self.forward(batch.x, batch.keep), batch.y)


class Distilled(Objective):
    """Binary cross-entropy with the teacher's probabilities (equation 2) for one network.

    With `teacher_input` stored, the teacher speaks once of every clip as it is, before the first step, at the
    price of not seeing the student's augmentation. (Shen and Xing, 2022, store what it says to every crop.)

    Args:
        teacher: whose weights stay as they are.
        store: log-mel of the training split; needed for `teacher_input` stored, and only for that.
        batch_size: of the teacher's pass over it.

    Raises:
        ValueError: stored without a store.
    """

    def __init__(
        self,
        network: Cnn10,
        teacher: Cnn10,
        settings: Distillation,
        store: ClipStore | None = None,
        batch_size: int = 64,
    ):
        super().__init__(network)
        self.settings = settings
        self.teacher = teacher.eval().requires_grad_(False).to(device_of(network))
        self.teach: Callable[..., Tensor] = self.teacher
        self.by_rows = settings.teacher_input == "stored"
        if self.by_rows:
            if store is None:
                raise ValueError("distillation.teacher_input stored needs the store of the training split")
            self.stored = torch.from_numpy(predict(self.teacher, store, batch_size)).to(device_of(network))

    def compile(self) -> None:
        """See `Objective`; the teacher too."""
        super().compile()
        self.teach = compiled(self.teacher)

    def __call__(self, batch: Batch, iteration: int) -> Tensor:
        """See `Objective`."""
        target = self.target(batch)
        outputs = list(self.outputs(batch.x, batch.keep, iteration))
        return sum(F.binary_cross_entropy_with_logits(z, target) for z in outputs) / len(outputs)

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """The teacher's probabilities, mixed with the labels where the parameters ask for it."""
        if self.by_rows:
            soft = self.stored[batch.rows]
        else:
            seen = batch.keep if self.settings.teacher_input == "augmented" else None
            soft = torch.sigmoid(self.teach(batch.x, seen).to(batch.y.dtype))
        # Cross-entropy is linear in its target, so mixing targets mixes the losses.
        return torch.lerp(soft, batch.y, self.settings.hard_label_weight)

    def outputs(self, x: Tensor, keep: Tensor, iteration: int) -> Iterator[Tensor]:
        """Logits of all networks that learn in this step."""
        yield self.forward(x, keep)


def compiled(network: nn.Module) -> Callable[..., Tensor]:
    """The network by torch.compile, in one graph: what cannot be compiled is an error, not a slow step."""
    return torch.compile(network, fullgraph=True, dynamic=False)
