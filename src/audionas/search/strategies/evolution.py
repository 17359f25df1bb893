"""Evolutionary search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from audionas.search.space import Configuration, SearchSpace
from audionas.search.strategies.base import Strategy, rank
from audionas.settings.search import Evolution as EvolutionSettings


class Evolution(Strategy[Configuration]):
    """Evolutionary search as in Once-for-all (Cai et al., 2020).

    The first generation is random. Each later generation contains the best configurations of the previous
    one, as parents, and `population` children. A child is a mutation of one parent or a crossover of two.

    Every child must be a candidate; otherwise it is drawn again. After `_ATTEMPTS` draws, a random candidate
    replaces it, so that the search ends for any constraint.

    Args:
        space: search space; mutates, crosses and ranks configurations.
        candidates: configurations of the space that meet the constraint.
        settings: population, generations, parent share and mutation settings.
        seed: seed of all random draws.
    """

    _ATTEMPTS = 20

    def __init__(
        self,
        space: SearchSpace[Configuration],
        candidates: Sequence[Configuration],
        settings: EvolutionSettings,
        seed: int,
    ):
        self.space, self.candidates, self.settings = space, candidates, settings
        self._allowed = set(candidates)
        self._generator = np.random.default_rng(seed)
        self._scores: dict[Configuration, float] = {}
        self._generation: list[Configuration] = []
        self._left = settings.generations

    def ask(self) -> Sequence[Configuration]:
        """Return the next generation: parents first, then children."""
        size = self.settings.population
        if not self._left:
            return ()
        self._left -= 1
        if not self._generation:
            self._generation = [self._candidate() for _ in range(size)]
        else:
            best = sorted(self._generation, key=lambda each: rank(self.space, each, self._scores[each]))
            parents = best[: max(1, round(size * self.settings.parent_share))]
            mutated = round(size * self.settings.mutated_share)
            self._generation = [*parents, *(self._child(parents, i < mutated) for i in range(size))]
        return self._generation

    def tell(self, scores: Mapping[Configuration, float]) -> None:
        """Store the scores, which determine the parents of the next generation."""
        self._scores.update(scores)

    def _candidate(self) -> Configuration:
        return self.candidates[self._generator.integers(len(self.candidates))]

    def _child(self, parents: Sequence[Configuration], mutate: bool) -> Configuration:
        for _ in range(self._ATTEMPTS):
            first, second = (parents[self._generator.integers(len(parents))] for _ in range(2))
            if mutate:
                child = self.space.mutate(first, self.settings.mutation_probability, self._generator)
            else:
                child = self.space.cross(first, second, self._generator)
            if child in self._allowed:
                return child
        return self._candidate()
