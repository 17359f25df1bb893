"""Every evaluated model of a study as one table, its rows read from the parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from audionas import paths
from audionas.config import Study
from audionas.errors import UserError

COLUMNS = [
    *("kind", "space", "constraint", "size", "recipe", "iterations", "seed", "corpus", "train_clips"),
    *("test_clips", "params", "macs", "mAP", "classes_left_out", "model"),
]
#: What makes two rows the same model but for the seed.
MODEL = ["kind", "space", "constraint", "size", "recipe", "iterations"]


def models(study: Study) -> Iterator[Path]:
    """The model files that a study evaluates, in the order of its lists."""
    for seed in study.seeds:
        yield paths.teacher(seed)
        for recipe in ("baseline", "kd"):
            for size in study.sizes:
                yield paths.individual(recipe, size, seed)
        for constraint in study.constraints:
            for space in study.spaces:
                yield paths.found(space, constraint, seed)
            for iterations in study.finetune_iterations:
                yield paths.finetuned(constraint, iterations, seed)
            yield paths.init(constraint, seed)


def collect(study: Study) -> pd.DataFrame:
    """One row for each model of the study; mAP between 0 and 1.

    Raises:
        UserError: a result is missing or damaged; names the file.
    """
    rows = []
    for path in map(paths.evaluation, models(study)):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            rows.append({column: result.get(column) for column in COLUMNS})
            rows[-1]["mAP"] = float(result["mAP"])
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: damaged ({error}); delete it and run `dvc repro`") from None
    return pd.DataFrame(rows, columns=COLUMNS)


def over_seeds(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (n - 1; NaN for one seed) of mAP over seeds, in the order of the rows."""
    groups = results.groupby(MODEL, dropna=False, sort=False)
    return groups.agg(
        params=("params", "mean"),
        mAP=("mAP", "mean"),
        sd=("mAP", "std"),
        corpus=("corpus", "first"),
        train_clips=("train_clips", "first"),
        test_clips=("test_clips", "first"),
        seeds=("seed", lambda s: " ".join(str(seed) for seed in s)),
    ).reset_index()
