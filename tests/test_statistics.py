"""Intervals, rank correlation and regret, against scikit-learn, and against what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from audionas.reporting.statistics import average_precisions, interval, kendall, regret, resamples


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_weighted_average_precision_is_scikit_learns(seed, clips, levels):
    rng = np.random.default_rng(seed)
    labels = (rng.random((clips, 3)) < 0.4).astype(np.uint8)
    scores = rng.integers(0, levels, (clips, 3)) / levels  # with ties
    weights = resamples(clips, 4, seed)
    found = average_precisions(labels, scores, weights)
    for draw, row in zip(weights, found, strict=True):
        for c, value in enumerate(row):
            if (labels[:, c] * draw).sum() == 0:
                assert np.isnan(value)
            else:
                expected = average_precision_score(labels[:, c], scores[:, c], sample_weight=draw)
                assert value == pytest.approx(expected, abs=1e-12)


def test_resamples_are_of_as_many_clips_and_the_same_for_a_seed():
    weights = resamples(17, 50, seed=3)
    assert (
        weights.shape == (50, 17)
        and (weights.sum(axis=1) == 17).all()
        and len(np.unique(weights, axis=0)) > 40
    )
    assert np.array_equal(weights, resamples(17, 50, seed=3))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Two made classifiers on endless clips, against intervals from 120: of one, and of the difference."""
    rng = np.random.default_rng(0)

    def drawn(n):
        labels = rng.random((n, 4)) < 0.3
        alike = labels + rng.normal(0, 0.8, (n, 4))
        return labels.astype(np.uint8), [alike + rng.normal(0, s, (n, 4)) for s in (0.4, 0.8)]

    def means(labels, scores, weights):
        return np.array([average_precisions(labels, s, weights).mean(axis=1) for s in scores])

    truth = means(*drawn(200_000), np.ones((1, 200_000)))[:, 0]
    of_one = of_difference = 0
    for trial in range(200):
        labels, scores = drawn(120)
        draws = means(labels, scores, resamples(120, 200, trial))
        whole = means(labels, scores, np.ones((1, 120)))[:, 0]
        one = interval(whole[0], draws[0])
        difference = interval(whole[0] - whole[1], draws[0] - draws[1])
        of_one += one.low <= truth[0] <= one.high
        of_difference += difference.low <= truth[0] - truth[1] <= difference.high
    print(of_one, of_difference)
    assert 0.85 <= of_one / 200 <= 0.99 and 0.90 <= of_difference / 200 <= 0.99


def test_tau_is_one_for_the_same_order_and_its_interval_holds_zero_for_chance():
    a = np.arange(12.0)
    same = kendall([a, a], [a**2, np.sqrt(a)], draws=50)
    assert same == pytest.approx((1.0, 1.0, 1.0)) and same.certain
    rng = np.random.default_rng(0)
    chance = kendall(list(rng.random((2, 12))), list(rng.random((2, 12))), draws=300)
    assert chance.low < 0 < chance.high and not chance.certain


def test_regret_is_nothing_where_all_are_drawn_and_falls_with_the_population():
    scores = np.random.default_rng(0).random(40)
    assert (regret(scores, 40) == 0).all() and (regret(scores, 99) == 0).all()
    few, many = regret(scores, 3).mean(), regret(scores, 25).mean()
    ordered = np.sort(scores)[::-1]
    # the best of 3 of 40: the k-th best is the best drawn with probability C(40 - k, 2) / C(40, 3)
    odds = np.array([(39 - k) * (38 - k) / 2 / 9880 for k in range(38)])
    expected = scores.max() - (odds * ordered[:38]).sum()
    assert few == pytest.approx(expected, rel=0.1) and many < few
