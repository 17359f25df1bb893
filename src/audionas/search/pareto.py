"""Pareto front of cost and score."""

from __future__ import annotations

import numpy as np


def pareto_front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return a mask of the Pareto-optimal points, which minimise cost and maximise score.

    Args:
        costs: costs [n].
        scores: scores [n].

    Returns:
        bool [n]; of equal points, only the first is True.
    """
    front, best = np.zeros(len(costs), bool), -np.inf
    for i in np.lexsort((np.arange(len(costs)), -scores, costs)):
        if scores[i] > best:
            front[i], best = True, scores[i]
    return front
