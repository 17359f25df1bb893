"""Every evaluated model of a study, its rows read from the parameters, and what sets models apart."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from audionas import paths
from audionas.config import Study
from audionas.errors import UserError
from audionas.reporting.statistics import Interval, average_precisions, interval, margin, resamples

COLUMNS = [
    *("kind", "space", "constraint", "size", "recipe", "iterations", "seed", "corpus", "train_clips"),
    *("test_clips", "params", "macs", "valid_mAP", "ratios", "depths", "mAP", "classes_left_out", "model"),
]
#: What makes two rows the same model but for the seed.
MODEL = ["kind", "space", "constraint", "size", "recipe", "iterations"]


class Estimate(NamedTuple):
    """A number or a difference over seeds.

    Attributes:
        mean, sd: over seeds (n - 1). interval: over test clips, the seeds as they are. seeds: of each.
        margin: half the interval over seeds and clips both.
    """

    mean: float
    sd: float
    interval: Interval
    seeds: tuple[float, ...]
    margin: float

    @property
    def certain(self) -> bool:
        """Whether zero lies outside, for new seeds and new clips; never with fewer than three seeds."""
        return len(self.seeds) >= 3 and abs(self.mean) > self.margin


@dataclass(frozen=True)
class Model:
    """One model of the study, with every seed's results.

    Attributes:
        kind, space, constraint, size, recipe, iterations: which it is; None where that does not apply.
        rows: one a seed, `COLUMNS`.
        precisions: average precision [seeds, classes]. draws: of the same resamples of test clips, for every
            model alike [seeds, draws, classes].
    """

    kind: str
    space: str | None
    constraint: str | None
    size: str | None
    recipe: str | None
    iterations: int
    rows: pd.DataFrame
    precisions: np.ndarray
    draws: np.ndarray

    @property
    def params(self) -> float:
        """Trainable parameters, the mean over seeds: a found network differs from seed to seed."""
        return float(self.rows.params.mean())

    @property
    def macs(self) -> float:
        """Multiply-adds of one clip, the mean over seeds."""
        return float(self.rows.macs.mean())

    @cached_property
    def mAP(self) -> Estimate:
        """Mean average precision, between 0 and 1."""
        return _estimate(self.precisions, self.draws)

    def seed(self, seed: int) -> Model:
        """One seed of it alone."""
        chosen = (self.rows.seed == seed).to_numpy()
        return replace(
            self, rows=self.rows[chosen], precisions=self.precisions[chosen], draws=self.draws[chosen]
        )

    def over(self, other: Model) -> Estimate:
        """This model's mAP less the other's, seed by seed and on the same resamples of clips."""
        return _estimate(self.precisions - other.precisions, self.draws - other.draws)

    def class_by_class(self, other: Model) -> list[Estimate]:
        """This model's average precision less the other's, for each class."""
        classes = range(self.precisions.shape[1])
        pairs = self.precisions - other.precisions, self.draws - other.draws
        return [_estimate(pairs[0][:, c : c + 1], pairs[1][:, :, c : c + 1]) for c in classes]


def gain(first: tuple[Model, Model], second: tuple[Model, Model]) -> Estimate:
    """How much more the first model is over its other than the second over its own."""
    (a, b), (c, d) = first, second
    return _estimate(
        (a.precisions - b.precisions) - (c.precisions - d.precisions),
        (a.draws - b.draws) - (c.draws - d.draws),
    )


def _estimate(values: np.ndarray, draws: np.ndarray) -> Estimate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean over no class: NaN
        seeds, drawn = np.nanmean(values, axis=1), np.nanmean(draws, axis=2).mean(axis=0)
    return estimate(seeds, drawn)


def estimate(seeds: np.ndarray, drawn: np.ndarray) -> Estimate:
    """From the value of each seed, and draws of their mean."""
    mean = float(np.mean(seeds))
    sd = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else float("nan")
    width = margin(float(np.nanstd(drawn)) if np.isfinite(drawn).any() else float("nan"), sd, len(seeds))
    return Estimate(mean, sd, interval(mean, drawn), tuple(map(float, seeds)), width)


def model_files(study: Study) -> Iterator[Path]:
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
    results = [read_result(path, "mAP") for path in map(paths.evaluation, model_files(study))]
    rows = [{column: result.get(column) for column in COLUMNS} for result in results]
    return pd.DataFrame(rows, columns=COLUMNS)


def read_result(path: Path, measure: str) -> dict:
    """What a stage measured; `measure` is there, as a float.

    Raises:
        UserError: it is missing or damaged; names the file.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        result[measure] = float(result[measure])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run `dvc repro`") from None
    return result


def compare(results: pd.DataFrame, draws: int) -> list[Model]:
    """The models of a study with their intervals, from what evaluation kept of the test split.

    Args:
        results: as `collect` gives them.
        draws: resamples of the test clips, the same for every model.

    Raises:
        UserError: predictions are missing, damaged, or of other clips than the other models'.
    """
    first, weights, found = None, None, []
    groups = results.groupby(MODEL, dropna=False, sort=False)
    with tqdm(total=len(results), desc="intervals", unit="model") as bar:
        for key, rows in groups:
            precisions, drawn = [], []
            for name in rows.model:
                path = paths.predictions(Path(name))
                test = _read_predictions(path)
                if first is None:
                    first = test
                    resampled = resamples(test["sources"], draws)
                    weights = np.vstack([np.ones(len(test["clips"]), np.float32), resampled])
                if not all(np.array_equal(test[name], first[name]) for name in ("clips", "labels")):
                    raise UserError(f"{path}: of other test clips than other models; run `dvc repro`")
                values = average_precisions(test["labels"], test["probabilities"], weights)
                precisions.append(values[0])
                drawn.append(values[1:].astype(np.float32))
                bar.update()
            names = [None if pd.isna(value) else value for value in key]
            found.append(Model(*names, rows, np.array(precisions), np.array(drawn)))
    return found


def _read_predictions(path: Path) -> dict[str, np.ndarray]:
    names = ("probabilities", "labels", "clips", "sources")
    try:
        with np.load(path, allow_pickle=False) as file:
            test = {name: file[name] for name in names}
        shape = test["labels"].shape
        if len(shape) != 2 or test["probabilities"].shape != shape:
            raise ValueError(f"shapes {test['probabilities'].shape} and {shape}")
        if len(test["clips"]) != shape[0] or len(test["sources"]) != shape[0]:
            raise ValueError("clips without a name")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except Exception as error:  # a flipped bit surfaces as whatever zlib and NumPy make of it
        raise UserError(f"{path}: damaged ({error}); delete it and run `dvc repro`") from None
    return test
