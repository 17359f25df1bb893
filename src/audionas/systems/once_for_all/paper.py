"""Numbers that the paper reports on the evaluation split of AudioSet, quoted in columns of their own."""

from __future__ import annotations

from typing import NamedTuple

from audionas.systems.once_for_all.config import parse_shape

NOTE = "AudioSet columns quote the paper (its networks and corpus); they are not targets for other corpora"


class Row(NamedTuple):
    """A row of table 1: parameters in millions, mAP x 100, and both in % of the teacher."""

    params: float
    share: float | None
    mAP: float
    retained: float | None


TEACHER = Row(5.2, 100.0, 29.6, 100.0)
#: (recipe, (width ratio, depth))
INDIVIDUAL = {
    ("baseline", (0.6, 1)): Row(1.0, 19.2, 21.2, 71.6),
    ("kd", (0.6, 1)): Row(1.0, 19.2, 24.8, 83.7),
    ("baseline", (1.0, 1)): Row(2.1, 40.3, 22.6, 76.4),
    ("kd", (1.0, 1)): Row(2.1, 40.3, 26.4, 89.2),
    ("baseline", (0.8, 2)): Row(3.5, 67.3, 24.8, 83.8),
    ("kd", (0.8, 2)): Row(3.5, 67.3, 28.3, 95.6),
}
#: parameters in millions: OFA, +10 K, +100 K, init+100 K (table 2, search space 2-2-x)
FOUND = {
    0.9: (26.6, 26.7, 26.7, 24.8),
    1.8: (27.2, 27.6, 27.8, 26.6),
    2.7: (27.7, 28.2, 28.4, 28.1),
    3.6: (27.9, 28.3, 28.5, 28.3),
}
#: indices into the values of `FOUND`; SHORT and LONG are fine-tuning
OFA, SHORT, LONG, INIT = range(4)
#: by the keys of `FOUND`: % of the parameters and mAP of the teacher, as far as table 1 lists them
_SHARES = {0.9: (17.3, 89.9), 1.8: (34.6, 91.9), 3.6: (69.2, 94.3)}
_WIDTH_ALONE = 22.8  # mAP x 100 of elastic width alone at the smallest size (section 4.1)
#: Largest difference of two shares of the teacher's size that counts as equal: a third of the distance
#: between two budgets of the paper, so that a network halfway matches neither.
_ALIKE = 0.9 / 5.2 / 3


def found_at(share: float) -> float | None:
    """Return the paper's budget (million parameters) at about this share of the teacher's size, or None."""
    size = min(FOUND, key=lambda params: abs(params / TEACHER.params - share))
    return size if abs(size / TEACHER.params - share) <= _ALIKE else None


def individual(recipe: str, size: str) -> Row | None:
    """Return the row of an individually trained network, or None if the paper has none."""
    return INDIVIDUAL.get((recipe, parse_shape(size)))


def found(share: float) -> Row | None:
    """Return the row of OFA at about this share of the teacher's size, or None."""
    if (at := found_at(share)) is None:
        return None
    of_params, of_score = _SHARES.get(at, (None, None))
    return Row(at, of_params, FOUND[at][OFA], of_score)


def found_over_individual(recipe: str, size: str) -> float | None:
    """Return mAP x 100 of the OFA of nearest size minus that of an individual network, or None."""
    if (known := individual(recipe, size)) is None:
        return None
    nearest = min(FOUND, key=lambda budget: abs(budget - known.params))
    return round(FOUND[nearest][OFA] - known.mAP, 1)


def kd_over_baseline(size: str) -> float | None:
    """Return mAP x 100 of distillation minus that of training with labels, or None."""
    kd, baseline = individual("kd", size), individual("baseline", size)
    return round(kd.mAP - baseline.mAP, 1) if kd and baseline else None


def found_over(share: float, other: int, first: int = OFA) -> float | None:
    """Return the difference of two numbers of `FOUND` at about this share of the teacher's size, or None.

    Args:
        share: parameters as a share of the teacher's.
        other, first: indices into the values of `FOUND`; the result is `first` minus `other`.
    """
    at = found_at(share)
    return round(FOUND[at][first] - FOUND[at][other], 1) if at else None


def found_over_elastic_width(share: float) -> float | None:
    """Return OFA minus elastic width alone at the smallest budget of the paper, or None at other sizes."""
    smallest = min(FOUND)
    return round(FOUND[smallest][OFA] - _WIDTH_ALONE, 1) if found_at(share) == smallest else None
