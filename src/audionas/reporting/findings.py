"""Which of the paper's findings hold here: paired differences, and a verdict that their intervals carry."""

from __future__ import annotations

import numpy as np
import pandas as pd

from audionas.config import Study
from audionas.reporting import paper
from audionas.reporting.results import Estimate, Model, estimate, gain
from audionas.reporting.tables import Models, difference

_QUOTED = "AudioSet: difference"  # the paper's
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
        quoted = None if None in quotes else quotes[0] - quotes[1]
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
                add("Elastic width alone is poor at the smallest size", what, ours.over(theirs))
    for space in others:
        if (steadier := _steadier(near, space, study)) is not None:
            what = f"deviation from the median near a constraint (validation), {space} - 2-2-x"
            add("2-2-x has the lowest variance", what, steadier)
    return pd.DataFrame(rows)


def _steadier(near: pd.DataFrame, other: str, study: Study) -> Estimate | None:
    """By how much the other space's scores deviate more than those of `2-2-x`, near the constraints of both.

    The mean deviation from the median (Brown and Forsythe, 1974), between 0 and 1. Its interval is that of a
    permutation of sub-networks between the spaces, since scores of validation have no test clips; None where
    no constraint has enough sub-networks in both.
    """
    scores = {
        key: rows["valid mAP"].to_numpy() / 100 for key, rows in near.groupby(["space", "constraint", "seed"])
    }
    rng, pairs = np.random.default_rng(0), []
    for seed in study.seeds:
        both = [[scores[space, c, seed] for space in ("2-2-x", other)] for c in study.constraints]
        pairs.append([pair for pair in both if min(map(len, pair)) >= _FEWEST])
    if not pairs[0]:
        return None
    deviations = [[[np.abs(s - np.median(s)) for s in pair] for pair in of_seed] for of_seed in pairs]

    def more(of_seed, mixed: bool) -> float:
        values = []
        for ours, theirs in of_seed:
            together = np.concatenate([ours, theirs])
            together = rng.permutation(together) if mixed else together
            values.append(together[len(ours) :].mean() - together[: len(ours)].mean())
        return float(np.mean(values))

    seeds = np.array([more(of_seed, False) for of_seed in deviations])
    chance = [np.mean([more(of_seed, True) for of_seed in deviations]) for _ in range(study.draws)]
    return estimate(seeds, seeds.mean() + np.array(chance))
