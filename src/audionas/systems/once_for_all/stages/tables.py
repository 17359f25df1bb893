"""Stage `tables`: tables and figures of the study, and the metrics that `dvc metrics` shows."""

from __future__ import annotations

import json
from pathlib import Path

from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, iter_rows, read_rows
from audionas.reporting.captions import corpus_title
from audionas.reporting.plotting import save
from audionas.reporting.table_files import write, write_csv
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write, new_folder
from audionas.runtime.leftovers import remove_leftovers
from audionas.systems.once_for_all import figures, paths, tables
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.costs import Costs
from audionas.systems.once_for_all.findings import VERDICT, findings, pairs
from audionas.systems.once_for_all.networks import (
    Scores,
    all_networks,
    near_constraints,
    over_seeds,
    rank_correlation,
    ranked,
    windows,
)
from audionas.systems.once_for_all.paper import NOTE
from audionas.systems.once_for_all.results import collect, compare, model_files
from audionas.systems.once_for_all.tables import Models

_NAMED = 10  # most classes that a caption lists


def run(config: Config) -> None:
    """Write results/tables, results/figures and results/metrics.json from evaluations and scores.

    Raises:
        UserError: a result is missing or damaged.
    """
    study = config.study
    files = [*model_files(study)]
    remove_leftovers(paths.RESULTS / "eval", [*map(paths.evaluation, files), *map(paths.predictions, files)])
    scores = [paths.scores(space, seed) for space in study.spaces for seed in study.seeds]
    rankings = [paths.ranking(index, seed) for index in study.ranked for seed in study.seeds]
    statistics = [paths.statistics(space, seed) for space in study.spaces for seed in study.seeds]
    remove_leftovers(paths.RESULTS / "scores", [*scores, *statistics, *rankings])
    for folder in sorted({path.parent for path in files}):  # here, because `export-budget` runs in parallel
        remove_leftovers(folder, files)
    with new_folder(paths.TABLES) as tables_folder, new_folder(paths.FIGURES) as figures_folder:
        _write(config, tables_folder, figures_folder)


def _write(config: Config, tables_folder: Path, figures_folder: Path) -> None:
    study, title = config.study, corpus_title(config.corpus)
    results = collect(study)
    models = Models(compare(results, study.draws), study)
    scores = Scores(config)
    near, ranking = near_constraints(scores), ranked(scores)
    near_means = over_seeds(near)
    names = [row["display_name"] for row in read_rows(data_paths.CLASSES, CLASSES)]
    if len(names) != len(models.measured):
        raise UserError(
            f"{data_paths.CLASSES}: {len(names)} classes, but the results have {len(models.measured)}; run "
            "`dvc repro`"
        )
    costs = Costs(config).table(valid_clips=sum(1 for _ in iter_rows(data_paths.segments("valid"))))

    seeds = "mean ± standard deviation over seeds" if len(study.seeds) > 1 else "one seed"
    means = f"test mAP × 100 {models.tested} ({seeds} [95 % interval over test clips])"
    left = [name for name, measured in zip(names, models.measured, strict=True) if not measured]
    some = ", ".join([*left[:_NAMED], *([f"and {len(left) - _NAMED} more"] if len(left) > _NAMED else [])])
    without = f" Excluded, because all test clips or none have the class: {some}." if left else ""
    tau = rank_correlation(ranking, study.draws)
    agreement = (
        f"Kendall's tau {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}; 95 % for new networks and seeds]"
        if tau
        else "too few networks for Kendall's tau"
    )
    tolerance, kept = config.search.released_tolerance, "at or under the budget"
    if tolerance is not None:
        kept = f"within ± {tolerance} parameters of the budget, and at or under a budget on multiply-adds,"
    for name, table, caption in (
        (
            "ship",
            tables.ship(models, tolerance),
            f"Released networks: among all files {kept} the best by validation mAP × 100 "
            f"{models.validated}; test mAP × 100 {models.tested} [95 % interval over test clips]. Over KD: "
            "mean difference over seeds, significant if it exceeds the column ± by seeds and clips.",
        ),
        ("table1", tables.table1(models, title), f"Table 1: {means} by size. {NOTE}."),
        (
            "table2",
            tables.table2(models, title),
            f"Table 2: {means} of found sub-networks, fine-tuned, and from random initialization. {NOTE}.",
        ),
        (
            "findings",
            findings(models, near),
            f"Findings of the paper on this corpus: differences of {means}. {VERDICT}",
        ),
        ("pairs", pairs(models), f"Differences of {means}, paired by seed and clip. {VERDICT}"),
        (
            "windows",
            windows(near, config.search.population, study.draws),
            f"Sub-networks near each constraint: validation mAP × 100 {models.validated}, and the regret of "
            f"random search against exhaustive search ({study.draws:,} searches).",
        ),
        (
            "ranking",
            ranking,
            f"Sub-networks of {study.chosen_space}, trained individually and in the supernet: validation mAP "
            f"× 100 {models.validated}, {agreement}.",
        ),
        (
            "classes",
            tables.classes(models, names),
            f"Average precision by class; {means}.{without} Each class is tested separately: about one of "
            "twenty classes without a difference is significant by chance.",
        ),
        (
            "costs",
            costs,
            "Cost of the trainings of one seed, counted: once for N devices, or N distillations.",
        ),
    ):
        write(table, tables_folder, name, caption)
    for name, table in (
        ("models", results),
        ("networks", all_networks(scores)),
        ("figure3", tables.figure3(models)),
        ("figure4", near_means),
    ):
        write_csv(table, tables_folder / f"{name}.csv")
    save(figures.figure3(models, title), figures_folder, "figure3")
    save(figures.figure4(near_means, title, study), figures_folder, "figure4")
    with atomic_write(paths.METRICS) as temporary:
        temporary.write_text(json.dumps(tables.metrics(models), indent=2) + "\n", encoding="utf-8")
