"""Metrics: average precision, mean average precision and accuracy."""

from __future__ import annotations

import numpy as np


def measurable(labels: np.ndarray) -> np.ndarray:
    """Return which classes have both a positive and a negative clip.

    Average precision is undefined without a positive clip. Without a negative clip it is 1 for any scores.

    Args:
        labels: 0 or 1 [clips, classes].

    Returns:
        bool [classes].
    """
    positive = np.asarray(labels) != 0
    return positive.any(axis=0) & ~positive.all(axis=0)


def average_precisions(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the average precision of each class, as in scikit-learn; NaN if the class is not `measurable`.

    Args:
        labels: 0 or 1 [clips, classes].
        scores: finite scores [clips, classes] of any scale; equal scores form one threshold.

    Returns:
        float64 [classes].

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    labels, scores = _checked(labels, scores)
    n = len(labels)
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    hits = np.take_along_axis(labels, order, axis=0).astype(np.float64)
    precision = hits.cumsum(axis=0) / np.arange(1, n + 1)[:, None]
    # Equal scores form one threshold, so a hit uses the precision at the end of its run.
    ends = np.where(
        np.vstack([ranked[1:] != ranked[:-1], np.ones((1, labels.shape[1]), bool)]), np.arange(n)[:, None], n
    )
    end_of_run = np.minimum.accumulate(ends[::-1], axis=0)[::-1]
    total = np.where(measurable(labels), hits.sum(axis=0), np.nan)
    return (hits * np.take_along_axis(precision, end_of_run, axis=0)).sum(axis=0) / total


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean of `average_precisions` over all `measurable` classes; NaN if there is none."""
    values = average_precisions(labels, scores)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the fraction of clips whose label has the largest score. The first class wins a tie.

    Args:
        labels: 0 or 1 [clips, classes], exactly one 1 per clip.
        scores: finite scores [clips, classes] of any scale.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a clip does not have exactly one label.
    """
    labels, scores = _checked(labels, scores)
    counts = np.count_nonzero(labels, axis=1)
    if (counts != 1).any():
        clip = int(np.flatnonzero(counts != 1)[0])
        raise ValueError(f"clip {clip} has {counts[clip]} labels; accuracy needs exactly one label per clip")
    return float(np.mean(labels.argmax(axis=1) == scores.argmax(axis=1)))


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.shape != scores.shape or labels.ndim != 2:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} must have equal shapes [clips, classes]"
        )
    if not np.isfinite(scores).all():
        raise ValueError("some scores are not finite; the network has diverged")
    return labels, scores
