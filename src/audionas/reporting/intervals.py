"""Uncertainty of metrics: bootstrap intervals over test clips, rank correlation, regret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t

COVERAGE = 0.95  # of every interval
_HITS = 512  # positive clips that are looked at together: bounds memory


class Interval(NamedTuple):
    """An estimate with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def interval(value: float, draws: np.ndarray) -> Interval:
    """The bias-corrected percentile interval (Efron, 1981) of an estimate from its draws [n]; NaN for none.

    Average precision of a resample is biased upwards, since clips are repeated; hence the correction. It is
    itself biased upwards with few clips of a rare class, which no interval corrects. The coverage is measured
    in tests/unit/evaluation/test_statistics.py.
    """
    draws = draws[np.isfinite(draws)]
    if not len(draws) or not np.isfinite(value):
        return Interval(float(value), float("nan"), float("nan"))
    half, edge = norm.ppf((1 + COVERAGE) / 2), 0.5 / len(draws)
    shift = norm.ppf(np.clip(np.mean(draws < value) + np.mean(draws == value) / 2, edge, 1 - edge))
    ends = np.quantile(draws, norm.cdf([2 * shift - half, 2 * shift + half]))
    return Interval(float(value), float(min(ends[0], value)), float(max(ends[1], value)))


def margin(sd_of_clips: float, sd_of_seeds: float, seeds: int) -> float:
    """Half the 95 % interval of a mean over seeds for new seeds and new clips at once; NaN for one seed.

    Both variances added, with Student's quantile at Welch and Satterthwaite's degrees of freedom: a standard
    deviation over three seeds is itself uncertain. A little variance of clips raises those degrees by more
    than it adds, so the interval is never narrower than that of the seeds alone.
    """
    clips, training = sd_of_clips**2, sd_of_seeds**2 / seeds
    if seeds < 2 or not training > 0:
        return float("nan")
    freedom = np.array([(clips + training) ** 2 / (training**2 / (seeds - 1)), seeds - 1])
    return float(np.max(t.ppf((1 + COVERAGE) / 2, freedom) * np.sqrt([clips + training, training])))


def resamples(sources: Sequence, draws: int, seed: int = 0) -> np.ndarray:
    """How often each clip is drawn in each of `draws` resamples: float32 [draws, clips].

    Recordings are drawn with replacement, each with all clips that were cut from it, for those are alike. One
    seed gives one set of resamples, so that models compared on them are compared pair by pair.

    Args:
        sources: the recording of each clip [clips].
    """
    rng = np.random.default_rng(seed)
    names, of_clip = np.unique(np.asarray(sources), return_inverse=True)
    chosen = (rng.integers(len(names), size=len(names)) for _ in range(draws))
    return np.stack([np.bincount(rows, minlength=len(names))[of_clip] for rows in chosen]).astype(np.float32)


def average_precisions(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of each class under each weighting of the clips, as scikit-learn's `sample_weight`.

    Args:
        labels, scores: [clips, classes].
        weights: whole numbers, not negative [draws, clips].

    Returns:
        float64 [draws, classes]; NaN where no positive or no negative clip has weight.
    """
    weights = np.asarray(weights, np.float32)  # sums stay exact up to 16 million
    everything = weights.sum(axis=1, dtype=np.float64)
    result = np.empty((len(weights), labels.shape[1]))
    for c in range(labels.shape[1]):
        # A clip counts with the precision at the end of its run of equal scores.
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
    """Kendall's tau-b between two scores of the same networks, the mean over seeds.

    Its interval is for new networks and new seeds: both are drawn with replacement, networks the same in
    every seed (Owen's pigeonhole bootstrap, 2007).

    Args:
        ours, theirs: one array a seed, [networks].
        draws: of the interval.
    """
    ours, theirs = (np.sign(x[:, :, None] - x[:, None, :]) for x in (np.asarray(ours), np.asarray(theirs)))
    seeds, networks, _ = ours.shape

    def taus(counts: np.ndarray) -> np.ndarray:  # of how often each network is drawn [draws, networks]
        def pairs(signs: np.ndarray) -> np.ndarray:
            return np.einsum("di,sij,dj->ds", counts, signs, counts, optimize=True)

        with np.errstate(invalid="ignore"):  # one network alone: NaN
            return pairs(ours * theirs) / np.sqrt(pairs(ours**2) * pairs(theirs**2))

    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(networks, np.full(networks, 1 / networks), draws)
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    value = float(taus(np.ones((1, networks))).mean())
    return interval(value, (taus(drawn) * weights).sum(axis=1))


def regret(scores: np.ndarray, population: int, draws: int = 1_000, seed: int = 0) -> np.ndarray:
    """How far a random search of `population` falls short of the best candidate, in `draws` searches.

    Args:
        scores: of every candidate [n].

    Returns:
        float64 [draws], 0 where the best was drawn.
    """
    rng, best = np.random.default_rng(seed), scores.max()
    size = min(population, len(scores))
    return np.array([best - rng.choice(scores, size, replace=False).max() for _ in range(draws)])
