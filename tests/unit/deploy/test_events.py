"""Windows and events: the definitions, written out, give the same for every length and block."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.deploy.events import Event, Window, cut, merge, parse_thresholds, smoothed
from audionas.runtime.errors import UserError

LABELS, NAMES = ["/m/1", "/m/2", "/m/3"], ["Dog", "Rain = water", "Bell"]


@st.composite
def cuts(draw):
    """The blocks of a waveform of distinct samples, a window and a hop."""
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=8))
    size = draw(st.integers(1, 30))
    return sizes, size, draw(st.integers(1, size))


@given(cuts())
def test_windows_are_those_of_the_whole_waveform(drawn):
    sizes, size, hop = drawn
    wave = np.arange(1, sum(sizes) + 1, dtype=np.float32)
    got = list(cut(np.split(wave, np.cumsum(sizes)[:-1]), size, hop))
    starts = [start for start in range(0, len(wave), hop) if start + size <= len(wave)]
    if len(wave) < size and len(wave):
        starts = [0]
    elif len(wave) and starts[-1] + size < len(wave):
        starts.append(len(wave) - size)
    assert [(start, end) for start, end, _ in got] == [(s, min(s + size, len(wave))) for s in starts]
    for start, end, window in got:
        assert window.shape == (size,) and window.dtype == np.float32
        assert np.array_equal(window[: end - start], wave[start:end]) and not window[end - start :].any()
    assert {x for _, _, window in got for x in window} - {0} == set(wave)  # every sample is in a window


def test_a_long_waveform_is_cut_with_little_memory():
    held = []

    def blocks():
        for _ in range(200):
            block = np.ones(1000, np.float32)
            held.append(block)
            yield block

    most = 0
    for _, _, window in cut(blocks(), 500, 250):
        most = max(most, window.base.size if window.base is not None else window.size)
    assert len(held) == 200 and most <= 2000


def windows(rows, hop=1.0, size=1.0):
    return [Window(i * hop, i * hop + size, np.array(row, np.float32)) for i, row in enumerate(rows)]


PROBABILITIES = st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), max_size=15)


@given(PROBABILITIES, st.sampled_from([1, 3, 5, 9]))
def test_smoothing_is_the_median_of_the_windows_around(rows, count):
    given, half = windows(rows), count // 2
    got = list(smoothed(iter(given), count))
    assert [(w.start, w.end) for w in got] == [(w.start, w.end) for w in given]
    for i, window in enumerate(got):
        near = rows[max(i - half, 0) : i + half + 1]
        np.testing.assert_allclose(window.probabilities, np.median(near, axis=0), rtol=1e-6, atol=1e-30)


@settings(max_examples=200)
@given(PROBABILITIES, st.sampled_from([(1.0, 1.0), (1.0, 2.0), (0.5, 2.0), (0.75, 1.0)]))
def test_events_are_the_joined_spans_of_the_windows_above_the_threshold(rows, hop_and_size):
    given, thresholds = windows(rows, *hop_and_size), np.array([0.5, 0.25, 1.0], np.float32)
    expected = []
    for of in range(3):
        spans, last = [], None
        for number, window in enumerate(given):
            p = window.probabilities[of]
            if p < thresholds[of]:
                continue
            if spans and (last == number - 1 or window.start < spans[-1][1]):
                spans[-1] = (spans[-1][0], window.end, max(spans[-1][2], p))
            else:
                spans.append((window.start, window.end, p))
            last = number
        expected += [Event(start, end, LABELS[of], NAMES[of], float(p)) for start, end, p in spans]
    got = list(merge(iter(given), thresholds, LABELS, NAMES))
    assert sorted(got, key=repr) == sorted(expected, key=repr)
    assert [event.end for event in got] == sorted(event.end for event in got)


def test_an_event_is_told_as_soon_as_it_is_over():
    read = []

    def live():
        for window in windows([[0.9, 0, 0], [0.8, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0.9]]):
            read.append(window)
            yield window

    events = merge(live(), np.full(3, 0.5, np.float32), LABELS, NAMES)
    assert next(events) == Event(0.0, 2.0, "/m/1", "Dog", pytest.approx(0.9))
    assert len(read) == 3
    assert [event.name for event in events] == ["Bell"]


def test_silence_is_no_event_whatever_the_threshold():
    assert not list(merge(windows([[0, 0, 0]] * 3), np.zeros(3, np.float32), LABELS, NAMES))


def parse(*given):
    return parse_thresholds(given, np.array([0.1, 0.2, 0.3]), LABELS, NAMES).tolist()


def test_thresholds_are_of_the_model_of_all_or_of_a_class():
    close = pytest.approx
    assert parse() == close([0.1, 0.2, 0.3])
    assert parse("0.6") == parse(0.6) == close([0.6] * 3)
    assert parse("0.6", "Dog=0.4", "/m/3=1") == close([0.4, 0.6, 1.0])
    assert parse("Rain = water=0.9") == close([0.1, 0.9, 0.3])
    assert parse("Dog=0.4", 0.6) == close([0.6] * 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("1.5", "1.5 is not a number from 0 to 1"),
        (-0.1, "-0.1 is not a number"),
        (math.nan, "nan is not a number"),
        ("Dog=", "nothing is not a number"),
        ("Dog", "Dog is not a number from 0 to 1; give 0.6 for all classes, or CLASS=0.6"),
        ("=0.6", "no class before the ="),
        ("Dogs=0.5", "no class Dogs; did you mean Dog"),
        ("xyz\x1b=0.5", r"no class xyz\\x1b; there are Dog; Rain = water; Bell"),
    ],
)
def test_a_threshold_that_is_none_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        parse(given)
