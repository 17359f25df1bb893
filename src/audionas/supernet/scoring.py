"""Scores of all sub-networks in one pass that computes their common beginnings once, and their file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from audionas.data.store import ClipStore
from audionas.evaluation.metrics import mean_average_precision
from audionas.evaluation.prediction import batches, scoring_memory
from audionas.runtime.artifacts import remedy
from audionas.runtime.device import device_of
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.filearray import Descriptor, FileArray
from audionas.runtime.ranks import current
from audionas.search.space import Configuration, FiniteSpace
from audionas.search.tables import space_table
from audionas.supernet.base import Supernet
from audionas.supernet.calibration import calibrate_all
from audionas.supernet.statistics import NormStatistics


class _Scores(FileArray):
    """Probabilities in an unnamed file of the working directory: 31 GB for OFA-AEC's largest space.

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
    supernet: Supernet[Configuration],
    subnetworks: Sequence[Configuration],
    statistics: NormStatistics,
    store: ClipStore,
    batch_size: int = 64,
    bar: tqdm | None = None,
) -> FileArray:
    """Probabilities float32 [sub-networks, clips, classes], common beginnings computed once.

    The probabilities of one batch are in memory: 69 MB for OFA-AEC's largest space and batch.

    Args:
        supernet: in eval mode.
        statistics: of all sub-networks, from `calibrate_all`.
        bar: counts the clips.

    Raises:
        UserError: the disk has no room for all probabilities; raised before any is computed.
    """
    device = device_of(supernet)
    index = {subnetwork: i for i, subnetwork in enumerate(subnetworks)}
    scores = _Scores((len(index), *store.labels.shape))
    start = 0
    for x in batches(store, batch_size):
        with scoring_memory(store, batch_size):
            outputs = dict(supernet.outputs(x.to(device), subnetworks, statistics=statistics))
            rows = [index[subnetwork] for subnetwork in outputs]
            # A copy waits for the GPU: one a batch, not one a sub-network.
            probabilities = torch.stack([logits.sigmoid() for logits in outputs.values()]).cpu()
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
) -> list[float]:
    """Mean average precision of each sub-network, common beginnings computed once.

    The outputs are those of the extracted and calibrated networks. Ranks share out the sub-networks, those
    that begin alike together.

    Args:
        calibration: batches [batch, frames, mels] of training clips for the BatchNorm statistics.
        store: log-mel of the split to score on.
        progress: show bars.
    """
    ranks = current()
    supernet.eval()
    own = ranks.share(sorted(subnetworks, key=supernet.prefix))
    hidden = not (progress and ranks.first)
    if own:
        batches = tqdm(calibration, desc="calibrate", unit="batch", disable=hidden)
        statistics = calibrate_all(supernet, own, batches)
        title = f"score {len(subnetworks)} sub-networks"
        with tqdm(total=len(store), desc=title, unit="clips", disable=hidden) as bar:
            scores = predict_all(supernet, own, statistics, store, batch_size, bar)
        own = [
            (subnetwork, mean_average_precision(store.labels, s))
            for subnetwork, s in zip(own, scores, strict=True)
        ]
    values = dict(pair for part in ranks.gather(own) for pair in part)
    return [values[subnetwork] for subnetwork in subnetworks]


def score_space(
    supernet: Supernet[Configuration],
    space: FiniteSpace[Configuration],
    calibration: list[Tensor],
    valid: ClipStore,
    batch_size: int = 64,
    name: str = "",
) -> pd.DataFrame:
    """`space_table` with columns `mAP`, the validation score, and `supernet`, the supernet's name."""
    table = space_table(space)
    table["mAP"] = score(supernet, space, calibration, valid, batch_size, progress=True)
    table["supernet"] = name
    return table


def fingerprint(path: Path) -> str:
    """The name of a supernet in its scores: the first 12 digits of its file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def read_scores(
    path: Path, space: FiniteSpace[Configuration], supernet: Path | None = None
) -> dict[Configuration, float]:
    """mAP of every sub-network from a scores file.

    Args:
        supernet: the file whose scores they must be; not checked if None.

    Raises:
        UserError: the file is missing or damaged, its rows are not those of the space, a score is not
            between 0 and 1, or the scores are of another supernet.
    """
    mend = remedy(path)
    try:
        table = pd.read_csv(path, dtype={"supernet": str})
        expected = space_table(space)
        same = table[list(expected.columns)].equals(expected)
        values, names = table["mAP"].astype(float), set(table["supernet"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except OSError as error:
        raise os_error(error, path) from None
    except KeyError as error:
        raise UserError(f"{path}: no column {error}; {mend}") from None
    except (ValueError, TypeError, OverflowError) as error:
        why = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a readable scores file ({why}); {mend}") from None
    if not same:
        raise UserError(
            f"{path}: its rows are not the sub-networks of space {space.name} at this size; {mend}"
        )
    if not values.between(0, 1).all():
        raise UserError(f"{path}: its scores are not all between 0 and 1; {mend}")
    if supernet is not None and names != {fingerprint(supernet)}:
        raise UserError(f"{path}: the scores of another supernet than {supernet}; {mend}")
    return dict(zip(space, values, strict=True))
