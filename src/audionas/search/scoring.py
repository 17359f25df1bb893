"""Validation scores of every sub-network in one pass that shares what they have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from audionas.errors import UserError, os_error
from audionas.evaluation import mean_average_precision, predict_all
from audionas.models.architecture import Subnetwork
from audionas.models.supernet import Supernet, calibrate_all
from audionas.paths import remedy
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
    supernet: Supernet,
    space: SearchSpace,
    calibration: list[Tensor],
    valid: ClipStore,
    batch_size: int = 64,
    name: str = "",
) -> pd.DataFrame:
    """`describe` with columns `mAP`, `score` of each sub-network on validation, and `supernet`, its name."""
    table = describe(space, valid.data.shape[1])
    table["mAP"] = score(supernet, space.subnetworks, calibration, valid, batch_size, progress=True)
    table["supernet"] = name
    return table


def fingerprint(path: Path) -> str:
    """What names a supernet in its scores: the beginning of its file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def read_scores(
    path: Path, space: SearchSpace, frames: int, supernet: Path | None = None
) -> dict[Subnetwork, float]:
    """mAP of every sub-network from a scores file.

    Args:
        supernet: the file that must have been scored; any where it is None.

    Raises:
        UserError: the file is missing or damaged, its rows are not those of this space, a score is not
            between 0 and 1, or they are scores of another supernet.
    """
    mend = remedy(path)
    try:
        table = pd.read_csv(path, dtype={"supernet": str})
        same = table[list(COLUMNS)].equals(describe(space, frames))
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
    return dict(zip(space.subnetworks, values, strict=True))
