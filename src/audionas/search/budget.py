"""Selection of the configurations of a finite space that meet a cost constraint."""

from __future__ import annotations

from collections.abc import Iterable

from audionas.runtime.errors import UserError
from audionas.search.space import Configuration, Costs, FiniteSpace
from audionas.settings.values import Constraint


def within(space: FiniteSpace[Configuration], constraint: Constraint) -> list[Configuration]:
    """Return the configurations at or under a constraint, in the order of the space.

    Raises:
        UserError: no configuration meets the constraint; the message gives the smallest costs.
    """

    def over(limit: int | None, cost: int) -> bool:
        return limit is not None and cost > limit

    costs = {configuration: space.costs(configuration) for configuration in space}
    found = [configuration for configuration, cost in costs.items() if not any(map(over, constraint, cost))]
    if found:
        return found
    least = [
        f"{limit:,} {unit}, and the smallest has {min(each):,}"
        for limit, unit, each in zip(
            constraint, ("parameters", "multiply-adds"), zip(*costs.values(), strict=True), strict=True
        )
        if limit is not None
    ]
    raise UserError(
        f"no sub-network of space {space.name} has at most {' and at most '.join(least)}; raise the "
        "budget in study.constraints"
    )


def near(space: FiniteSpace[Configuration], constraint: Constraint, tolerance: int) -> list[Configuration]:
    """Return the configurations that meet a constraint as defined by OFA-AEC, in the order of the space.

    For parameters: |parameters - constraint| <= tolerance (OFA-AEC, section 2.4). For multiply-adds: at most
    the constraint, as in Once-for-all (Cai et al., 2020).

    Args:
        space: search space.
        constraint: limits on parameters and multiply-adds.
        tolerance: number of parameters above and below the constraint.

    Raises:
        UserError: no configuration meets the constraint; the message gives the nearest sizes.
    """
    limit, most = constraint
    costs = {configuration: space.costs(configuration) for configuration in space}
    sized = {c: cost for c, cost in costs.items() if limit is None or abs(cost.params - limit) <= tolerance}
    found = [c for c, cost in sized.items() if most is None or cost.macs <= most]
    if found:
        return found
    asked, nearest = [], []
    if limit is not None:
        asked.append(f"{limit:,} +- {tolerance:,} parameters")
        nearest.append(f"have {_around(limit, costs.values())}")
    if most is not None:
        asked.append(f"at most {most:,} multiply-adds")
        least = min(cost.macs for cost in (sized or costs).values())
        nearest = nearest if not sized else []  # sizes match, and only the multiply-adds are too high
        nearest.append(f"need {least:,} multiply-adds or more")
    raise UserError(
        f"no sub-network of space {space.name} has {' and '.join(asked)}; the nearest "
        f"{' and '.join(nearest)}: change study.constraints or raise search.tolerance"
    )


def _around(limit: int, costs: Iterable[Costs]) -> str:
    """Format the nearest parameter counts below and above a limit."""
    sizes = {cost.params for cost in costs}
    below = max((size for size in sizes if size < limit), default=None)
    above = min((size for size in sizes if size > limit), default=None)
    return " and ".join(f"{size:,}" for size in (below, above) if size)
