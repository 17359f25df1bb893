"""Exhaustive search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audionas.search.space import Configuration
from audionas.search.strategies.base import Strategy


class Exhaustive(Strategy[Configuration]):
    """Scores every candidate, so that the result is the best there is.

    Feasible for a small space whose scores share their computation, as those of weight-sharing supernets do
    (OFA-AEC, section 2.4, scores a sample instead).
    """

    def __init__(self, candidates: Sequence[Configuration]):
        self._candidates = candidates

    def ask(self) -> Sequence[Configuration]:
        """All candidates, once."""
        asked, self._candidates = self._candidates, ()
        return asked

    def tell(self, scores: Mapping[Configuration, float]) -> None:
        """Ignored: nothing is left to choose."""
