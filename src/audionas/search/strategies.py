"""How the best sub-network for a constraint is looked for.

A strategy is asked for sub-networks and told their scores, until it asks for no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from audionas.search.cnn10 import Cnn10Space, Cnn10Subnetwork
from audionas.settings.search import Evolution as EvolutionSettings
from audionas.settings.search import Search


class Strategy(Protocol):
    """What `search` runs."""

    def ask(self) -> Sequence[Cnn10Subnetwork]:
        """Sub-networks to score; none when the search is over."""

    def tell(self, scores: Mapping[Cnn10Subnetwork, float]) -> None:
        """The scores of what was asked for."""


class _AtOnce:
    def __init__(self, chosen: Sequence[Cnn10Subnetwork]):
        self.chosen = chosen

    def ask(self) -> Sequence[Cnn10Subnetwork]:
        """All of them, once."""
        asked, self.chosen = self.chosen, ()
        return asked

    def tell(self, scores: Mapping[Cnn10Subnetwork, float]) -> None:
        """Nothing is learned."""


class Exhaustive(_AtOnce):
    """Every candidate: the best there is, where all are scored in one pass that shares what they share."""


class Random(_AtOnce):
    """The paper's (section 2.4): `population` candidates, drawn without replacement, or all if fewer."""

    def __init__(self, candidates: Sequence[Cnn10Subnetwork], population: int, seed: int):
        drawn = np.random.default_rng(seed).permutation(len(candidates))[:population]
        super().__init__([candidates[i] for i in sorted(drawn)])


class Evolution:
    """Once-for-all's (Cai et al., 2020): the best of a generation have children, mutated or of two parents.

    Every child is a candidate: one that is not is drawn again, and after `_ATTEMPTS` a candidate takes its
    place, so that the search ends for any constraint.
    """

    _ATTEMPTS = 20

    def __init__(
        self, space: Cnn10Space, candidates: Sequence[Cnn10Subnetwork], settings: EvolutionSettings, seed: int
    ):
        self.space, self.candidates, self.settings = space, candidates, settings
        self._allowed = set(candidates)
        self._chance = np.random.default_rng(seed)
        self._scores: dict[Cnn10Subnetwork, float] = {}
        self._generation: list[Cnn10Subnetwork] = []
        self._left = settings.generations

    def ask(self) -> Sequence[Cnn10Subnetwork]:
        """The first generation at random, then the best of the last one and as many children."""
        size = self.settings.population
        if not self._left:
            return ()
        self._left -= 1
        if not self._generation:
            self._generation = [self._any() for _ in range(size)]
        else:
            best = sorted(self._generation, key=lambda s: order(self.space, self._scores, s))
            parents = best[: max(1, round(size * self.settings.parent_share))]
            mutated = round(size * self.settings.mutated_share)
            self._generation = [
                *parents,
                *(self._child(parents, i < mutated) for i in range(size)),
            ]
        return self._generation

    def tell(self, scores: Mapping[Cnn10Subnetwork, float]) -> None:
        """By which the next generation's parents are chosen."""
        self._scores.update(scores)

    def _any(self) -> Cnn10Subnetwork:
        return self.candidates[self._chance.integers(len(self.candidates))]

    def _child(self, parents: Sequence[Cnn10Subnetwork], mutate: bool) -> Cnn10Subnetwork:
        for _ in range(self._ATTEMPTS):
            first, second = (parents[self._chance.integers(len(parents))] for _ in range(2))
            child = self._mutated(first) if mutate else self._crossed(first, second)
            if child in self._allowed:
                return child
        return self._any()

    def _mutated(self, parent: Cnn10Subnetwork) -> Cnn10Subnetwork:
        def drawn(values: Sequence, choices: Sequence[Sequence]) -> tuple:
            changed = self._chance.random(len(values)) < self.settings.mutation_probability
            return tuple(
                among[self._chance.integers(len(among))] if change else value
                for value, among, change in zip(values, choices, changed, strict=True)
            )

        ratios = drawn(parent.ratios, [self.space.ratios] * len(parent.ratios))
        return Cnn10Subnetwork(ratios, drawn(parent.depths, self.space.depths))

    def _crossed(self, first: Cnn10Subnetwork, second: Cnn10Subnetwork) -> Cnn10Subnetwork:
        def mixed(a: Sequence, b: Sequence) -> tuple:
            return tuple(np.where(self._chance.random(len(a)) < 0.5, a, b).tolist())

        return Cnn10Subnetwork(mixed(first.ratios, second.ratios), mixed(first.depths, second.depths))


class Found(NamedTuple):
    """What a search ends with."""

    subnetwork: Cnn10Subnetwork
    scored: int  # different sub-networks


def order(space: Cnn10Space, scores: Mapping[Cnn10Subnetwork, float], subnetwork: Cnn10Subnetwork) -> tuple:
    """What sub-networks are sorted by, best first; of equal scores the smaller wins."""
    return -scores[subnetwork], space.parameters(subnetwork), subnetwork


def search(strategy: Strategy, space: Cnn10Space, scores: Mapping[Cnn10Subnetwork, float]) -> Found:
    """The best sub-network that a strategy comes across.

    Args:
        scores: mAP on validation of (at least) every candidate; kept ones cost nothing.
    """
    seen: dict[Cnn10Subnetwork, float] = {}
    while asked := strategy.ask():
        told = {subnetwork: scores[subnetwork] for subnetwork in asked}
        strategy.tell(told)
        seen |= told
    return Found(min(seen, key=lambda s: order(space, seen, s)), len(seen))


def strategy_of(
    settings: Search, space: Cnn10Space, candidates: Sequence[Cnn10Subnetwork], seed: int
) -> Strategy:
    """The strategy that params.yaml names, over the sub-networks that meet a constraint."""
    if settings.strategy == "random":
        return Random(candidates, settings.population, seed)
    if settings.strategy == "evolution":
        return Evolution(space, candidates, settings.evolution, seed)
    return Exhaustive(candidates)
