"""Scores of all sub-networks in a file, and the supernet that they belong to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from audionas.runtime.artifacts import remedy
from audionas.runtime.errors import UserError, os_error
from audionas.search.space import Configuration, FiniteSpace
from audionas.search.tables import space_table


def fingerprint(path: Path) -> str:
    """Return the identifier of a supernet in a scores file: the first 12 hex digits of its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def read_scores(
    path: Path, space: FiniteSpace[Configuration], supernet: Path | None = None
) -> dict[Configuration, float]:
    """Read the mAP of every sub-network from a scores file.

    Args:
        path: scores file.
        space: search space of the scores.
        supernet: model file that the scores must belong to; None skips this check.

    Raises:
        UserError: the file is missing or damaged, its rows do not match the space, a score is not between 0
            and 1, or the scores belong to another supernet.
    """
    fix = remedy(path)
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
        raise UserError(f"{path}: no column {error}; {fix}") from None
    except (ValueError, TypeError, OverflowError) as error:
        why = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a readable scores file ({why}); {fix}") from None
    if not same:
        raise UserError(
            f"{path}: the rows are not the sub-networks of space {space.name} at this size; {fix}"
        )
    if not values.between(0, 1).all():
        raise UserError(f"{path}: some scores are not between 0 and 1; {fix}")
    if supernet is not None and names != {fingerprint(supernet)}:
        raise UserError(f"{path}: the scores do not belong to {supernet}; {fix}")
    return dict(zip(space, values, strict=True))
