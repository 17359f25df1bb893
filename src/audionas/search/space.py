"""The search space protocol: all that strategies and budgets know of what they search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

Configuration = TypeVar("Configuration", bound=Hashable)


class Costs(NamedTuple):
    """What a network costs.

    Attributes:
        params: trainable parameters.
        macs: multiply-adds for one clip.
    """

    params: int
    macs: int


class SearchSpace(ABC, Generic[Configuration]):
    """Configurations of a network, and the operations that strategies build on.

    A configuration is any hashable value. A space knows the network's input, so that it can count costs.

    Attributes:
        name: as error messages and tables call the space.
    """

    name: str

    @abstractmethod
    def sample(self, generator: np.random.Generator) -> Configuration:
        """A random configuration, each as likely as any other."""

    @abstractmethod
    def mutate(
        self, configuration: Configuration, probability: float, generator: np.random.Generator
    ) -> Configuration:
        """A copy in which each choice is drawn again with this probability."""

    @abstractmethod
    def cross(
        self, first: Configuration, second: Configuration, generator: np.random.Generator
    ) -> Configuration:
        """A child that takes each choice from one of its parents, with equal probability."""

    @abstractmethod
    def encode(self, configuration: Configuration) -> np.ndarray:
        """Its choices as float64 [choices]: features of a model-based strategy. No two encode alike."""

    @abstractmethod
    def describe(self, configuration: Configuration) -> dict[str, Any]:
        """Its choices as columns of a table row."""

    @abstractmethod
    def costs(self, configuration: Configuration) -> Costs:
        """Its parameters and multiply-adds."""


class FiniteSpace(SearchSpace[Configuration], Sequence[Configuration]):
    """A search space that is the sequence of all its configurations.

    Args:
        name: as error messages and tables call the space.
        configurations: every configuration, once.
    """

    def __init__(self, name: str, configurations: Iterable[Configuration]):
        self.name = name
        self._configurations = list(configurations)

    def __len__(self) -> int:
        return len(self._configurations)

    def __getitem__(self, index):
        return self._configurations[index]

    def sample(self, generator: np.random.Generator) -> Configuration:
        """See `SearchSpace`; one draw of `generator.integers`."""
        return self[generator.integers(len(self))]

    def shuffled(self) -> list[Configuration]:
        """Every configuration in one fixed random order: its first n are a fair sample."""
        return [self[i] for i in np.random.default_rng(0).permutation(len(self))]

    @cached_property
    def smallest(self) -> Configuration:
        """The configuration with the fewest parameters; the first of equals."""
        return min(self, key=self._params)

    @cached_property
    def largest(self) -> Configuration:
        """The configuration with the most parameters; the last of equals."""
        return max(reversed(self), key=self._params)

    def _params(self, configuration: Configuration) -> int:
        return self.costs(configuration).params
