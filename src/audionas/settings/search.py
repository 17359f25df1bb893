"""Section `search` of `params.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from audionas.settings.values import Section, Size


class Evolution(Section):
    """Evolutionary search; the defaults are Once-for-all's (Cai et al., 2020)."""

    population: Annotated[int, Field(gt=0, le=100_000)] = 100
    generations: Annotated[int, Field(gt=0, le=100_000)] = 500
    parent_share: Annotated[float, Field(gt=0, le=1)] = (
        0.25  # the best share of a generation, which has children
    )
    mutated_share: Annotated[float, Field(ge=0, le=1)] = (
        0.5  # share of children by mutation; the others have two parents
    )
    mutation_probability: Annotated[float, Field(gt=0, le=1)] = 0.1  # of each width and depth


class Search(Section):
    """Search for the best sub-network under a constraint (sections 2.4 and 3.3)."""

    strategy: Literal["exhaustive", "random", "evolution"] = "exhaustive"  # the paper's is random
    population: Annotated[int, Field(gt=0, le=100_000)] = 25  # of random search
    tolerance: Size = "0.1M"  # parameters, to both sides of a budget
    # limit: a released network has at most the budget's parameters. tolerance: it is within the tolerance
    # of the budget, as in the paper. A budget on multiply-adds is always a limit.
    released: Literal["limit", "tolerance"] = "limit"
    evolution: Evolution = Evolution()

    @property
    def released_tolerance(self) -> str | None:
        """Tolerance of released networks; None if the budget is a limit."""
        return self.tolerance if self.released == "tolerance" else None
