"""Training batches, drawn epoch by epoch without replacement."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audionas.store import ClipStore


class Feed:
    """Endless batches of one size; its position is part of a checkpoint.

    Args:
        store: log-mel of the training split.
        batch_size: clips of a batch; a batch may span the end of an epoch.
    """

    def __init__(self, store: ClipStore, batch_size: int):
        self.store, self.batch_size = store, batch_size
        self.order = torch.empty(0, dtype=torch.int64)
        self.rows = self.order

    def next(self) -> tuple[Tensor, Tensor]:
        """Log-mel float32 [batch, frames, mels] and labels float32 [batch, classes]."""
        while len(self.order) < self.batch_size:
            self.order = torch.cat([self.order, torch.randperm(len(self.store))])
        self.rows, self.order = self.order[: self.batch_size], self.order[self.batch_size :].clone()
        rows = self.rows.numpy()
        x = torch.from_numpy(np.asarray(self.store.data[rows])).float()
        return x, torch.from_numpy(self.store.labels[rows]).float()

    def clip_ids(self) -> list[str]:
        """Ids of the last batch, for messages."""
        return [self.store.clip_ids[row] for row in self.rows.tolist()]

    def state_dict(self) -> dict[str, Tensor]:
        """What is left of the epoch."""
        return {"order": self.order}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where `state_dict` was taken."""
        self.order = state["order"]
