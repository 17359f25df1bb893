"""The search space's budgets, scoring with shared prefixes, and random search."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from sklearn.metrics import average_precision_score

from audionas.config import parse_shape, parse_size
from audionas.errors import UserError
from audionas.evaluation import calibration_batches, mean_average_precision, predict
from audionas.models import Supernet, extract
from audionas.models.architecture import Architecture
from audionas.models.calibration import calibrate
from audionas.search import SearchSpace
from audionas.search.scoring import read_scores, score_space
from audionas.search.strategies import random_search
from audionas.store import ClipStore


def test_windows_hold_what_the_reference_says():
    space = SearchSpace("2-2-x")
    assert [len(space.near(parse_size(n), parse_size("0.1M"))) for n in ("0.9M", "1.8M", "2.7M", "3.6M")] == [
        3, 12, 6, 3
    ]  # fmt: skip


def test_a_constraint_nobody_meets_names_the_nearest_sizes():
    with pytest.raises(UserError, match=r"has 100,000 \+- 1,000 .* nearest have 794,666"):
        SearchSpace("2-2-x").near(100_000, 1_000)
    with pytest.raises(UserError, match=r"nearest have [\d,]+ and [\d,]+: change"):
        SearchSpace("2-2-x").near(1_000_000, 10)
    with pytest.raises(UserError, match="not one of"):
        SearchSpace("3-3-3")


@pytest.mark.parametrize("text, value", [("0.9M", 900_000), ("60k", 60_000), ("1234", 1234), (5, 5)])
def test_sizes_are_read(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1G", "0.9 MB", "1e6"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="number of parameters"):
        parse_size(text)


def test_shapes_are_read():
    assert parse_shape("0.6x1") == (0.6, 1) and parse_shape("1.0x2") == (1.0, 2)
    for text in ("0.6", "0.6x3", "2.0x1"):
        with pytest.raises(ValueError, match="RATIOxDEPTH"):
            parse_shape(text)


@pytest.fixture
def stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    return ClipStore("data/logmel/train.h5"), ClipStore("data/logmel/valid.h5")


@pytest.mark.parametrize("name", ["x-x-x", "ew"])
def test_shared_scores_equal_scoring_each_extracted_network_by_itself(stores, name):
    train, valid = stores
    torch.manual_seed(0)
    space = SearchSpace(name, Architecture(4, 4, 16))
    supernet = Supernet(space.architecture)
    batches = calibration_batches(train, 8, 2)
    table = score_space(supernet, space, batches, valid, batch_size=5)
    assert list(table.columns[:8]) == ["r2", "r3", "r4", "d2", "d3", "d4", "params", "macs"]
    assert len(table) == len(space) and table.mAP.nunique() > 10
    for i in range(0, len(space), 37):
        network = extract(supernet, space.subnetworks[i])
        calibrate(network, batches)
        alone = predict(network, valid)
        assert table.mAP[i] == pytest.approx(mean_average_precision(valid.labels, alone), abs=1e-9)
        assert table.mAP[i] == pytest.approx(average_precision_score(valid.labels, alone), abs=1e-9)


def test_random_search_is_best_of_a_seeded_draw_near_the_constraint():
    space = SearchSpace("x-x-x")
    scores = dict(zip(space, np.random.default_rng(0).random(len(space)), strict=True))
    near = space.near(2_000_000, 300_000)
    options = {"constraint": 2_000_000, "tolerance": 300_000}
    everything = random_search(space, scores, population=10**6, seed=0, **options)
    assert everything == max(near, key=scores.get)
    few = [random_search(space, scores, population=3, seed=seed, **options) for seed in range(50)]
    assert set(few) <= set(near) and len(set(few)) > 10
    assert few[7] == random_search(space, scores, population=3, seed=7, **options)
    # the best of 3 of n lies, on average, near the top quarter
    ranks = [sorted(near, key=scores.get, reverse=True).index(s) / len(near) for s in few]
    assert 0.1 < np.mean(ranks) < 0.4


def test_scores_of_another_space_or_damaged_are_refused(stores, tmp_path):
    space = SearchSpace("2-2-x", Architecture(4, 4, 16))
    path = Path("scores.csv")
    with pytest.raises(UserError, match=r"scores.csv: not a readable"):
        read_scores(path, space, 33)
    train, valid = stores
    score_space(Supernet(space.architecture), space, calibration_batches(train, 8, 1), valid).to_csv(
        path, index=False
    )
    assert len(read_scores(path, space, 33)) == 128
    with pytest.raises(UserError, match="not the sub-networks of space"):
        read_scores(path, SearchSpace("2-2-x"), 33)
    pd.read_csv(path).head(60).to_csv(path, index=False)
    with pytest.raises(UserError, match="not the sub-networks"):
        read_scores(path, space, 33)
