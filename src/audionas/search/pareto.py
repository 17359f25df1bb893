"""The Pareto front of cost and score."""

from __future__ import annotations

import numpy as np


def pareto_front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which points are Pareto-optimal, at the least cost and the highest score.

    Args:
        costs: the lower, the better; [n].
        scores: the higher, the better; [n].

    Returns:
        bool [n]; of equal points only the first is on the front.
    """
    front, best = np.zeros(len(costs), bool), -np.inf
    for i in np.lexsort((np.arange(len(costs)), -scores, costs)):
        if scores[i] > best:
            front[i], best = True, scores[i]
    return front
