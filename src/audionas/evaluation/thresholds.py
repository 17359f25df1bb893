"""Detection thresholds per class, chosen on validation clips.

A class is detected where its probability is at or above its threshold. A threshold lies halfway between two
scores of the validation clips, so that small errors of an exported network do not move a clip across it.
"""

from __future__ import annotations

import numpy as np

DEFAULT = 0.5
NEVER = 1.0  # only a probability that rounds to 1 reaches it


def f1_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the threshold of each class with the largest F1 score; the highest one in case of a tie.

    Args:
        labels: 0 or 1 [clips, classes].
        probabilities: between 0 and 1 [clips, classes].

    Returns:
        float64 [classes]; `DEFAULT` for a class without a positive or without a negative clip.

    Raises:
        ValueError: the shapes differ, or a probability is not finite.
    """

    def f1(hits: np.ndarray, detected: np.ndarray, positives: int) -> np.ndarray:
        return 2 * hits / (detected + positives)

    return _chosen(labels, probabilities, f1)


def precision_thresholds(labels: np.ndarray, probabilities: np.ndarray, precision: float) -> np.ndarray:
    """Return the lowest threshold of each class at which the precision is at least `precision`.

    Args:
        labels, probabilities: see `f1_thresholds`.
        precision: wanted share of detections that are right, in (0, 1].

    Returns:
        float64 [classes]; `NEVER` for a class that reaches the precision at no threshold, `DEFAULT` for one
        without a positive or without a negative clip.

    Raises:
        ValueError: see `f1_thresholds`.
    """

    def recall(hits: np.ndarray, detected: np.ndarray, positives: int) -> np.ndarray:
        return np.where((hits >= precision * detected) & (hits > 0), hits / positives, -1.0)

    return _chosen(labels, probabilities, recall)


def _chosen(labels: np.ndarray, probabilities: np.ndarray, value) -> np.ndarray:
    labels, probabilities = np.asarray(labels) != 0, np.asarray(probabilities, np.float64)
    if labels.shape != probabilities.shape or labels.ndim != 2:
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} must have equal shapes"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("some probabilities are not finite")
    thresholds = np.full(labels.shape[1], DEFAULT)
    for c, (positive, scores) in enumerate(zip(labels.T, probabilities.T, strict=True)):
        if not positive.any() or positive.all():
            continue
        order = np.argsort(-scores, kind="stable")
        ranked, hits = scores[order], positive[order].cumsum()
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # equal scores form one threshold
        values = value(hits[ends], ends + 1, int(positive.sum()))
        best = int(values.argmax())
        below = ranked[ends[best] + 1] if ends[best] + 1 < len(ranked) else 0.0
        thresholds[c] = NEVER if values[best] < 0 else (ranked[ends[best]] + below) / 2
    return thresholds
