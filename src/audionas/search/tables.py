"""A search space as a table."""

from __future__ import annotations

import pandas as pd

from audionas.search.cnn10 import Cnn10Space

COLUMNS = ("r2", "r3", "r4", "d2", "d3", "d4", "params", "macs")


def describe(space: Cnn10Space, frames: int) -> pd.DataFrame:
    """One row a sub-network: ratios, depths, trainable parameters, multiply-adds for one clip of `frames`."""
    rows = [
        (*s.ratios, *s.depths, space.parameters(s), space.architecture.multiply_adds(s, frames))
        for s in space
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
