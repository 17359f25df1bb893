"""What the paper reports on AudioSet's evaluation split: quoted beside our numbers, never mixed with them."""

from __future__ import annotations

from audionas.config import parse_shape

NOTE = "AudioSet columns are the paper's own (its networks, its corpus); they are no target of another corpus"
TEACHER = (5.2, 29.6)  # parameters in millions, mAP x 100
#: (recipe, (width ratio, depth)): parameters in millions, mAP x 100 (table 1)
INDIVIDUAL = {
    ("baseline", (0.6, 1)): (1.0, 21.2),
    ("kd", (0.6, 1)): (1.0, 24.8),
    ("baseline", (1.0, 1)): (2.1, 22.6),
    ("kd", (1.0, 1)): (2.1, 26.4),
    ("baseline", (0.8, 2)): (3.5, 24.8),
    ("kd", (0.8, 2)): (3.5, 28.3),
}
#: parameters in millions: OFA, +10 K, +100 K, init+100 K (table 2, search space 2-2-x)
FOUND = {
    0.9: (26.6, 26.7, 26.7, 24.8),
    1.8: (27.2, 27.6, 27.8, 26.6),
    2.7: (27.7, 28.2, 28.4, 28.1),
    3.6: (27.9, 28.3, 28.5, 28.3),
}
#: what each number of `FOUND` is, by its place; fine-tuning in the order of its length
OFA, SHORT, LONG, INIT = range(4)
_ALIKE = 0.05  # of the largest network's size, within which two shares are about the same


def found_at(share: float) -> float | None:
    """The paper's budget (million parameters) whose share of its teacher is about `share`, or None."""
    size = min(FOUND, key=lambda params: abs(params / TEACHER[0] - share))
    return size if abs(size / TEACHER[0] - share) <= _ALIKE else None


def individual(recipe: str, size: str) -> tuple[float, float] | None:
    """Parameters in millions and mAP x 100 of a network trained on its own, where the paper has it."""
    return INDIVIDUAL.get((recipe, parse_shape(size)))


def over_alone(recipe: str, size: str) -> float | None:
    """By how much the paper's OFA of nearest size is over a network that was trained on its own."""
    if (known := individual(recipe, size)) is None:
        return None
    params, score = known
    return FOUND[min(FOUND, key=lambda budget: abs(budget - params))][OFA] - score


def kd_over_baseline(size: str) -> float | None:
    """The same of distillation over training with labels."""
    kd, baseline = individual("kd", size), individual("baseline", size)
    return kd[1] - baseline[1] if kd and baseline else None


def found_over(share: float, other: int, first: int = OFA) -> float | None:
    """One number of `FOUND` less another, at the budget of about this share of the teacher's size."""
    at = found_at(share)
    return FOUND[at][first] - FOUND[at][other] if at else None
