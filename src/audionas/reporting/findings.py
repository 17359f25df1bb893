"""Which of the paper's findings hold here: paired differences, and a verdict that their intervals carry."""

from __future__ import annotations

import numpy as np
import pandas as pd

from audionas.config import Study
from audionas.reporting import paper
from audionas.reporting.results import Estimate, Model, gain
from audionas.reporting.statistics import interval
from audionas.reporting.tables import Models, spread

_QUOTED = "AudioSet: difference"  # the paper's


def pairs(models: Models) -> pd.DataFrame:
    """Differences of mAP between two models on the same seeds and clips, and whether they are certain."""
    rows = []

    def add(question: str, a: Model, b: Model, quoted: float | None = None) -> None:
        difference = a.over(b)
        rows.append(
            {
                "Question": question,
                "#Params (k)": a.params / 1e3,
                "against (k)": b.params / 1e3,
                **spread("difference", difference),
                "certain": "yes" if difference.certain else "no",
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
        for n, place in zip(sorted(study.finetune_iterations), (paper.SHORT, paper.LONG), strict=False):
            quoted = paper.found_over(share, paper.OFA, place)
            add(f"OFA {constraint} +{n:,} over OFA", models.tuned(constraint, n), found, quoted)
        for space in models.other_spaces:
            question = f"{study.chosen_space} over {space} at {constraint}"
            add(question, found, models.found(constraint, space))
    return pd.DataFrame(rows)


def findings(models: Models, near: pd.DataFrame) -> pd.DataFrame:
    """The paper's findings, each with the difference that speaks for or against it here.

    `holds` and `reversed` need an interval without zero and all seeds of one sign; else it is `open`.

    Args:
        near: the sub-networks near each constraint (see `near_constraints`).
    """
    study, rows = models.study, []

    def add(finding: str, what: str, estimate: Estimate, quoted: float | None = None) -> None:
        verdict = "open"
        if estimate.certain:
            verdict = "holds" if estimate.mean > 0 else "reversed"
        rows.append(
            {
                "Finding": finding,
                "Measured": what,
                **spread("difference", estimate),
                "Verdict": verdict,
                _QUOTED: quoted,
            }
        )

    kd = min(models.of("individual", recipe="kd"), key=lambda m: m.params)
    baseline, found = models.alone("baseline", kd.size), models.nearest(kd)
    what = f"OFA {found.constraint} - KD {kd.size}"
    add("OFA over KD at the smallest size", what, found.over(kd), paper.over_alone("kd", kd.size))
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
    for space in models.other_spaces:
        if space.startswith(("x", "2-x")):
            for constraint in study.constraints:
                what = f"{study.chosen_space} - {space} at {constraint}"
                difference = models.found(constraint).over(models.found(constraint, space))
                add("Elastic depth in early blocks hurts", what, difference)
    for space in models.other_spaces:
        estimate = _steadier(near, study.chosen_space, space, study)
        if estimate is not None:
            what = f"deviation near a constraint (validation), {space} - {study.chosen_space}"
            add(f"{study.chosen_space} has the lowest variance", what, estimate)
    return pd.DataFrame(rows)


def _steadier(networks: pd.DataFrame, chosen: str, other: str, study: Study) -> Estimate | None:
    """By how much the other space's scores deviate more near a constraint, the mean over constraints.

    The interval is over sub-networks drawn with replacement, since scores of validation have no test clips.
    """
    rng = np.random.default_rng(0)

    def deviation(space: str, seed: int, draw: bool) -> float:
        values = []
        for constraint in study.constraints:
            rows = networks[(networks.space == space) & (networks.constraint == constraint)]
            scores = rows[rows.seed == seed]["valid mAP"].to_numpy() / 100
            if len(scores) > 2:
                values.append((rng.choice(scores, len(scores)) if draw else scores).std(ddof=1))
        return float(np.mean(values)) if values else float("nan")

    def more(seed: int, draw: bool = False) -> float:
        return deviation(other, seed, draw) - deviation(chosen, seed, draw)

    seeds = [more(seed) for seed in study.seeds]
    if not np.isfinite(seeds).all():
        return None
    drawn = np.array([np.mean([more(seed, True) for seed in study.seeds]) for _ in range(study.draws)])
    sd = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else float("nan")
    return Estimate(float(np.mean(seeds)), sd, interval(np.mean(seeds), drawn), tuple(seeds))
