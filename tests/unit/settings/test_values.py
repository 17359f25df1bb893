"""Sizes, shapes and budgets as text."""

import pytest

from audionas.settings.values import (
    BYTES,
    MICROJOULES,
    MILLISECONDS,
    parse_constraint,
    parse_quantity,
    parse_size,
)
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


@pytest.mark.parametrize(
    "text, units, value",
    [
        ("256kB", BYTES, 256_000),
        ("256 KiB", BYTES, 262_144),
        ("1.5MB", BYTES, 1_500_000),
        ("20ms", MILLISECONDS, 20),
        ("500us", MILLISECONDS, 0.5),
        ("0.25s", MILLISECONDS, 250),
        ("5mJ", MICROJOULES, 5_000),
        ("800µJ", MICROJOULES, 800),
    ],
)
def test_quantities_are_read_in_their_unit(text, units, value):
    assert parse_quantity(text, units) == pytest.approx(value)


@pytest.mark.parametrize(
    "text, units",
    [
        ("20", MILLISECONDS),
        ("20kB", MILLISECONDS),
        ("20MS", MILLISECONDS),
        ("256kb", BYTES),
        ("0ms", MILLISECONDS),
    ]
    + [(text, MICROJOULES) for text in ("", "mJ", "-1mJ", "1e3mJ", "5mJ\n", "5 kJ", "5.mJ", "nanJ")],
)
def test_what_is_no_quantity_is_refused_and_the_units_are_named(text, units):
    with pytest.raises(ValueError, match=f"is not a positive number with a unit; .*{next(iter(units))}"):
        parse_quantity(text, units)
