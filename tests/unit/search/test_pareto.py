"""The Pareto front compared with its definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audionas.search.pareto import pareto_front


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_a_point_is_on_the_front_where_no_other_is_as_cheap_and_as_good(points):
    costs, scores = np.array(points, float).reshape(-1, 2).T
    expected = [
        not any(
            (c <= cost and s >= score) and ((c, s) != (cost, score) or other < i)
            for other, (c, s) in enumerate(points)
        )
        for i, (cost, score) in enumerate(points)
    ]
    assert pareto_front(costs, scores).tolist() == expected


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=12))
def test_with_two_costs_a_point_is_on_the_front_where_no_other_is_at_least_as_good_in_all(points):
    costs, scores = np.array(points, float).reshape(-1, 3)[:, :2], np.array(points).reshape(-1, 3)[:, 2]
    expected = [
        not any(
            (a <= first and b <= second and s >= score) and ((a, b, s) != (first, second, score) or other < i)
            for other, (a, b, s) in enumerate(points)
        )
        for i, (first, second, score) in enumerate(points)
    ]
    assert pareto_front(costs, scores).tolist() == expected
