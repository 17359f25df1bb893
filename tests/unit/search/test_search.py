"""The search space's budgets, scoring with shared prefixes, and random search."""

from pathlib import Path

import limits
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from audionas.cli import main
from audionas.data.store import ClipStore
from audionas.evaluation.metrics import mean_average_precision
from audionas.evaluation.prediction import calibration_batches, predict
from audionas.models.calibration import calibrate
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import Cnn10Architecture, Cnn10Space
from audionas.search.strategies import Evolution, Exhaustive, Random, search, strategy_of
from audionas.settings.search import Evolution as EvolutionSettings
from audionas.settings.search import Search
from audionas.settings.values import Constraint, parse_constraint, parse_size
from audionas.supernet.cnn10 import Cnn10Supernet, calibrate_all, extract
from audionas.supernet.scoring import predict_all, read_scores, score_space
from audionas.systems.once_for_all.config import parse_shape


def near(space: Cnn10Space, text: str, tolerance: int = 100_000):
    return space.near(parse_constraint(text), tolerance, 1001)


def test_windows_hold_what_the_reference_says():
    space = Cnn10Space("2-2-x")
    assert [len(near(space, n)) for n in ("0.9M", "1.8M", "2.7M", "3.6M")] == [3, 12, 6, 3]


def test_a_constraint_on_multiply_adds_bounds_them_and_joins_one_on_parameters():
    space = Cnn10Space("x-x-x")
    macs = {s: space.architecture.multiply_adds(s, 1001) for s in space}
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


@pytest.fixture
def stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    return ClipStore("data/logmel/train.h5"), ClipStore("data/logmel/valid.h5")


def test_scores_that_the_disk_has_no_room_for_are_an_error_before_the_first(stores):
    train, valid = stores
    space = Cnn10Space("x-x-x", Cnn10Architecture(4, 4, 16))
    supernet = Cnn10Supernet(space.architecture)
    seen = []
    supernet.block1.register_forward_hook(lambda *_: seen.append(1))
    batches = calibration_batches(train, 8, 2)
    statistics = calibrate_all(supernet, space.subnetworks, batches)
    seen.clear()
    with limits.largest_file(10_000), pytest.raises(UserError, match="File too large; raise the limit"):
        predict_all(supernet, space.subnetworks, statistics, valid)
    assert not seen and not list(Path().glob(".*"))


@pytest.mark.parametrize("name", ["x-x-x", "ew"])
def test_shared_scores_equal_scoring_each_extracted_network_by_itself(stores, name):
    train, valid = stores
    torch.manual_seed(0)
    space = Cnn10Space(name, Cnn10Architecture(4, 4, 16))
    supernet = Cnn10Supernet(space.architecture)
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


@pytest.fixture
def scored():
    space = Cnn10Space("x-x-x")
    return space, dict(zip(space, np.random.default_rng(0).random(len(space)), strict=True))


def test_exhaustive_search_is_the_best_of_all(scored):
    space, scores = scored
    candidates = near(space, "2M", 300_000)
    found = search(Exhaustive(candidates), space, scores)
    assert found == (max(candidates, key=scores.get), len(candidates))
    ties = dict.fromkeys(space, 0.5)
    assert search(Exhaustive(candidates), space, ties).subnetwork == min(candidates, key=space.parameters)


def test_random_search_is_best_of_a_seeded_draw_near_the_constraint(scored):
    space, scores = scored
    candidates = near(space, "2M", 300_000)
    everything = search(Random(candidates, 10**6, 0), space, scores)
    assert everything == search(Exhaustive(candidates), space, scores)
    few = [search(Random(candidates, 3, seed), space, scores).subnetwork for seed in range(50)]
    assert set(few) <= set(candidates) and len(set(few)) > 10
    assert few[7] == search(Random(candidates, 3, 7), space, scores).subnetwork
    # the best of 3 of n lies, on average, near the top quarter
    ranks = [sorted(candidates, key=scores.get, reverse=True).index(s) / len(candidates) for s in few]
    assert 0.1 < np.mean(ranks) < 0.4


def additive(space):
    """Scores as of networks: each width and depth adds its own, and a little is noise."""
    chance = np.random.default_rng(1)
    worth = chance.random((3, 2, 4))
    return {
        s: sum(
            worth[i, d - 1, round(5 * r) - 2] for i, (r, d) in enumerate(zip(s.ratios, s.depths, strict=True))
        )
        + 0.05 * chance.random()
        for s in space
    }


@pytest.mark.parametrize("budget, tolerance", [("2M", 300_000), ("5Gmacs", 0), ("0.9M", 20_000)])
def test_evolution_scores_candidates_alone(budget, tolerance):
    space = Cnn10Space("x-x-x")
    scores, candidates = additive(space), near(space, budget, tolerance)
    evolution = EvolutionSettings(population=8, generations=6)
    found = [search(Evolution(space, candidates, evolution, 3), space, scores) for _ in range(2)]
    assert found[0] == found[1] and found[0].subnetwork in candidates
    assert found[0].scored <= min(len(candidates), 8 * 6)


def test_evolution_finds_better_than_as_many_at_random():
    space = Cnn10Space("x-x-x")
    scores, everything = additive(space), space.subnetworks
    evolution = EvolutionSettings(population=10, generations=6)
    found = [search(Evolution(space, everything, evolution, seed), space, scores) for seed in range(40)]
    drawn = [search(Random(everything, f.scored, seed), space, scores) for seed, f in enumerate(found)]
    assert np.mean([scores[f.subnetwork] for f in found]) > np.mean([scores[d.subnetwork] for d in drawn])


def test_a_generation_is_its_parents_and_as_many_children_as_asked_for():
    space = Cnn10Space("x-x-x")
    strategy = Evolution(space, space.subnetworks, EvolutionSettings(population=20, generations=2), 0)
    first = strategy.ask()
    strategy.tell({s: space.parameters(s) for s in first})
    second = strategy.ask()
    parents = sorted(first, key=space.parameters, reverse=True)[:5]
    assert len(first) == 20 and len(second) == 5 + 20 and list(second[:5]) == parents
    assert not strategy.ask()


def test_once_for_alls_evolution_finds_the_best_of_a_space():
    space = Cnn10Space("x-x-x")
    scores = additive(space)
    found = search(Evolution(space, space.subnetworks, EvolutionSettings(), 0), space, scores)
    assert scores[found.subnetwork] == max(scores.values()) and found.scored < len(space)


@given(st.integers(0, 10**6), st.floats(0.01, 1), st.floats(0, 1), st.floats(0.01, 1), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_evolution_ends_and_stays_within_the_candidates(seed, parents, mutated, probability, population):
    space = Cnn10Space("2-2-x")
    candidates = near(space, "0.9M")
    evolution = EvolutionSettings(
        population=population,
        generations=4,
        parent_share=parents,
        mutated_share=mutated,
        mutation_probability=probability,
    )
    strategy, asked = Evolution(space, candidates, evolution, seed), 0
    while generation := strategy.ask():
        assert population <= len(generation) <= 2 * population and set(generation) <= set(candidates)
        strategy.tell(dict.fromkeys(generation, 0.0))
        asked += 1
    assert asked == 4


def test_params_name_the_strategy(scored):
    space, _ = scored
    for name, kind in (("exhaustive", Exhaustive), ("random", Random), ("evolution", Evolution)):
        assert type(strategy_of(Search(strategy=name), space, space.subnetworks, 0)) is kind


def test_scores_of_another_space_or_damaged_are_refused(stores, tmp_path):
    space = Cnn10Space("2-2-x", Cnn10Architecture(4, 4, 16))
    path = Path("scores.csv")
    with pytest.raises(UserError, match=r"scores.csv: no such file"):
        read_scores(path, space, 33)
    train, valid = stores
    score_space(Cnn10Supernet(space.architecture), space, calibration_batches(train, 8, 1), valid).to_csv(
        path, index=False
    )
    assert len(read_scores(path, space, 33)) == 128
    other = Path("other.pt")
    other.write_bytes(b"another")
    with pytest.raises(UserError, match=r"scores.csv: the scores of another supernet than other.pt; give"):
        read_scores(path, space, 33, other)
    with pytest.raises(UserError, match="not the sub-networks of space"):
        read_scores(path, Cnn10Space("2-2-x"), 33)
    table = pd.read_csv(path)
    for wrong in (1.01, -0.01, float("nan")):
        table.assign(mAP=table.mAP.where(table.index != 5, wrong)).to_csv("wrong.csv", index=False)
        with pytest.raises(UserError, match=r"wrong.csv: its scores are not all between 0 and 1; give"):
            read_scores(Path("wrong.csv"), space, 33)
    table.head(60).to_csv(path, index=False)
    with pytest.raises(UserError, match="not the sub-networks"):
        read_scores(path, space, 33)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["x-x-x", "2-2-x", "ew"]),
    params=st.none() | st.integers(600_000, 6_000_000),
    macs=st.none() | st.integers(10**8, 3 * 10**9),
)
def test_what_is_within_a_budget_is_all_that_keeps_it(name, params, macs):
    space = Cnn10Space(name)
    costs = {s: (space.parameters(s), space.architecture.multiply_adds(s, 301)) for s in space}
    kept = [
        s
        for s, (of_params, of_macs) in costs.items()
        if (params is None or of_params <= params) and (macs is None or of_macs <= macs)
    ]
    if kept:
        assert space.within(Constraint(params, macs), 301) == kept
    else:
        with pytest.raises(UserError, match=r"at most [\d,]+ .*, and the smallest has [\d,]+.*; raise the"):
            space.within(Constraint(params, macs), 301)


def test_a_budget_that_only_networks_above_it_are_near_is_refused_by_check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path, study=tiny.PARAMS["study"] | {"constraints": ["2k"]})
    assert main(["check"]) == 1
    assert (
        "study.constraints: 2k: no sub-network of space 2-2-x has at most 2,000 parameters, and the smallest "
        "has 2,159; raise the budget" in capsys.readouterr().err
    )
