"""Which of the paper's findings hold here: paired differences, and a verdict that their intervals carry."""

from __future__ import annotations

import numpy as np
import pandas as pd

from audionas.reporting.table_files import QUOTED
from audionas.systems.once_for_all import paper
from audionas.systems.once_for_all.config import Study
from audionas.systems.once_for_all.results import Estimate, Model, estimate, gain
from audionas.systems.once_for_all.tables import Models, difference

_QUOTED = f"{QUOTED}difference"
_FEWEST = 5  # sub-networks, below which their spread says little
VERDICT = (
    "A difference is certain where it is larger than what stands under ± by seeds and clips: half its 95 % "
    "interval for new seeds and new clips; fewer than three seeds leave all open. Of twenty such about one "
    "is so by chance."
)


def pairs(models: Models) -> pd.DataFrame:
    """Differences of mAP between two models on the same seeds and clips, and whether they are certain."""
    rows = []

    def add(question: str, a: Model, b: Model, quoted: float | None = None) -> None:
        found = a.over(b)
        rows.append(
            {
                "Question": question,
                "#Params (k)": a.params / 1e3,
                "against (k)": b.params / 1e3,
                **difference(found),
                "certain": "yes" if found.certain else "no",
                _QUOTED: quoted,
            }
        )

    study = models.study
    for size in study.sizes:
        kd, baseline = (models.alone(recipe, size) for recipe in ("kd", "baseline"))
        add(f"OFA over KD {size}", models.nearest(kd), kd, paper.over_alone("kd", size))
        add(f"OFA over baseline {size}", models.nearest(kd), baseline, paper.over_alone("baseline", size))
        add(f"KD over baseline {size}", kd, baseline, paper.kd_over_baseline(size))
    for constraint in study.constraints:
        found = models.found(constraint)
        share = found.params / models.teacher.params
        quoted = paper.found_over(share, paper.INIT)
        add(f"OFA {constraint} over its architecture by KD alone", found, models.init(constraint), quoted)
        for n in sorted(study.finetune_iterations):
            longest = n == max(study.finetune_iterations)
            quoted = paper.found_over(share, paper.OFA, paper.LONG if longest else paper.SHORT)
            add(f"OFA {constraint} +{n:,} over OFA", models.tuned(constraint, n), found, quoted)
        for space in models.other_spaces:
            question = f"{study.chosen_space} over {space} at {constraint}"
            add(question, found, models.found(constraint, space))
    return pd.DataFrame(rows)


def findings(models: Models, near: pd.DataFrame) -> pd.DataFrame:
    """The paper's findings, each with the difference that speaks for or against it here.

    `holds` and `reversed` are certain (see `VERDICT`); else it is `open`.

    Args:
        near: the sub-networks near each constraint (see `near_constraints`).
    """
    study, rows = models.study, []

    def add(finding: str, what: str, by: Estimate, quoted: float | None = None) -> None:
        verdict = "open"
        if by.certain:
            verdict = "holds" if by.mean > 0 else "reversed"
        rows.append(
            {
                "Finding": finding,
                "Verdict": verdict,
                **difference(by),
                _QUOTED: quoted,
                "Measured": what,
            }
        )

    kd = models.smallest_kd
    baseline, found = models.alone("baseline", kd.size), models.nearest(kd)
    what = f"OFA {found.constraint} ({found.params / 1e3:.1f} k) - KD {kd.size} ({kd.params / 1e3:.1f} k)"
    add("OFA over KD at the smallest size", what, found.over(kd), paper.over_alone("kd", kd.size))
    what = f"OFA {found.constraint} - its architecture by KD alone"
    quoted = paper.found_over(found.params / models.teacher.params, paper.INIT)
    add("OFA over KD in one architecture", what, found.over(models.init(found.constraint)), quoted)
    what = f"KD - baseline, {kd.size}"
    quoted = paper.kd_over_baseline(kd.size)
    add("KD over baseline at the smallest size", what, kd.over(baseline), quoted)
    longest = max(study.finetune_iterations)
    chosen = sorted(models.of("found", space=study.chosen_space), key=lambda m: m.params)
    small, large = chosen[0], chosen[-1]
    if len(chosen) > 1:
        what = f"gain by +{longest:,} at {large.constraint} - at {small.constraint}"
        gained = [(models.tuned(m.constraint, longest), m) for m in (large, small)]
        shares = [m.params / models.teacher.params for m in (large, small)]
        quotes = [paper.found_over(share, paper.OFA, paper.LONG) for share in shares]
        quoted = None if None in quotes else round(quotes[0] - quotes[1], 1)
        add("Fine-tuning helps large sizes more", what, gain(*gained), quoted)
    if "2-2-x" not in study.spaces:
        return pd.DataFrame(rows)
    others = [space for space in study.spaces if space != "2-2-x"]
    for space in others:
        for constraint in study.constraints:
            ours, theirs = models.found(constraint, "2-2-x"), models.found(constraint, space)
            what = f"2-2-x - {space} at {constraint}"
            if space != "ew":
                add("Elastic depth in early blocks hurts", what, ours.over(theirs))
            elif constraint == small.constraint:
                quoted = paper.found_over_width_alone(ours.params / models.teacher.params)
                add("Elastic width alone is poor at the smallest size", what, ours.over(theirs), quoted)
    for space in others:
        if (compared := steadier(near, space, study)) is not None:
            by, constraints = compared
            what = f"deviation from the median near {', '.join(constraints)} (validation), {space} - 2-2-x"
            add("2-2-x has the lowest variance", what, by)
    return pd.DataFrame(rows)


def steadier(near: pd.DataFrame, other: str, study: Study) -> tuple[Estimate, list[str]] | None:
    """By how much the other space's scores deviate more than those of `2-2-x`, near the constraints of both.

    The mean deviation from the median (Brown and Forsythe, 1974), between 0 and 1. Scores of validation have
    no test clips: in their place sub-networks are permuted between the spaces, each with its scores of all
    seeds, for a sub-network that is good with one seed is so with others.

    Args:
        near: the sub-networks near each constraint (see `near_constraints`).

    Returns:
        The difference, and the constraints that it is the mean over: those with `_FEWEST` sub-networks or
        more in both spaces; None where there is none.
    """
    scores = {
        key: rows.pivot(index="network", columns="seed", values="valid mAP").to_numpy().T / 100
        for key, rows in near.groupby(["space", "constraint"])
    }
    both = {c: (scores["2-2-x", c], scores[other, c]) for c in study.constraints}
    both = {c: pair for c, pair in both.items() if min(s.shape[1] for s in pair) >= _FEWEST}
    if not both:
        return None
    deviations = [[np.abs(s - np.median(s, axis=1, keepdims=True)) for s in pair] for pair in both.values()]
    together = [(np.concatenate(pair, axis=1), pair[0].shape[1]) for pair in deviations]
    rng = np.random.default_rng(0)

    def more(values: np.ndarray, ours: int) -> np.ndarray:
        return values[:, ours:].mean(axis=1) - values[:, :ours].mean(axis=1)

    seeds = np.mean([more(values, ours) for values, ours in together], axis=0)
    chance = [
        np.mean([more(rng.permutation(values, axis=1), ours) for values, ours in together])
        for _ in range(study.draws)
    ]
    return estimate(seeds, seeds.mean() + np.array(chance)), list(both)
