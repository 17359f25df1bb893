"""Batches of a store, and what a network predicts for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from audionas.data.store import ClipStore
from audionas.runtime.device import device_of, enough_memory
from audionas.runtime.ranks import current

_FULL_SCALE = 32_767  # of int16 waveforms, as the stage `resample` writes them


def as_float(rows: Tensor) -> Tensor:
    """Rows of a store as float32: features [batch, frames, mels] as they are, int16 waveforms in -1..1."""
    return rows.float() / _FULL_SCALE if rows.dtype == torch.int16 else rows.float()


def batches(store: ClipStore, batch_size: int, rows: np.ndarray | None = None) -> Iterator[Tensor]:
    """Batches of a store as float32, in order or of the given rows.

    Features are [up to batch_size, frames, mels], waveforms [up to batch_size, samples] in -1..1.
    """
    rows = np.arange(len(store)) if rows is None else rows
    for start in range(0, len(rows), batch_size):
        chosen = np.sort(rows[start : start + batch_size])  # a file is read fastest in order
        yield as_float(torch.from_numpy(np.asarray(store.data[chosen])))


def calibration_batches(store: ClipStore, batch_size: int, count: int, seed: int = 0) -> list[Tensor]:
    """At most `count` batches of training clips, drawn without replacement with a generator of their own."""
    rows = np.random.default_rng(seed).permutation(len(store))[: batch_size * count]
    return list(batches(store, batch_size, rows))


@torch.no_grad()
def predict(
    network: torch.nn.Module,
    store: ClipStore,
    batch_size: int = 64,
    activation: Callable[[Tensor], Tensor] = torch.sigmoid,
) -> np.ndarray:
    """Probabilities float32 [clips, classes] of a network in eval mode; batches are shared out over ranks.

    Args:
        activation: from logits to probabilities, `Task.activation`.
    """
    device, ranks = device_of(network), current()
    training = network.training
    network.eval()
    starts = ranks.share(range(0, len(store), batch_size))
    rows = np.arange(starts.start, min(starts.stop, len(store)))
    with scoring_memory(store, batch_size):
        outputs = [activation(network(x.to(device))).cpu().numpy() for x in batches(store, batch_size, rows)]
    network.train(training)
    return np.concatenate([batch for part in ranks.gather(outputs) for batch in part])


def scoring_memory(store: ClipStore, batch_size: int) -> AbstractContextManager[None]:
    """As `enough_memory`, for a pass over a store."""
    return enough_memory(f"scoring {store.path} in batches of {batch_size}", "lower training.batch_size")
