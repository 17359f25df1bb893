"""Exhaustive search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audionas.search.space import Configuration
from audionas.search.strategies.base import Strategy


class Exhaustive(Strategy[Configuration]):
    """Scores every candidate, so the result is optimal.

    This is feasible for small spaces if the scores share computation, as in a weight-sharing supernet.
    OFA-AEC (section 2.4) scores a random sample instead.
    """

    def __init__(self, candidates: Sequence[Configuration]):
        self._candidates = candidates

    def ask(self) -> Sequence[Configuration]:
        """Return all candidates in the first call, and none afterwards."""
        asked, self._candidates = self._candidates, ()
        return asked

    def tell(self, scores: Mapping[Configuration, float]) -> None:
        """Ignore the scores, because the search has only one step."""
