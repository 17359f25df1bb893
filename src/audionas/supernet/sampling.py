"""Which sub-networks learn in one step of supernet training."""

from __future__ import annotations

import numpy as np

from audionas.search.space import Configuration, FiniteSpace


def uniform(
    space: FiniteSpace[Configuration], count: int, generator: np.random.Generator
) -> list[Configuration]:
    """Configurations drawn independently, each as likely as any other (OFA-AEC; Once-for-all)."""
    return [space.sample(generator) for _ in range(count)]


def sandwich(
    space: FiniteSpace[Configuration], count: int, generator: np.random.Generator
) -> list[Configuration]:
    """The sandwich rule: both ends, and the rest uniformly (Yu and Huang, 2019; BigNAS, Yu et al., 2020)."""
    return [space.largest, space.smallest, *uniform(space, count - 2, generator)]


#: The rules by their names in `params.yaml`.
RULES = {"uniform": uniform, "sandwich": sandwich}
