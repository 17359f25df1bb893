"""Training batches: drawn, augmented and held on the device that computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audionas.config import Augment, Training
from audionas.store import ClipStore
from audionas.training.augment import mixup, spec_augment

_SHARE = 0.5  # of the device's free memory that a split may take


@dataclass(frozen=True)
class Batch:
    """What a step learns from.

    Attributes:
        x: log-mel float32 [batch, frames, mels] in dB, mixed where the recipe asks for it.
        y: labels float32 [batch, classes], mixed alike.
        keep: SpecAugment's mask [batch, frames, mels], 0 where the input is dropped.
        rows: int64 [batch] of the store, for messages.
    """

    x: Tensor
    y: Tensor
    keep: Tensor
    rows: Tensor


class Feed:
    """Endless batches of one size; its position is part of a checkpoint.

    Draws come from torch's global generator of the device. The store is held on the device whole where it
    fits; else the next rows are read to pinned memory while the step computes.

    Args:
        store: log-mel of the training split.
        settings: batch size and sampler. A batch may span the end of an epoch.
        augment: SpecAugment's masks.
        mixup_alpha: of Beta(alpha, alpha); 0 for none.
        device: that computes.
        resident: hold the split on the device; by default where it fits. The CPU reads the memory map.
    """

    def __init__(
        self,
        store: ClipStore,
        settings: Training,
        augment: Augment,
        mixup_alpha: float = 0.0,
        device: torch.device | str = "cpu",
        resident: bool | None = None,
    ):
        self.store, self.augment, self.mixup_alpha = store, augment, mixup_alpha
        self.batch_size, self.device = settings.batch_size, torch.device(device)
        self.order = torch.empty(0, dtype=torch.int64, device=self.device)
        self.labels = torch.from_numpy(np.array(store.labels)).to(self.device)
        self._sampler = _Balanced(self.labels) if settings.sampler == "balanced" else _uniform
        self._data = None
        if self.device.type == "cuda" and (self._fits() if resident is None else resident):
            self._data = torch.from_numpy(np.array(store.data)).to(self.device)
        self._reader = ThreadPoolExecutor(1) if self._data is None and self.device.type == "cuda" else None
        self._ahead: Future | None = None

    def next(self) -> Batch:
        """The next batch."""
        rows = self._take()
        x, y = mixup(self._read(rows).float(), self.labels[rows].float(), self.mixup_alpha)
        return Batch(x, y, spec_augment(*x.shape, self.augment, self.device), rows)

    def clip_ids(self, rows: Tensor) -> list[str]:
        """Ids of a batch, for messages."""
        return [self.store.clip_ids[row] for row in rows.tolist()]

    def state_dict(self) -> dict[str, Tensor]:
        """What is left of the epoch."""
        return {"order": self.order.cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where `state_dict` was taken."""
        self.order, self._ahead = state["order"].to(self.device), None

    def _fits(self) -> bool:
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.store.data.nbytes < _SHARE * free

    def _take(self) -> Tensor:
        while len(self.order) < self.batch_size:
            self.order = torch.cat([self.order, self._sampler(len(self.store), self.device)])
        rows, self.order = self.order[: self.batch_size], self.order[self.batch_size :].clone()
        return rows

    def _read(self, rows: Tensor) -> Tensor:
        if self._data is not None:
            return self._data[rows]
        if self._reader is None:
            return torch.from_numpy(np.asarray(self.store.data[rows.numpy()]))
        here = self._ahead.result() if self._ahead else self._pinned(rows)
        following = self.order[: self.batch_size]
        # What comes after the end of an epoch is drawn when it is needed, so that a checkpoint holds it all.
        whole = len(following) == self.batch_size
        self._ahead = self._reader.submit(self._pinned, following) if whole else None
        return here.to(self.device, non_blocking=True)

    def _pinned(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.store.data[rows.cpu().numpy()]).pin_memory()


def _uniform(clips: int, device: torch.device) -> Tensor:
    """Every clip once, in a drawn order."""
    return torch.randperm(clips, device=device)


class _Balanced:
    """One clip of every class, in a drawn order: PANNs' balanced sampling (Kong et al., 2020, section IV-B1).

    PANNs goes through a class's clips in turn; here each is drawn anew, so that no class needs a position.
    """

    def __init__(self, labels: Tensor):
        classes, self._rows = labels.T.nonzero(as_tuple=True)
        self._kinds, self._counts = classes.unique(return_counts=True)
        self._starts = self._counts.cumsum(0) - self._counts

    def __call__(self, clips: int, device: torch.device) -> Tensor:
        order = torch.randperm(len(self._kinds), device=device)
        counts = self._counts[order]
        within = (torch.rand(len(order), device=device) * counts).long().clamp_max(counts - 1)
        return self._rows[self._starts[order] + within]
