"""Metrics of predictions: average precision, its mean over classes, and accuracy."""

from __future__ import annotations

import numpy as np


def measurable(labels: np.ndarray) -> np.ndarray:
    """Which classes of labels 0 or 1 [clips, classes] have a positive and a negative clip: bool [classes].

    Without a positive there is no average precision, and without a negative it is 1 whatever the scores.
    """
    positive = np.asarray(labels) != 0
    return positive.any(axis=0) & ~positive.all(axis=0)


def average_precisions(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision of each class, as scikit-learn computes it; NaN for a class not `measurable`.

    Args:
        labels: 0 or 1 [clips, classes].
        scores: finite scores [clips, classes], of any scale; equal scores count as one threshold.

    Returns:
        float64 [classes].

    Raises:
        ValueError: shapes that differ, or scores that are not finite.
    """
    labels, scores = _checked(labels, scores)
    n = len(labels)
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    hits = np.take_along_axis(labels, order, axis=0).astype(np.float64)
    precision = hits.cumsum(axis=0) / np.arange(1, n + 1)[:, None]
    # A hit counts with the precision at the end of its run of equal scores.
    ends = np.where(
        np.vstack([ranked[1:] != ranked[:-1], np.ones((1, labels.shape[1]), bool)]), np.arange(n)[:, None], n
    )
    end_of_run = np.minimum.accumulate(ends[::-1], axis=0)[::-1]
    total = np.where(measurable(labels), hits.sum(axis=0), np.nan)
    return (hits * np.take_along_axis(precision, end_of_run, axis=0)).sum(axis=0) / total


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Macro mean of `average_precisions` over the classes that are `measurable`; NaN where none is."""
    values = average_precisions(labels, scores)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """The share of clips whose largest score is that of their class; the first one counts among equal ones.

    Args:
        labels: 0 or 1 [clips, classes], one 1 for each clip.
        scores: finite scores [clips, classes], of any scale.

    Raises:
        ValueError: shapes that differ, scores that are not finite, or a clip without exactly one label.
    """
    labels, scores = _checked(labels, scores)
    counts = np.count_nonzero(labels, axis=1)
    if (counts != 1).any():
        clip = int(np.flatnonzero(counts != 1)[0])
        raise ValueError(f"clip {clip} has {counts[clip]} labels; accuracy needs exactly one for each clip")
    return float(np.mean(labels.argmax(axis=1) == scores.argmax(axis=1)))


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.shape != scores.shape or labels.ndim != 2:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} must be one shape [clips, classes]"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores hold values that are not finite; the network has diverged")
    return labels, scores
