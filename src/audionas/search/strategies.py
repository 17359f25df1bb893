"""How the best sub-network for a constraint is looked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from audionas.models.architecture import Subnetwork
from audionas.search.space import SearchSpace


def random_search(
    space: SearchSpace,
    scores: Mapping[Subnetwork, float],
    *,
    constraint: int,
    tolerance: int,
    population: int,
    seed: int,
) -> Subnetwork:
    """The paper's search (section 2.4): the best of `population` sub-networks drawn near the constraint.

    Args:
        scores: mAP on validation of (at least) the sub-networks near the constraint.
        constraint, tolerance: in trainable parameters.
        population: how many are drawn, without replacement; all of them where there are fewer.
        seed: of the draw.

    Raises:
        UserError: no sub-network is near the constraint.
    """
    near = space.near(constraint, tolerance)
    drawn = np.random.default_rng(seed).permutation(len(near))[:population]
    # Of equal scores the smaller network wins, then the earlier one: one result for one seed.
    return min((near[i] for i in sorted(drawn)), key=lambda s: (-scores[s], space.parameters(s)))
