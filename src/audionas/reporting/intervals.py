"""Confidence intervals over test clips and seeds, rank correlation, and regret of random search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t

COVERAGE = 0.95  # of every interval
_HITS = 512  # positive clips per batch; bounds memory


class Interval(NamedTuple):
    """An estimate with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def interval(value: float, draws: np.ndarray) -> Interval:
    """Return the bias-corrected percentile interval (Efron, 1981) of an estimate.

    The average precision of a resample is biased upwards, because clips repeat; hence the correction. With
    few clips and rare classes the estimate itself is biased upwards, which no interval fixes.
    tests/unit/evaluation/test_statistics.py measures the actual coverage.

    Args:
        value: the estimate.
        draws: the estimate on each resample [n]. Without finite draws the bounds are NaN.
    """
    draws = draws[np.isfinite(draws)]
    if not len(draws) or not np.isfinite(value):
        return Interval(float(value), float("nan"), float("nan"))
    half, edge = norm.ppf((1 + COVERAGE) / 2), 0.5 / len(draws)
    shift = norm.ppf(np.clip(np.mean(draws < value) + np.mean(draws == value) / 2, edge, 1 - edge))
    ends = np.quantile(draws, norm.cdf([2 * shift - half, 2 * shift + half]))
    return Interval(float(value), float(min(ends[0], value)), float(max(ends[1], value)))


def margin(sd_of_clips: float, sd_of_seeds: float, seeds: int) -> float:
    """Return half the 95 % interval of a mean over seeds, for new seeds and new clips.

    The variances add up. Student's quantile has the degrees of freedom of Welch and Satterthwaite, because a
    standard deviation over three seeds is uncertain. A small variance of clips can raise the degrees of
    freedom by more than it adds. The interval is therefore never narrower than that of the seeds alone.

    Args:
        sd_of_clips: standard deviation over resamples of test clips.
        sd_of_seeds: standard deviation over seeds (n - 1).
        seeds: number of seeds. The result is NaN for one seed.
    """
    clips, training = sd_of_clips**2, sd_of_seeds**2 / seeds
    if seeds < 2 or not training > 0:
        return float("nan")
    freedom = np.array([(clips + training) ** 2 / (training**2 / (seeds - 1)), seeds - 1])
    return float(np.max(t.ppf((1 + COVERAGE) / 2, freedom) * np.sqrt([clips + training, training])))


def resamples(sources: Sequence, draws: int, seed: int = 0) -> np.ndarray:
    """Return how often each resample draws each clip, float32 [draws, clips].

    A resample draws recordings with replacement, each with all of its clips, because those are alike. The
    same seed gives the same resamples, so that models are compared in pairs.

    Args:
        sources: the recording of each clip [clips].
        draws: number of resamples.
        seed: seed of the random generator.
    """
    rng = np.random.default_rng(seed)
    names, of_clip = np.unique(np.asarray(sources), return_inverse=True)
    chosen = (rng.integers(len(names), size=len(names)) for _ in range(draws))
    return np.stack([np.bincount(rows, minlength=len(names))[of_clip] for rows in chosen]).astype(np.float32)


def average_precisions(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the average precision per class for each weighting of the clips.

    The weights act as scikit-learn's `sample_weight`.

    Args:
        labels, scores: [clips, classes].
        weights: non-negative integers [draws, clips].

    Returns:
        float64 [draws, classes]; NaN if no positive or no negative clip has weight.
    """
    weights = np.asarray(weights, np.float32)  # float32 sums are exact up to 16 million
    everything = weights.sum(axis=1, dtype=np.float64)
    result = np.empty((len(weights), labels.shape[1]))
    for c in range(labels.shape[1]):
        # Ties: a clip gets the precision at the end of its run of equal scores.
        values, positive = scores[:, c], np.flatnonzero(labels[:, c])
        gained, total = np.zeros(len(weights)), np.zeros(len(weights))
        for start in range(0, len(positive), _HITS):
            hits = positive[start : start + _HITS]
            above = values[:, None] >= values[None, hits]
            found = weights[:, positive] @ above[positive].astype(np.float32)
            seen = weights @ above.astype(np.float32)
            of_hits = weights[:, hits].astype(np.float64)
            gained += np.where(of_hits > 0, of_hits * found / np.maximum(seen, 1), 0.0).sum(axis=1)
            total += of_hits.sum(axis=1)
        result[:, c] = gained / np.where((total > 0) & (total < everything), total, np.nan)
    return result


def kendall(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], draws: int, seed: int = 0) -> Interval:
    """Return Kendall's tau-b between two scores of the same networks, as the mean over seeds.

    The interval is for new networks and new seeds. Both are drawn with replacement, with the same networks
    for every seed (Owen's pigeonhole bootstrap, 2007).

    Args:
        ours, theirs: one array per seed, [networks].
        draws: number of resamples.
        seed: seed of the random generator.
    """
    ours, theirs = (np.sign(x[:, :, None] - x[:, None, :]) for x in (np.asarray(ours), np.asarray(theirs)))
    seeds, networks, _ = ours.shape

    def taus(counts: np.ndarray) -> np.ndarray:  # counts of each network [draws, networks]
        def pairs(signs: np.ndarray) -> np.ndarray:
            return np.einsum("di,sij,dj->ds", counts, signs, counts, optimize=True)

        with np.errstate(invalid="ignore"):  # a single network gives NaN
            return pairs(ours * theirs) / np.sqrt(pairs(ours**2) * pairs(theirs**2))

    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(networks, np.full(networks, 1 / networks), draws)
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    value = float(taus(np.ones((1, networks))).mean())
    return interval(value, (taus(drawn) * weights).sum(axis=1))


def regret(scores: np.ndarray, population: int, draws: int = 1_000, seed: int = 0) -> np.ndarray:
    """Return the regret of random search: the best score of all candidates minus the best score drawn.

    Args:
        scores: the score of every candidate [n].
        population: candidates that one search draws.
        draws: number of searches.
        seed: seed of the random generator.

    Returns:
        float64 [draws]; 0 if a search draws the best candidate.
    """
    rng, best = np.random.default_rng(seed), scores.max()
    size = min(population, len(scores))
    return np.array([best - rng.choice(scores, size, replace=False).max() for _ in range(draws)])
