"""Selection of the strategy from `params.yaml`."""

from __future__ import annotations

from collections.abc import Sequence

from audionas.search.space import Configuration, SearchSpace
from audionas.search.strategies.base import Strategy
from audionas.search.strategies.evolution import Evolution
from audionas.search.strategies.exhaustive import Exhaustive
from audionas.search.strategies.random import Random
from audionas.settings.search import Search


def strategy_of(
    settings: Search,
    space: SearchSpace[Configuration],
    candidates: Sequence[Configuration],
    seed: int,
) -> Strategy[Configuration]:
    """Return the strategy of `search.strategy` for the candidates that meet a constraint."""
    if settings.strategy == "random":
        return Random(candidates, settings.population, seed)
    if settings.strategy == "evolution":
        return Evolution(space, candidates, settings.evolution, seed)
    return Exhaustive(candidates)
