"""The strategy interface, and the search loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple

from audionas.search.space import Configuration, SearchSpace


class Strategy(ABC, Generic[Configuration]):
    """A search strategy with the ask-and-tell interface."""

    @abstractmethod
    def ask(self) -> Sequence[Configuration]:
        """Return the next configurations to score; an empty sequence ends the search."""

    @abstractmethod
    def tell(self, scores: Mapping[Configuration, float]) -> None:
        """Receive the scores of the configurations from the last `ask`; higher is better."""


class Found(NamedTuple, Generic[Configuration]):
    """The result of a search.

    Attributes:
        configuration: the best configuration.
        scored: number of distinct configurations that the strategy asked for.
    """

    configuration: Configuration
    scored: int


def rank(space: SearchSpace[Configuration], configuration: Configuration, score: float) -> tuple[float, ...]:
    """Return a sort key, best first: highest score, then fewest parameters, then smallest encoding."""
    return -score, space.costs(configuration).params, *space.encode(configuration).tolist()


def search(
    strategy: Strategy[Configuration],
    space: SearchSpace[Configuration],
    scores: Mapping[Configuration, float],
) -> Found[Configuration]:
    """Run a strategy to its end, and return the best configuration that it asked for.

    Args:
        strategy: strategy to run.
        space: search space of the configurations; breaks ties.
        scores: score of every configuration that the strategy may ask for.
    """
    seen: dict[Configuration, float] = {}
    while asked := strategy.ask():
        results = {configuration: scores[configuration] for configuration in asked}
        strategy.tell(results)
        seen |= results
    return Found(min(seen, key=lambda each: rank(space, each, seen[each])), len(seen))
