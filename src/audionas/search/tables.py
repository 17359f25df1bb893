"""A search space as a table."""

from __future__ import annotations

import pandas as pd

from audionas.search.space import FiniteSpace


def space_table(space: FiniteSpace) -> pd.DataFrame:
    """Return one row per configuration, with the columns of `describe`, then `params` and `macs`."""
    return pd.DataFrame([space.describe(each) | space.costs(each)._asdict() for each in space])
