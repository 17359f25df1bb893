"""Search strategies: requests, results, and support for any search space."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from words import Words

from audionas.search.budget import near
from audionas.search.cnn10 import Cnn10Space
from audionas.search.strategies.base import rank, search
from audionas.search.strategies.evolution import Evolution
from audionas.search.strategies.exhaustive import Exhaustive
from audionas.search.strategies.random import Random
from audionas.search.strategies.registry import strategy_of
from audionas.settings.search import Evolution as EvolutionSettings
from audionas.settings.search import Search
from audionas.settings.values import Constraint, parse_constraint


@pytest.fixture
def scored():
    space = Cnn10Space("x-x-x")
    return space, dict(zip(space, np.random.default_rng(0).random(len(space)), strict=True))


def test_exhaustive_search_is_the_best_of_all(scored):
    space, scores = scored
    candidates = near(space, Constraint(2_000_000), 300_000)
    found = search(Exhaustive(candidates), space, scores)
    assert found == (max(candidates, key=scores.get), len(candidates))
    ties = dict.fromkeys(space, 0.5)
    assert search(Exhaustive(candidates), space, ties).configuration == min(
        candidates, key=space.architecture.parameters
    )


def test_random_search_is_best_of_a_seeded_draw_near_the_constraint(scored):
    space, scores = scored
    candidates = near(space, Constraint(2_000_000), 300_000)
    everything = search(Random(candidates, 10**6, 0), space, scores)
    assert everything == search(Exhaustive(candidates), space, scores)
    few = [search(Random(candidates, 3, seed), space, scores).configuration for seed in range(50)]
    assert set(few) <= set(candidates) and len(set(few)) > 10
    assert few[7] == search(Random(candidates, 3, 7), space, scores).configuration
    # the best of 3 of n lies, on average, near the top quarter
    ranks = [sorted(candidates, key=scores.get, reverse=True).index(s) / len(candidates) for s in few]
    assert 0.1 < np.mean(ranks) < 0.4


def additive(space):
    """Synthetic scores: a contribution of each width and depth, plus noise."""
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
    scores, candidates = additive(space), near(space, parse_constraint(budget), tolerance)
    evolution = EvolutionSettings(population=8, generations=6)
    found = [search(Evolution(space, candidates, evolution, 3), space, scores) for _ in range(2)]
    assert found[0] == found[1] and found[0].configuration in candidates
    assert found[0].scored <= min(len(candidates), 8 * 6)


def test_evolution_finds_better_than_as_many_at_random():
    space = Cnn10Space("x-x-x")
    scores, everything = additive(space), list(space)
    evolution = EvolutionSettings(population=10, generations=6)
    found = [search(Evolution(space, everything, evolution, seed), space, scores) for seed in range(40)]
    drawn = [search(Random(everything, f.scored, seed), space, scores) for seed, f in enumerate(found)]
    assert np.mean([scores[f.configuration] for f in found]) > np.mean(
        [scores[d.configuration] for d in drawn]
    )


def test_a_generation_is_its_parents_and_as_many_children_as_asked_for():
    space = Cnn10Space("x-x-x")
    strategy = Evolution(space, space, EvolutionSettings(population=20, generations=2), 0)
    first = strategy.ask()
    strategy.tell({s: space.costs(s).params for s in first})
    second = strategy.ask()
    parents = sorted(first, key=space.architecture.parameters, reverse=True)[:5]
    assert len(first) == 20 and len(second) == 5 + 20 and list(second[:5]) == parents
    assert not strategy.ask()


def test_once_for_alls_evolution_finds_the_best_of_a_space():
    space = Cnn10Space("x-x-x")
    scores = additive(space)
    found = search(Evolution(space, space, EvolutionSettings(), 0), space, scores)
    assert scores[found.configuration] == max(scores.values()) and found.scored < len(space)


@given(st.integers(0, 10**6), st.floats(0.01, 1), st.floats(0, 1), st.floats(0.01, 1), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_evolution_ends_and_stays_within_the_candidates(seed, parents, mutated, probability, population):
    space = Cnn10Space("2-2-x")
    candidates = near(space, Constraint(900_000), 100_000)
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
        assert type(strategy_of(Search(strategy=name), space, space, 0)) is kind


GOLDEN_SETTINGS = {
    "default": EvolutionSettings(population=10, generations=8),
    "mutations": EvolutionSettings(
        population=8, generations=10, parent_share=0.1, mutated_share=1.0, mutation_probability=0.5
    ),
    "crossings": EvolutionSettings(population=12, generations=6, parent_share=0.5, mutated_share=0.0),
}


@pytest.mark.parametrize(
    "name, params, tolerance, kind, asked, found, scored",
    [
        ("x-x-x", 5_219_279, 5_219_279, "default", "275c113be6932ce1", "0.6x1 0.8x1 0.8x1", 27),
        ("x-x-x", 5_219_279, 5_219_279, "mutations", "40ef6ab722154071", "0.8x1 1x2 1x2", 63),
        ("x-x-x", 5_219_279, 5_219_279, "crossings", "81da9a8e2a575a1d", "0.6x1 0.8x1 0.8x1", 30),
        ("2-2-x", 1_800_000, 300_000, "default", "6e0a954f37154c2e", "0.4x2 0.8x2 0.6x1", 14),
        ("2-2-x", 1_800_000, 300_000, "mutations", "f0776579daa7eeae", "0.8x2 0.6x2 0.8x1", 20),
        ("2-2-x", 1_800_000, 300_000, "crossings", "23cce1194b814179", "0.4x2 0.8x2 0.6x1", 14),
        ("ew", 1_500_000, 700_000, "default", "48ba5da059203bb4", "0.8x2 0.8x2 0.4x2", 14),
        ("ew", 1_500_000, 700_000, "mutations", "5f5bb096a1d7259a", "0.4x2 0.2x2 0.4x2", 32),
        ("ew", 1_500_000, 700_000, "crossings", "9b85fc7043722361", "0.8x2 0.8x2 0.4x2", 18),
    ],
)
def test_evolution_asks_for_what_version_0_1_0_asked_for(name, params, tolerance, kind, asked, found, scored):
    """Recorded from version 0.1.0, which supported only CNN10: the results must not change."""
    space = Cnn10Space(name)
    scores = dict(zip(space, np.random.default_rng(0).random(len(space)).round(2), strict=True))
    strategy = Evolution(space, near(space, Constraint(params), tolerance), GOLDEN_SETTINGS[kind], 5)
    lines, seen = [], {}
    while generation := strategy.ask():
        strategy.tell({s: scores[s] for s in generation})
        seen |= {s: scores[s] for s in generation}
        lines += [" ".join(map(str, (*s.ratios, *s.depths))) for s in generation]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == asked
    assert str(min(seen, key=lambda s: rank(space, s, seen[s]))) == found and len(seen) == scored


@pytest.mark.parametrize("name", ["exhaustive", "random", "evolution"])
def test_a_strategy_searches_any_space(name):
    space = Words()
    scores = {word: -abs(space.costs(word).params - 5) - 0.1 * word.count("d") for word in space}
    candidates = near(space, Constraint(4), 2)
    evolution = EvolutionSettings(population=10, generations=20)
    chosen = Search(strategy=name, population=len(candidates), evolution=evolution)
    found, scored = search(strategy_of(chosen, space, candidates, 0), space, scores)
    assert found in candidates and scored <= len(candidates)
    assert scores[found] == max(scores[word] for word in candidates) == 0


def test_of_equal_scores_the_smaller_wins_and_then_the_least_encoding():
    space = Words()
    found, _ = search(Exhaustive(space), space, dict.fromkeys(space, 0.5))
    assert found == "aaaa"
    assert rank(space, "abaa", 0.5) > rank(space, "aaab", 0.5) > rank(space, "dddd", 0.6)
