"""Random search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audionas.search.space import Configuration
from audionas.search.strategies.exhaustive import Exhaustive


class Random(Exhaustive[Configuration]):
    """Scores a random sample of the candidates (OFA-AEC, section 2.4; Bergstra and Bengio, 2012).

    Args:
        candidates: configurations that meet the constraint.
        population: number of candidates to draw without replacement; all candidates if there are fewer.
        seed: seed of the draw.
    """

    def __init__(self, candidates: Sequence[Configuration], population: int, seed: int):
        drawn = np.random.default_rng(seed).permutation(len(candidates))[:population]
        super().__init__([candidates[i] for i in sorted(drawn)])
