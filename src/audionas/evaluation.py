"""Predictions and their mean average precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audionas.device import device_of, enough_memory
from audionas.errors import os_error
from audionas.filearray import Descriptor, FileArray
from audionas.ranks import current
from audionas.store import ClipStore


def batches(store: ClipStore, batch_size: int, rows: np.ndarray | None = None) -> Iterator[Tensor]:
    """Log-mel batches [up to batch_size, frames, mels] as float32, in order or of the given rows."""
    rows = np.arange(len(store)) if rows is None else rows
    for start in range(0, len(rows), batch_size):
        chosen = np.sort(rows[start : start + batch_size])  # a file is read fastest in order
        yield torch.from_numpy(np.asarray(store.data[chosen])).float()


def calibration_batches(store: ClipStore, batch_size: int, count: int, seed: int = 0) -> list[Tensor]:
    """At most `count` batches of training clips, drawn without replacement with a generator of their own."""
    rows = np.random.default_rng(seed).permutation(len(store))[: batch_size * count]
    return list(batches(store, batch_size, rows))


@torch.no_grad()
def predict(network: torch.nn.Module, store: ClipStore, batch_size: int = 64) -> np.ndarray:
    """Probabilities float32 [clips, classes] of a network in eval mode; batches are shared out over ranks."""
    device, ranks = device_of(network), current()
    training = network.training
    network.eval()
    starts = ranks.share(range(0, len(store), batch_size))
    rows = np.arange(starts.start, min(starts.stop, len(store)))
    with _enough_memory(store, batch_size):
        outputs = [
            torch.sigmoid(network(x.to(device))).cpu().numpy() for x in batches(store, batch_size, rows)
        ]
    network.train(training)
    return np.concatenate([batch for part in ranks.gather(outputs) for batch in part])


class _Scores(FileArray):
    """In an unnamed file of this folder: 31 GB for the paper's largest space, too much for memory.

    Args:
        shape: [sub-networks, clips, classes].
    """

    def __init__(self, shape: tuple[int, int, int]):
        try:
            super().__init__(Descriptor.unnamed(Path()), 0, shape, np.float32)
            self.allocate()
        except OSError as error:
            raise os_error(error, Path.cwd()) from error

    def put(self, rows, start: int, values: np.ndarray) -> None:
        """Scores [rows, clips, classes] of the clips from `start` on."""
        at = start * self.shape[2] * self.dtype.itemsize
        try:
            for row, scores in zip(rows, values, strict=True):
                self.write(row * self.row_bytes + at, scores)
        except OSError as error:
            raise os_error(error, self.file.path.absolute()) from error


@torch.no_grad()
def predict_all(
    supernet, subnetworks, statistics, store: ClipStore, batch_size: int = 64, bar=None
) -> FileArray:
    """Probabilities float32 [sub-networks, clips, classes], what sub-networks share computed once.

    Those of one batch are held at once: 69 MB for the paper's largest space and batch.

    Args:
        supernet, subnetworks, statistics: as `Supernet.outputs` takes them; the supernet in eval mode.
        bar: a tqdm bar that counts the clips.

    Raises:
        UserError: the disk of this folder has no room for all of them, which is known before the first.
    """
    device = device_of(supernet)
    index = {subnetwork: i for i, subnetwork in enumerate(subnetworks)}
    scores = _Scores((len(index), *store.labels.shape))
    start = 0
    for x in batches(store, batch_size):
        with _enough_memory(store, batch_size):
            outputs = dict(supernet.outputs(x.to(device), subnetworks, statistics=statistics))
            rows = [index[subnetwork] for subnetwork in outputs]
            # A copy waits for the GPU: one a batch, not one a sub-network.
            probabilities = torch.stack([logits.sigmoid() for logits in outputs.values()]).cpu()
        scores.put(rows, start, probabilities.numpy())
        start += len(x)
        if bar is not None:
            bar.update(len(x))
    return scores


def _enough_memory(store: ClipStore, batch_size: int) -> AbstractContextManager[None]:
    return enough_memory(f"scoring {store.path} in batches of {batch_size}", "lower training.batch_size")


def measurable(labels: np.ndarray) -> np.ndarray:
    """Which classes of labels 0 or 1 [clips, classes] have a positive and a negative clip: bool [classes].

    Without a positive there is no average precision, and without a negative it is 1 whatever the scores.
    """
    positive = np.asarray(labels) != 0
    return positive.any(axis=0) & ~positive.all(axis=0)


def average_precisions(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision of each class, as scikit-learn computes it; NaN for a class not `measurable`.

    Args:
        labels: 0 or 1 [clips, classes].
        scores: finite scores [clips, classes], of any scale; equal scores count as one threshold.

    Returns:
        float64 [classes].

    Raises:
        ValueError: shapes that differ, or scores that are not finite.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.shape != scores.shape or labels.ndim != 2:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} must be one shape [clips, classes]"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores hold values that are not finite; the network has diverged")
    n = len(labels)
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    hits = np.take_along_axis(labels, order, axis=0).astype(np.float64)
    precision = hits.cumsum(axis=0) / np.arange(1, n + 1)[:, None]
    # A hit counts with the precision at the end of its run of equal scores.
    ends = np.where(
        np.vstack([ranked[1:] != ranked[:-1], np.ones((1, labels.shape[1]), bool)]), np.arange(n)[:, None], n
    )
    end_of_run = np.minimum.accumulate(ends[::-1], axis=0)[::-1]
    total = np.where(measurable(labels), hits.sum(axis=0), np.nan)
    return (hits * np.take_along_axis(precision, end_of_run, axis=0)).sum(axis=0) / total


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Macro mean of `average_precisions` over the classes that are `measurable`; NaN where none is."""
    values = average_precisions(labels, scores)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
