"""Pareto front of costs and score."""

from __future__ import annotations

import numpy as np


def pareto_front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return a mask of the Pareto-optimal points, which minimise each cost and maximise the score.

    Args:
        costs: costs [n], or several costs of each point [n, costs].
        scores: scores [n].

    Returns:
        bool [n]; of equal points, only the first is True.
    """
    costs = costs[:, None] if costs.ndim == 1 else costs
    front = np.zeros(len(scores), bool)
    # No later point in this order is better in score, or equal in score and cheaper in the first costs.
    for i in np.lexsort((np.arange(len(scores)), *costs.T[::-1], -scores)):
        front[i] = not (costs[front] <= costs[i]).all(axis=1).any()
    return front
