"""The search space interface that strategies and budgets use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from audionas.search.costs.layers import Layer

Configuration = TypeVar("Configuration", bound=Hashable)


class Costs(NamedTuple):
    """Costs of a network.

    Attributes:
        params: trainable parameters.
        macs: multiply-adds for one clip.
    """

    params: int
    macs: int


class SearchSpace(ABC, Generic[Configuration]):
    """The configurations of a network, and the operations that strategies use.

    A configuration is any hashable value. A space knows the input size of the network, to compute costs.

    Attributes:
        name: name in error messages and tables.
    """

    name: str

    @abstractmethod
    def sample(self, generator: np.random.Generator) -> Configuration:
        """Draw a configuration uniformly."""

    @abstractmethod
    def mutate(
        self, configuration: Configuration, probability: float, generator: np.random.Generator
    ) -> Configuration:
        """Return a copy in which each choice is drawn again with the given probability."""

    @abstractmethod
    def cross(
        self, first: Configuration, second: Configuration, generator: np.random.Generator
    ) -> Configuration:
        """Return a child that takes each choice from either parent with equal probability."""

    @abstractmethod
    def encode(self, configuration: Configuration) -> np.ndarray:
        """Return the choices as a unique float64 vector [choices], a feature for model-based strategies."""

    @abstractmethod
    def describe(self, configuration: Configuration) -> dict[str, Any]:
        """Return the choices by the names of table columns."""

    @abstractmethod
    def costs(self, configuration: Configuration) -> Costs:
        """Return the number of parameters and of multiply-adds."""

    def layers(self, configuration: Configuration) -> list[Layer]:
        """Return the layers of a network in order, from which its memory follows (`peak_memory`)."""
        raise NotImplementedError

    def setting(self) -> dict[str, Any]:
        """Return by name what all networks of the space share and their costs depend on."""
        return {}

    def text(self, configuration: Configuration) -> str:
        """Return the canonical text of a network: `name=value` of `setting` and of `describe`, with blanks.

        Equal texts mean networks of equal shape and input size, so it identifies a network in device files.
        """
        parts = {**self.setting(), **self.describe(configuration)}
        return " ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in parts.items()
        )


class FiniteSpace(SearchSpace[Configuration], Sequence[Configuration]):
    """A search space that lists all its configurations.

    Args:
        name: name in error messages and tables.
        configurations: all configurations, without duplicates.
    """

    def __init__(self, name: str, configurations: Iterable[Configuration]):
        self.name = name
        self._configurations = list(configurations)

    def __len__(self) -> int:
        return len(self._configurations)

    def __getitem__(self, index):
        return self._configurations[index]

    def sample(self, generator: np.random.Generator) -> Configuration:
        """See `SearchSpace`. Calls `generator.integers` once."""
        return self[generator.integers(len(self))]

    def shuffled(self) -> list[Configuration]:
        """Return all configurations in a fixed random order, so that the first n are a random sample."""
        return [self[i] for i in np.random.default_rng(0).permutation(len(self))]

    @cached_property
    def smallest(self) -> Configuration:
        """The configuration with the fewest parameters; the first one in case of a tie."""
        return min(self, key=self._params)

    @cached_property
    def largest(self) -> Configuration:
        """The configuration with the most parameters; the last one in case of a tie."""
        return max(reversed(self), key=self._params)

    def _params(self, configuration: Configuration) -> int:
        return self.costs(configuration).params
