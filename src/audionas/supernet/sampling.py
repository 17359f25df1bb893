"""Sampling of the sub-networks in one step of supernet training."""

from __future__ import annotations

import numpy as np

from audionas.search.space import Configuration, FiniteSpace


def uniform(
    space: FiniteSpace[Configuration], count: int, generator: np.random.Generator
) -> list[Configuration]:
    """Draw `count` configurations independently and uniformly (OFA-AEC; Once-for-all, Cai et al., 2020)."""
    return [space.sample(generator) for _ in range(count)]


def sandwich(
    space: FiniteSpace[Configuration], count: int, generator: np.random.Generator
) -> list[Configuration]:
    """Sandwich rule: largest, smallest, and uniform draws (Yu and Huang, 2019; BigNAS, Yu et al., 2020)."""
    return [space.largest, space.smallest, *uniform(space, count - 2, generator)]


#: Sampling rules by their names in `params.yaml`.
RULES = {"uniform": uniform, "sandwich": sandwich}
