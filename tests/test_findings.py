"""What the study says of the paper's findings, on made scores and predictions with planted differences."""

import numpy as np
import pandas as pd
import pytest

from audionas.config import Study
from audionas.reporting.findings import steadier

STUDY = Study(
    spaces=["2-2-x", "x-x-x"],
    constraints=["26k", "61k", "112k"],
    sizes=["0.6x1"],
    finetune_iterations=[1],
    seeds=[0, 1, 2],
    draws=60,
)


def near(rng, spread: float = 1.0, alike: float = 0.3) -> pd.DataFrame:
    """Scores near three constraints, of which seeds have most in common; x-x-x deviates `spread` times as much."""
    rows = []
    for space, counts, scale in (("2-2-x", (6, 16, 2), 1.0), ("x-x-x", (37, 42, 9), spread)):
        for constraint, count in zip(STUDY.constraints, counts, strict=True):
            of_all = rng.normal(0, 1, count)
            for seed in STUDY.seeds:
                scores = 60 + scale * (of_all + rng.normal(0, alike, count))
                rows += [(space, constraint, seed, str(i), score) for i, score in enumerate(scores)]
    return pd.DataFrame(rows, columns=["space", "constraint", "seed", "network", "valid mAP"])


def test_spaces_of_one_spread_are_seldom_called_steadier():
    rng, trials = np.random.default_rng(0), 250
    wrong = sum(steadier(near(rng), "x-x-x", STUDY)[0].certain for _ in range(trials))
    assert wrong / trials <= 0.07


def test_a_space_that_deviates_more_is_found_by_the_constraints_that_hold_enough():
    table = near(np.random.default_rng(0), spread=3.0)
    by, constraints = steadier(table, "x-x-x", STUDY)
    assert constraints == ["26k", "61k"] and by.certain
    groups = table[table.constraint != "112k"].groupby(["constraint", "seed", "space"])["valid mAP"]
    deviations = groups.agg(lambda s: (s - s.median()).abs().mean()).unstack()
    each = (deviations["x-x-x"] - deviations["2-2-x"]).groupby("seed").mean() / 100
    assert by.seeds == pytest.approx(each.tolist())
    shuffled, _ = steadier(table.sample(frac=1, random_state=0), "x-x-x", STUDY)
    assert shuffled.seeds == by.seeds and shuffled.margin == by.margin  # whatever the rows' order
    other, _ = steadier(near(np.random.default_rng(0), spread=1 / 3), "x-x-x", STUDY)
    assert other.mean < 0 and other.certain


def test_constraints_with_few_sub_networks_are_not_compared():
    table = near(np.random.default_rng(0))
    assert steadier(table[table.network.astype(int) < 4], "x-x-x", STUDY) is None
