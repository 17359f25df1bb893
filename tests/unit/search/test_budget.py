"""Budgets: selection of configurations within and near a budget."""

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from words import Words

from audionas.cli import main
from audionas.runtime.errors import UserError
from audionas.search import budget
from audionas.search.cnn10 import Cnn10Space
from audionas.search.space import FiniteSpace
from audionas.settings.values import Constraint, parse_constraint


def near(space: FiniteSpace, text: str, tolerance: int = 100_000):
    return budget.near(space, parse_constraint(text), tolerance)


def test_windows_hold_what_the_reference_says():
    space = Cnn10Space("2-2-x")
    assert [len(near(space, n)) for n in ("0.9M", "1.8M", "2.7M", "3.6M")] == [3, 12, 6, 3]


def test_a_constraint_on_multiply_adds_bounds_them_and_joins_one_on_parameters():
    space = Cnn10Space("x-x-x")
    macs = {s: space.costs(s).macs for s in space}
    assert set(near(space, "5Gmacs")) == {s for s in space if macs[s] <= 5e9}
    both = near(space, "1.8M_5Gmacs")
    assert both and set(both) == set(near(space, "1.8M")) & set(near(space, "5Gmacs"))


def test_a_constraint_nobody_meets_names_the_nearest_sizes():
    space = Cnn10Space("2-2-x")
    with pytest.raises(UserError, match=r"has 100,000 \+- 1,000 .* nearest have 794,666"):
        near(space, "100k", 1_000)
    with pytest.raises(UserError, match=r"nearest have [\d,]+ and [\d,]+: change"):
        near(space, "850k", 0)
    with pytest.raises(
        UserError, match=r"has at most 1,000 multiply-adds; the nearest need [\d,]+ multiply-adds"
    ):
        near(space, "1kmacs")
    with pytest.raises(UserError, match=r"parameters and at most 1,000 multiply-adds"):
        near(space, "0.9M_1kmacs")


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["x-x-x", "2-2-x", "ew"]),
    params=st.none() | st.integers(600_000, 6_000_000),
    macs=st.none() | st.integers(10**8, 3 * 10**9),
)
def test_what_is_within_a_budget_is_all_that_keeps_it(name, params, macs):
    space = Cnn10Space(name, frames=301)
    costs = {s: space.costs(s) for s in space}
    kept = [
        s
        for s, (of_params, of_macs) in costs.items()
        if (params is None or of_params <= params) and (macs is None or of_macs <= macs)
    ]
    if kept:
        assert budget.within(space, Constraint(params, macs)) == kept
    else:
        with pytest.raises(UserError, match=r"at most [\d,]+ .*, and the smallest has [\d,]+.*; raise the"):
            budget.within(space, Constraint(params, macs))


def test_budgets_hold_for_any_finite_space():
    space = Words()
    assert budget.within(space, Constraint(1)) == ["aaaa", "aaab", "aaba", "abaa", "baaa"]
    assert budget.near(space, Constraint(11), 0) == ["cddd", "dcdd", "ddcd", "dddc"]
    assert budget.near(space, Constraint(11, 100), 1) == budget.near(space, Constraint(10), 0)
    with pytest.raises(UserError, match=r"space words has 20 \+- 1 parameters; the nearest have 12: change"):
        budget.near(space, Constraint(20), 1)


def test_a_budget_that_only_networks_above_it_are_near_is_refused_by_check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path, study=tiny.PARAMS["study"] | {"constraints": ["2k"]})
    assert main(["check"]) == 1
    assert (
        "study.constraints: 2k: no sub-network of space 2-2-x has at most 2,000 parameters, and the smallest "
        "has 2,159; raise the budget" in capsys.readouterr().err
    )
