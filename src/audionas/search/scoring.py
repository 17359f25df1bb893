"""Validation scores of every sub-network in one pass that shares what they have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from audionas.errors import UserError
from audionas.evaluation import mean_average_precision, predict_all
from audionas.models.architecture import Subnetwork
from audionas.models.supernet import Supernet, calibrate_all
from audionas.ranks import current
from audionas.search.space import SearchSpace
from audionas.store import ClipStore

COLUMNS = ("r2", "r3", "r4", "d2", "d3", "d4", "params", "macs")


def describe(space: SearchSpace, frames: int) -> pd.DataFrame:
    """One row a sub-network: ratios, depths, trainable parameters, multiply-adds for one clip of `frames`."""
    rows = [
        (*s.ratios, *s.depths, space.parameters(s), space.architecture.multiply_adds(s, frames))
        for s in space
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def score(
    supernet: Supernet,
    subnetworks: Sequence[Subnetwork],
    calibration: list[Tensor],
    store: ClipStore,
    batch_size: int = 64,
    progress: bool = False,
) -> list[float]:
    """Mean average precision of each sub-network, what they have in common computed once.

    Block 1 runs once for each batch, each variant of block 2 once, and so on, for BatchNorm calibration and
    for scoring; the outputs are those of the extracted networks. Ranks share out the sub-networks, neighbours
    in that tree together.

    Args:
        calibration: batches [batch, frames, mels] of training clips for the BatchNorm statistics.
        store: log-mel of the split to score on.
        progress: show bars.
    """
    ranks = current()
    supernet.eval()
    own = ranks.share(sorted(subnetworks, key=supernet.architecture.place))
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
    supernet: Supernet, space: SearchSpace, calibration: list[Tensor], valid: ClipStore, batch_size: int = 64
) -> pd.DataFrame:
    """`describe` with a column `mAP`: `score` of each sub-network on validation."""
    table = describe(space, valid.data.shape[1])
    table["mAP"] = score(supernet, space.subnetworks, calibration, valid, batch_size, progress=True)
    return table


def read_scores(path, space: SearchSpace, frames: int) -> dict[Subnetwork, float]:
    """mAP of every sub-network from a scores file.

    Raises:
        UserError: the file is missing or damaged, or its rows are not those of this space.
    """
    mend = "delete it and run `dvc repro`"
    try:
        table = pd.read_csv(path)
        same = table[list(COLUMNS)].equals(describe(space, frames))
        values = table["mAP"].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a readable scores file ({error}); {mend}") from None
    if not same or not np.isfinite(values).all():
        raise UserError(
            f"{path}: its rows are not the sub-networks of space {space.name} at this size; {mend}"
        )
    return dict(zip(space.subnetworks, values, strict=True))
