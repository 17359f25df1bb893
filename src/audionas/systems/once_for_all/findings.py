"""The findings of the paper on this corpus: paired differences, intervals and verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from audionas.reporting.table_files import QUOTED
from audionas.systems.once_for_all import paper
from audionas.systems.once_for_all.config import Study
from audionas.systems.once_for_all.results import Estimate, Model, estimate, gain
from audionas.systems.once_for_all.tables import Models, difference

_QUOTED = f"{QUOTED}difference"
_FEWEST = 5  # fewest sub-networks whose spread is compared
VERDICT = (
    "A difference is significant if it exceeds the value in the column ± by seeds and clips: half of its "
    "95 % interval for new seeds and new clips. With fewer than three seeds no difference is significant. "
    "About one of twenty differences without an effect is significant by chance."
)


def pairs(models: Models) -> pd.DataFrame:
    """Return differences of mAP between pairs of models on the same seeds and clips, with significance."""
    rows = []

    def add(question: str, a: Model, b: Model, quoted: float | None = None) -> None:
        found = a.over(b)
        rows.append(
            {
                "Question": question,
                "#Params (k)": a.params / 1e3,
                "against (k)": b.params / 1e3,
                **difference(found),
                "significant": "yes" if found.significant else "no",
                _QUOTED: quoted,
            }
        )

    study = models.study
    for size in study.sizes:
        kd, baseline = (models.individual(recipe, size) for recipe in ("kd", "baseline"))
        add(f"OFA over KD {size}", models.nearest(kd), kd, paper.found_over_individual("kd", size))
        add(
            f"OFA over baseline {size}",
            models.nearest(kd),
            baseline,
            paper.found_over_individual("baseline", size),
        )
        add(f"KD over baseline {size}", kd, baseline, paper.kd_over_baseline(size))
    for constraint in study.constraints:
        found = models.found(constraint)
        share = found.params / models.teacher.params
        quoted = paper.found_over(share, paper.INIT)
        add(f"OFA {constraint} over its architecture by KD alone", found, models.init(constraint), quoted)
        for n in sorted(study.finetune_iterations):
            longest = n == max(study.finetune_iterations)
            quoted = paper.found_over(share, paper.OFA, paper.LONG if longest else paper.SHORT)
            add(f"OFA {constraint} +{n:,} over OFA", models.finetuned(constraint, n), found, quoted)
        for space in models.other_spaces:
            question = f"{study.chosen_space} over {space} at {constraint}"
            add(question, found, models.found(constraint, space))
    return pd.DataFrame(rows)


def findings(models: Models, near: pd.DataFrame) -> pd.DataFrame:
    """Return the findings of the paper, each with its difference on this corpus and a verdict.

    A significant difference (see `VERDICT`) `holds` or is `reversed`. Any other is `not significant`.

    Args:
        models: the evaluated models.
        near: the sub-networks near each constraint (see `near_constraints`).
    """
    study, rows = models.study, []

    def add(finding: str, what: str, by: Estimate, quoted: float | None = None) -> None:
        verdict = "not significant"
        if by.significant:
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
    baseline, found = models.individual("baseline", kd.size), models.nearest(kd)
    what = f"OFA {found.constraint} ({found.params / 1e3:.1f} k) - KD {kd.size} ({kd.params / 1e3:.1f} k)"
    add("OFA over KD at the smallest size", what, found.over(kd), paper.found_over_individual("kd", kd.size))
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
        gained = [(models.finetuned(m.constraint, longest), m) for m in (large, small)]
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
                quoted = paper.found_over_elastic_width(ours.params / models.teacher.params)
                add("Elastic width alone is poor at the smallest size", what, ours.over(theirs), quoted)
    for space in others:
        if (compared := deviation_difference(near, space, study)) is not None:
            by, constraints = compared
            what = f"deviation from the median near {', '.join(constraints)} (validation), {space} - 2-2-x"
            add("2-2-x has the lowest variance", what, by)
    return pd.DataFrame(rows)


def deviation_difference(near: pd.DataFrame, other: str, study: Study) -> tuple[Estimate, list[str]] | None:
    """Compare the spread of scores in another space with the spread in `2-2-x`.

    The measure is the mean absolute deviation from the median (Brown and Forsythe, 1974), between 0 and 1.
    Validation scores have no resamples of test clips. Instead, sub-networks are permuted between the spaces,
    each with its scores of all seeds, because scores of different seeds are correlated.

    Args:
        near: the sub-networks near each constraint (see `near_constraints`).
        other: the other space.
        study: the study.

    Returns:
        The deviation in `other` minus that in `2-2-x`, and the constraints it is averaged over: those with
        at least `_FEWEST` sub-networks in both spaces. None if there is no such constraint.
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
