"""`tables`: tables 1 and 2, figures 3 and 4, and one row for every model."""

from __future__ import annotations

import numpy as np

from audionas import paths
from audionas.config import Config, parse_constraint, parse_size
from audionas.files import atomic_write
from audionas.models.architecture import Architecture
from audionas.reporting import figures, tables
from audionas.reporting.results import collect, over_seeds
from audionas.search.scoring import read_scores
from audionas.search.space import SearchSpace


def run(config: Config) -> None:
    """results/eval and results/scores to results/tables and results/figures."""
    study = config.study
    results = collect(study)
    models = over_seeds(results)
    with atomic_write(paths.TABLES / "models.csv") as temporary:
        results.to_csv(temporary, index=False, lineterminator="\n")
    spread = "mean ± standard deviation over seeds" if len(study.seeds) > 1 else "one seed"
    tables.write(
        tables.table1(models, study), paths.TABLES, "table1", f"Table 1: test mAP × 100 ({spread}) by size."
    )
    tables.write(
        tables.table2(models, study),
        paths.TABLES,
        "table2",
        f"Table 2: test mAP × 100 ({spread}) of the found sub-networks, fine-tuned, and from fresh weights.",
    )
    figures.save(figures.figure3(models), paths.FIGURES, "figure3")
    figures.save(figures.figure4(_near(config), models), paths.FIGURES, "figure4")


def _near(config: Config) -> dict[tuple[str, str], np.ndarray]:
    """Validation mAP of the sub-networks near each constraint of each space, every seed's."""
    study = config.study
    near = {}
    for constraint in study.constraints:
        for name in study.spaces:
            space = SearchSpace(name, Architecture.of(config))
            found = space.near(
                parse_constraint(constraint), parse_size(config.search.tolerance), config.frames
            )
            scores = [read_scores(paths.scores(name, seed), space, config.frames) for seed in study.seeds]
            near[constraint, name] = np.array([s[subnetwork] for s in scores for subnetwork in found])
    return near
