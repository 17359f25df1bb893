"""What a strategy is, and the loop that runs one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple

from audionas.search.space import Configuration, SearchSpace


class Strategy(ABC, Generic[Configuration]):
    """Asks for configurations and is told their scores, until it asks for no more."""

    @abstractmethod
    def ask(self) -> Sequence[Configuration]:
        """Configurations to score; none when the search is over."""

    @abstractmethod
    def tell(self, scores: Mapping[Configuration, float]) -> None:
        """The scores of the configurations that the last `ask` returned; the higher, the better."""


class Found(NamedTuple, Generic[Configuration]):
    """The result of a search.

    Attributes:
        configuration: the best one.
        scored: how many different configurations the strategy asked for.
    """

    configuration: Configuration
    scored: int


def rank(space: SearchSpace[Configuration], configuration: Configuration, score: float) -> tuple[float, ...]:
    """Sort key, best first: the highest score, then the fewest parameters, then the least encoding."""
    return -score, space.costs(configuration).params, *space.encode(configuration).tolist()


def search(
    strategy: Strategy[Configuration],
    space: SearchSpace[Configuration],
    scores: Mapping[Configuration, float],
) -> Found[Configuration]:
    """Run a strategy to its end; the best configuration that it asked for.

    Args:
        scores: score of (at least) every configuration that the strategy may ask for.
    """
    seen: dict[Configuration, float] = {}
    while asked := strategy.ask():
        told = {configuration: scores[configuration] for configuration in asked}
        strategy.tell(told)
        seen |= told
    return Found(min(seen, key=lambda each: rank(space, each, seen[each])), len(seen))
