"""Intervals, rank correlation and regret, compared with scikit-learn and with their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from sklearn.metrics import average_precision_score

from audionas.evaluation import metrics
from audionas.reporting.intervals import average_precisions, interval, kendall, margin, regret, resamples
from audionas.systems.once_for_all.results import estimate


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_weighted_average_precision_is_scikit_learns(seed, clips, levels):
    rng = np.random.default_rng(seed)
    labels = (rng.random((clips, 3)) < 0.4).astype(np.uint8)
    scores = rng.integers(0, levels, (clips, 3)) / levels  # with ties
    weights = resamples(range(clips), 4, seed)
    found = average_precisions(labels, scores, weights)
    for draw, row in zip(weights, found, strict=True):
        for c, value in enumerate(row):
            if (labels[:, c] * draw).sum() in (0, draw.sum()):
                assert np.isnan(value)
            else:
                expected = average_precision_score(labels[:, c], scores[:, c], sample_weight=draw)
                assert value == pytest.approx(expected, abs=1e-12)


def test_many_positive_clips_come_out_as_scikit_learns_too():
    rng = np.random.default_rng(0)
    labels = (rng.random((1_500, 1)) < 0.6).astype(np.uint8)  # more than one block
    scores, weights = np.round(labels + rng.normal(0, 1, labels.shape), 1), resamples(range(1_500), 2)
    expected = [average_precision_score(labels[:, 0], scores[:, 0], sample_weight=w) for w in weights]
    assert average_precisions(labels, scores, weights)[:, 0] == pytest.approx(expected, abs=1e-12)


def test_resamples_draw_recordings_with_all_their_clips():
    sources = ["a", "b", "b", "c", "b", "d"]
    weights = resamples(sources, 200, seed=3)
    assert weights.shape == (200, 6) and (weights[:, 1] == weights[:, 2]).all() and (weights >= 0).all()
    assert (weights[:, [0, 1, 3, 5]].sum(axis=1) == 4).all() and len(np.unique(weights, axis=0)) > 20
    assert np.array_equal(weights, resamples(sources, 200, seed=3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "clips, classes, share, least, of_differences",
    [(120, 4, 0.3, 0.89, 0.89), (80, 10, 0.1, 0.85, 0.88), (280, 22, 0.09, 0.91, 0.87)],
)
def test_how_often_intervals_over_clips_cover_the_truth(clips, classes, share, least, of_differences):
    """Coverage of intervals for one of two synthetic classifiers, and for their difference."""
    rng, trials = np.random.default_rng(0), 100

    def drawn(n):
        labels = rng.random((n, classes)) < share
        labels[rng.integers(n, size=classes), range(classes)] = True
        alike = 2 * labels + rng.normal(0, 0.8, labels.shape)
        return labels.astype(np.uint8), [alike + rng.normal(0, s, labels.shape) for s in (0.4, 0.8)]

    def means(labels, scores, weights):
        return np.array([np.nanmean(average_precisions(labels, s, weights), axis=1) for s in scores])

    def endless():
        labels, scores = drawn(20_000)
        return [np.nanmean(metrics.average_precisions(labels, s)) for s in scores]

    truth = np.mean([endless() for _ in range(5)], axis=0)
    of_one = of_difference = 0
    for trial in range(trials):
        labels, scores = drawn(clips)
        draws = means(labels, scores, resamples(range(clips), 200, trial))
        whole = means(labels, scores, np.ones((1, clips)))[:, 0]
        one, both = interval(whole[0], draws[0]), interval(whole[0] - whole[1], draws[0] - draws[1])
        assert one.low <= one.value <= one.high
        of_one += one.low <= truth[0] <= one.high
        of_difference += both.low <= truth[0] - truth[1] <= both.high
    print(f"{clips} clips of {classes} classes: {of_one}, of differences {of_difference} of {trials}")
    assert of_one / trials >= least and of_difference / trials >= of_differences


@pytest.mark.parametrize("sd_clips", [0.1, 0.2, 0.3, 1.0, 10.0])
def test_two_recipes_equally_good_are_seldom_called_different(sd_clips, sd_seeds=1.0):
    """With three seeds on one draw of clips, a zero difference is significant in about 5 % of cases."""
    rng, trials, wrong = np.random.default_rng(0), 2_000, 0
    for _ in range(trials):
        shift = rng.normal(0, sd_clips)  # effect of the clips, equal for all seeds
        seeds = shift + rng.normal(0, sd_seeds, 3)
        wrong += estimate(seeds, seeds.mean() + rng.normal(0, sd_clips, 100)).significant
    assert 0.04 < wrong / trials < 0.06


@given(st.floats(0, 20), st.floats(0.01, 20), st.integers(2, 10), st.floats(1, 3))
def test_an_interval_never_shrinks_when_seeds_or_clips_differ_more(sd_clips, sd_seeds, seeds, more):
    width = margin(sd_clips, sd_seeds, seeds)
    for wider in (margin(more * sd_clips, sd_seeds, seeds), margin(sd_clips, more * sd_seeds, seeds)):
        assert wider >= width * (1 - 1e-9)


def test_fewer_than_three_seeds_are_never_certain():
    for seeds in ([0.3], [0.3, 0.31]):
        assert not estimate(np.array(seeds), 0.3 + np.random.default_rng(0).normal(0, 1e-3, 50)).significant
    assert estimate(
        np.array([0.3, 0.31, 0.29]), 0.3 + np.random.default_rng(0).normal(0, 1e-3, 50)
    ).significant


def test_tau_is_one_for_the_same_order_and_its_interval_holds_zero_for_chance():
    a = np.arange(12.0)
    same = kendall([a, a], [a**2, np.sqrt(a)], draws=50)
    assert same == pytest.approx((1.0, 1.0, 1.0))
    rng = np.random.default_rng(0)
    chance = kendall(list(rng.random((2, 12))), list(rng.random((2, 12))), draws=300)
    assert chance.low < 0 < chance.high


def test_tau_is_scipys_with_ties_and_the_mean_over_seeds():
    ours, theirs = np.random.default_rng(0).integers(0, 5, (2, 3, 9))
    expected = [kendalltau(a, b).statistic for a, b in zip(ours, theirs, strict=True)]
    assert kendall(ours, theirs, draws=2).value == pytest.approx(np.mean(expected))


def test_the_interval_of_tau_covers_nothing_where_each_seed_has_a_tau_of_its_own():
    """Scores of eight networks whose ranking depends on the seed and is random over seeds."""
    rng, trials, held = np.random.default_rng(0), 300, 0
    for trial in range(trials):
        network, by_seed, noise = rng.normal(0, 1, (3, 3, 8))
        ours, theirs = network[:1] + by_seed, rng.normal(0, 1, 8) + rng.normal(0, 1.5, (3, 1)) * by_seed
        found = kendall(ours, theirs + noise, draws=200, seed=trial)
        held += found.low <= 0 <= found.high
    assert held / trials >= 0.94


def test_regret_is_nothing_where_all_are_drawn_and_falls_with_the_population():
    scores = np.random.default_rng(0).random(40)
    assert (regret(scores, 40) == 0).all() and (regret(scores, 99) == 0).all()
    few, many = regret(scores, 3).mean(), regret(scores, 25).mean()
    ordered = np.sort(scores)[::-1]
    # the best of 3 of 40: the k-th best is the best drawn with probability C(40 - k, 2) / C(40, 3)
    odds = np.array([(39 - k) * (38 - k) / 2 / 9880 for k in range(38)])
    expected = scores.max() - (odds * ordered[:38]).sum()
    assert few == pytest.approx(expected, rel=0.1) and many < few
