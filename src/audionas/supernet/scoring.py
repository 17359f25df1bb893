"""Scores of all sub-networks, computed in one pass with shared prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from audionas.data.store import ClipStore
from audionas.evaluation.prediction import batches, scoring_memory
from audionas.runtime.device import device_of
from audionas.runtime.errors import os_error
from audionas.runtime.filearray import Descriptor, FileArray
from audionas.runtime.ranks import current
from audionas.search.space import Configuration, FiniteSpace
from audionas.search.tables import space_table
from audionas.supernet.base import Supernet
from audionas.supernet.calibration import calibrate_all
from audionas.supernet.statistics import NormStatistics
from audionas.tasks import MULTI_LABEL, Task


class _Scores(FileArray):
    """Probabilities in an unnamed temporary file: 31 GB for the largest space of OFA-AEC.

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
        """Write scores [rows, clips, classes] of consecutive clips, the first of which is `start`."""
        at = start * self.shape[2] * self.dtype.itemsize
        try:
            for row, scores in zip(rows, values, strict=True):
                self.write(row * self.row_bytes + at, scores)
        except OSError as error:
            raise os_error(error, self.file.path.absolute()) from error


@torch.no_grad()
def predict_all(
    supernet: Supernet[Configuration],
    subnetworks: Sequence[Configuration],
    statistics: NormStatistics,
    store: ClipStore,
    batch_size: int = 64,
    bar: tqdm | None = None,
    task: Task = MULTI_LABEL,
) -> FileArray:
    """Return probabilities, float32 [sub-networks, clips, classes]. Common prefixes are computed once.

    Only the probabilities of one batch are in memory: 69 MB for the largest space and batch of OFA-AEC.

    Args:
        supernet: supernet in eval mode.
        subnetworks: sub-networks to run.
        statistics: BatchNorm statistics of all sub-networks, from `calibrate_all`.
        store: features of the split.
        batch_size: clips per batch.
        bar: progress bar that counts clips.
        task: its activation gives the probabilities.

    Raises:
        UserError: the disk is too small for all probabilities; raised before the computation starts.
    """
    device = device_of(supernet)
    index = {subnetwork: i for i, subnetwork in enumerate(subnetworks)}
    scores = _Scores((len(index), *store.labels.shape))
    start = 0
    for x in batches(store, batch_size):
        with scoring_memory(store, batch_size):
            outputs = dict(supernet.outputs(x.to(device), subnetworks, statistics=statistics))
            rows = [index[subnetwork] for subnetwork in outputs]
            # Each copy synchronises with the GPU, so there is one copy per batch.
            probabilities = torch.stack([task.activation(logits) for logits in outputs.values()]).cpu()
        scores.put(rows, start, probabilities.numpy())
        start += len(x)
        if bar is not None:
            bar.update(len(x))
    return scores


def score(
    supernet: Supernet[Configuration],
    subnetworks: Sequence[Configuration],
    calibration: list[Tensor],
    store: ClipStore,
    batch_size: int = 64,
    progress: bool = False,
    task: Task = MULTI_LABEL,
) -> tuple[list[float], NormStatistics]:
    """Return the metric of each sub-network, by default mean average precision, and their statistics.

    Common prefixes run once. The outputs equal those of extracted and calibrated networks. The sub-networks
    are distributed over the ranks; those with common prefixes go to the same rank.

    Args:
        supernet: trained supernet.
        subnetworks: sub-networks to score.
        calibration: batches [batch, frames, mels] of training clips for the BatchNorm statistics.
        store: log-mel spectrograms of the split to score on.
        batch_size: clips per batch.
        progress: show progress bars.
        task: its metric is computed.

    Returns:
        The metrics of all sub-networks, on every rank; the BatchNorm statistics of this rank's sub-networks.
    """
    ranks = current()
    supernet.eval()
    own = ranks.share(sorted(subnetworks, key=supernet.prefix))
    hidden = not (progress and ranks.first)
    statistics = NormStatistics()
    if own:
        batches = tqdm(calibration, desc="calibrate", unit="batch", disable=hidden)
        statistics = calibrate_all(supernet, own, batches)
        title = f"score {len(subnetworks)} sub-networks"
        with tqdm(total=len(store), desc=title, unit="clips", disable=hidden) as bar:
            scores = predict_all(supernet, own, statistics, store, batch_size, bar, task)
        own = [(subnetwork, task.metric(store.labels, s)) for subnetwork, s in zip(own, scores, strict=True)]
    values = dict(pair for part in ranks.gather(own) for pair in part)
    return [values[subnetwork] for subnetwork in subnetworks], statistics


def score_space(
    supernet: Supernet[Configuration],
    space: FiniteSpace[Configuration],
    calibration: list[Tensor],
    valid: ClipStore,
    batch_size: int = 64,
    name: str = "",
) -> tuple[pd.DataFrame, NormStatistics]:
    """Score every sub-network of a space.

    Returns:
        `space_table` with the additional columns `mAP` (validation score) and `supernet` (`name`), and the
        BatchNorm statistics of all sub-networks, on every rank.
    """
    table = space_table(space)
    table["mAP"], statistics = score(supernet, space, calibration, valid, batch_size, progress=True)
    table["supernet"] = name
    return table, NormStatistics.union(current().gather(statistics.on_cpu()))
