"""Which of the paper's findings hold here: paired differences, and a verdict that their intervals carry."""

from __future__ import annotations

import numpy as np
import pandas as pd

from audionas.config import Study
from audionas.reporting.results import Estimate, Model, gain
from audionas.reporting.statistics import interval
from audionas.reporting.tables import Models, spread


def pairs(models: Models) -> pd.DataFrame:
    """Differences of mAP between two models on the same seeds and clips, and whether they are certain."""
    rows = []

    def add(question: str, a: Model, b: Model) -> None:
        difference = a.over(b)
        rows.append(
            {
                "Question": question,
                "#Params (k)": a.params / 1e3,
                "against (k)": b.params / 1e3,
                **spread("difference", difference),
                "certain": "yes" if difference.certain else "no",
            }
        )

    study = models.study
    for size in study.sizes:
        baseline, kd = (models.of("individual", recipe=r, size=size)[0] for r in ("baseline", "kd"))
        add(f"OFA over KD {size}", models.nearest(kd), kd)
        add(f"OFA over baseline {size}", models.nearest(baseline), baseline)
        add(f"KD over baseline {size}", kd, baseline)
    for constraint in study.constraints:
        found = models.found(constraint)
        add(f"OFA {constraint} over its architecture by KD alone", found, models.init(constraint))
        for n in study.finetune_iterations:
            add(f"OFA {constraint} +{n:,} over OFA", models.tuned(constraint, n), found)
        for space in study.spaces:
            if space != study.chosen_space:
                add(
                    f"{study.chosen_space} over {space} at {constraint}",
                    found,
                    models.found(constraint, space),
                )
    return pd.DataFrame(rows)


def findings(models: Models, networks: pd.DataFrame) -> pd.DataFrame:
    """The paper's findings, each with the difference that speaks for or against it here.

    `holds` and `reversed` need an interval without zero and all seeds of one sign; else it is `open`.

    Args:
        networks: every sub-network near a constraint (see `near_constraints`).
    """
    study, rows = models.study, []

    def add(finding: str, what: str, estimate: Estimate) -> None:
        verdict = "open"
        if estimate.certain:
            verdict = "holds" if estimate.mean > 0 else "reversed"
        rows.append(
            {"Finding": finding, "Measured": what, **spread("difference", estimate), "Verdict": verdict}
        )

    smallest = min(study.sizes, key=lambda s: models.of("individual", size=s)[0].params)
    baseline, kd = (models.of("individual", recipe=r, size=smallest)[0] for r in ("baseline", "kd"))
    low, high = (models.found(c) for c in (study.constraints[0], study.constraints[-1]))
    add("OFA over KD at the smallest size", f"{low.constraint} - KD {smallest}", models.nearest(kd).over(kd))
    add("KD over baseline at the smallest size", f"KD - baseline, {smallest}", kd.over(baseline))
    longest = max(study.finetune_iterations)
    if len(study.constraints) > 1:
        pair = [(models.tuned(m.constraint, longest), m) for m in (high, low)]
        what = f"gain by +{longest:,} at {high.constraint} - at {low.constraint}"
        add("Fine-tuning helps large sizes more", what, gain(*pair))
    for space in ("2-x-x", "x-x-x"):
        if space in study.spaces and space != study.chosen_space:
            for constraint in study.constraints:
                what = f"{study.chosen_space} - {space} at {constraint}"
                found = models.found(constraint)
                add("Elastic depth in early blocks hurts", what, found.over(models.found(constraint, space)))
    for space in study.spaces:
        if space != study.chosen_space:
            estimate = _steadier(networks, study.chosen_space, space, study)
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
