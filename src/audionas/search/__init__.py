"""The search space, its scores, and the search for the best sub-network within a budget."""

from audionas.search.space import SearchSpace

__all__ = ["SearchSpace"]
