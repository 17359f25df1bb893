"""Sampling of sub-networks in a step."""

import hashlib

import numpy as np
import pytest

from audionas.search.cnn10 import Cnn10Space
from audionas.supernet.sampling import RULES


@pytest.mark.parametrize(
    "name, rule, drawn",
    [
        ("x-x-x", "uniform", "cd7130c78f772204"),
        ("x-x-x", "sandwich", "b806ab24209d2b0b"),
        ("2-2-x", "uniform", "687bec5d23ee8f1f"),
        ("2-2-x", "sandwich", "a141f7774c0fa71a"),
        ("ew", "uniform", "4ef2714caaf97687"),
        ("ew", "sandwich", "3051a4b6220d7400"),
    ],
)
def test_the_draws_are_those_of_version_0_1_0(name, rule, drawn):
    """Recorded from an earlier version: a seed must give the same supernet."""
    space = Cnn10Space(name)
    steps = [RULES[rule](space, 4, np.random.default_rng((0, step))) for step in range(200)]
    lines = [" ".join(map(str, (*s.ratios, *s.depths))) for step in steps for s in step]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == drawn
