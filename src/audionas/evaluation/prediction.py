"""Batches of a store, and predictions of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from audionas.data.store import ClipStore
from audionas.runtime.device import device_of, enough_memory
from audionas.runtime.ranks import current

_FULL_SCALE = 32_767  # of the int16 waveforms that the stage `resample` writes


def as_float(rows: Tensor) -> Tensor:
    """Convert rows of a store to float32. Features do not change; int16 waveforms are scaled to -1..1."""
    return rows.float() / _FULL_SCALE if rows.dtype == torch.int16 else rows.float()


def batches(store: ClipStore, batch_size: int, rows: np.ndarray | None = None) -> Iterator[Tensor]:
    """Iterate over a store in float32 batches.

    Args:
        store: features or waveforms.
        batch_size: clips per batch; the last batch may be smaller.
        rows: row numbers [n]; by default all rows in order.

    Yields:
        Features [batch, frames, mels], or waveforms [batch, samples] in -1..1.
    """
    rows = np.arange(len(store)) if rows is None else rows
    for start in range(0, len(rows), batch_size):
        chosen = np.sort(rows[start : start + batch_size])  # sequential reads are fastest
        yield as_float(torch.from_numpy(np.asarray(store.data[chosen])))


def calibration_batches(store: ClipStore, batch_size: int, count: int, seed: int = 0) -> list[Tensor]:
    """Return at most `count` batches of clips, drawn without replacement with a separate random generator."""
    rows = np.random.default_rng(seed).permutation(len(store))[: batch_size * count]
    return list(batches(store, batch_size, rows))


@torch.no_grad()
def predict(
    network: torch.nn.Module,
    store: ClipStore,
    batch_size: int = 64,
    activation: Callable[[Tensor], Tensor] = torch.sigmoid,
) -> np.ndarray:
    """Return the probabilities, float32 [clips, classes], of a network in eval mode.

    The batches are distributed over the ranks. Every rank returns the probabilities of all clips.

    Args:
        network: maps a batch to logits [batch, classes].
        store: features or waveforms of the split.
        batch_size: clips per batch.
        activation: maps logits to probabilities; `Task.activation`.

    Raises:
        UserError: the device memory is too small.
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
    """Return `enough_memory` for a pass over a store."""
    return enough_memory(f"scoring {store.path} in batches of {batch_size}", "lower training.batch_size")
