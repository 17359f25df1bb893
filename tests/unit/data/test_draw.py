"""The seeded draw from a list of any length."""

import re
from collections import Counter

import pytest
from audioset_lists import ytid
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.data.corpora.base import Clip
from audionas.data.corpora.draw import draw
from audionas.runtime.errors import UserError


@st.composite
def pools(draw_from):
    classes = draw_from(st.integers(1, 8))
    labels = st.lists(st.integers(1, classes).map("/m/{}".format), min_size=1, max_size=3, unique=True)
    every = draw_from(st.lists(labels, min_size=1, max_size=60))
    return [Clip(f"Y{ytid(i)}_0", ytid(i), "", tuple(each), 0.0, 10.0) for i, each in enumerate(every)]


@settings(max_examples=150, deadline=None)
@given(pools(), st.integers(1, 70), st.integers(0, 3), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_draw(pool, number, seed, least, shuffler):
    counts = Counter(label for clip in pool for label in clip.labels)
    try:
        drawn = draw(iter(pool), number, seed, least, "here")
    except UserError as error:
        needed = int(re.fullmatch(r"here: .*give at least (\d+)", str(error))[1])
        assert number < needed <= least * len(counts)
        drawn, number = draw(pool, needed, seed, least), needed
    assert len(drawn) == min(number, len(pool))
    assert drawn == [clip for clip in pool if clip in drawn], "not once each, in the list's order"
    got = Counter(label for clip in drawn for label in clip.labels)
    assert all(got[label] >= min(least, count) for label, count in counts.items())
    shuffled = shuffler.sample(pool, len(pool))
    assert set(draw(shuffled, number, seed, least)) == set(drawn), "depends on the list's order"
    assert set(drawn) <= set(draw(pool, number + 1, seed, least)), "a larger draw is another one"


@pytest.mark.parametrize("seed", range(20))
def test_the_rarest_class_comes_first_so_that_few_clips_keep_all(seed):
    labels = [("/m/1",)] * 5 + [("/m/1", "/m/2")]
    pool = [Clip(f"Y{ytid(i)}_0", ytid(i), "", each) for i, each in enumerate(labels)]
    assert draw(pool, 1, seed, 1) == [pool[5]]


def test_the_draw_is_even():
    pool = [Clip(f"Y{ytid(i)}_0", ytid(i), "", ("/m/1",)) for i in range(100)]
    times = Counter(clip for seed in range(400) for clip in draw(pool, 25, seed))
    # Each of 100 is drawn in a quarter of 400 draws: 100 times, with a standard deviation of 8.7.
    assert len(times) == 100 and min(times.values()) > 60 and max(times.values()) < 140
