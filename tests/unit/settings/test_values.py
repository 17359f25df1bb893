"""Sizes, shapes and budgets as text."""

import pytest

from audionas.settings.values import parse_constraint, parse_size
from audionas.systems.once_for_all.config import parse_shape


@pytest.mark.parametrize("text, value", [("0.9M", 900_000), ("60k", 60_000), ("1234", 1234), (5, 5)])
def test_sizes_are_read(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1T", "0.9 MB", "1e6"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="number of parameters"):
        parse_size(text)


def test_shapes_are_read():
    assert parse_shape("0.6x1") == (0.6, 1) and parse_shape("1.0x2") == (1.0, 2)
    for text in ("0.6", "0.6x3", "2.0x1"):
        with pytest.raises(ValueError, match="RATIOxDEPTH"):
            parse_shape(text)


@pytest.mark.parametrize(
    "text, constraint",
    [("0.9M", (900_000, None)), ("1.2Gmacs", (None, 1_200_000_000)), ("900k_1Gmacs", (900_000, 10**9))],
)
def test_budgets_are_read(text, constraint):
    assert parse_constraint(text) == constraint


@pytest.mark.parametrize("text", ["", "macs", "0", "900k_1M", "1Gmacs_1Gmacs", "9k_", "9k 1Gmacs", "../x"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(ValueError, match="is not a budget; write"):
        parse_constraint(text)
