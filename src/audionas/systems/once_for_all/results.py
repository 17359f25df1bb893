"""Results of all evaluated models of a study, with estimates over seeds and test clips."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from audionas.reporting.intervals import Interval, average_precisions, interval, margin, resamples
from audionas.runtime.artifacts import remedy
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.npz import read_npz
from audionas.settings.values import Constraint, parse_size
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Study

COLUMNS = [
    *("kind", "space", "constraint", "size", "recipe", "iterations", "seed", "corpus", "train_clips"),
    *("valid_clips", "test_clips", "params", "macs", "valid_mAP", "valid_classes", "ratios", "depths"),
    *("mAP", "classes", "classes_left_out", "model"),
]
#: Columns that identify a model; rows that share them differ in the seed.
MODEL = ["kind", "space", "constraint", "size", "recipe", "iterations"]


class Estimate(NamedTuple):
    """A value or a difference over seeds.

    Attributes:
        mean, sd: mean and standard deviation (n - 1) over seeds.
        interval: 95 % interval over test clips, for the given seeds.
        seeds: the value of each seed.
        margin: half of the 95 % interval over both seeds and clips.
    """

    mean: float
    sd: float
    interval: Interval
    seeds: tuple[float, ...]
    margin: float

    @property
    def significant(self) -> bool:
        """Whether the interval for new seeds and clips excludes zero. False for fewer than three seeds."""
        return len(self.seeds) >= 3 and abs(self.mean) > self.margin


@dataclass(frozen=True)
class Model:
    """One model of the study, with the results of every seed.

    Attributes:
        kind, space, constraint, size, recipe, iterations: identity of the model; None if not applicable.
        rows: one row per seed, with `COLUMNS`.
        precisions: average precision [seeds, classes].
        draws: average precision on resamples of the test clips [seeds, draws, classes]; all models share the
            resamples.
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
        """Trainable parameters, averaged over seeds, because found networks differ between seeds."""
        return float(self.rows.params.mean())

    @property
    def macs(self) -> float:
        """Multiply-adds of one clip, averaged over seeds."""
        return float(self.rows.macs.mean())

    @cached_property
    def mAP(self) -> Estimate:
        """Mean average precision, between 0 and 1."""
        return _estimate(self.precisions, self.draws)

    def seed(self, seed: int) -> Model:
        """Return this model with a single seed."""
        chosen = (self.rows.seed == seed).to_numpy()
        return replace(
            self, rows=self.rows[chosen], precisions=self.precisions[chosen], draws=self.draws[chosen]
        )

    def over(self, other: Model) -> Estimate:
        """Return the mAP of this model minus that of another, paired by seed and by resample of clips."""
        return _estimate(self.precisions - other.precisions, self.draws - other.draws)

    def class_by_class(self, other: Model) -> list[Estimate]:
        """Return the average precision of this model minus that of another, per class."""
        classes = range(self.precisions.shape[1])
        pairs = self.precisions - other.precisions, self.draws - other.draws
        return [_estimate(pairs[0][:, c : c + 1], pairs[1][:, :, c : c + 1]) for c in classes]


def gain(first: tuple[Model, Model], second: tuple[Model, Model]) -> Estimate:
    """Return the difference of two differences of mAP: that of the first pair minus that of the second."""
    (a, b), (c, d) = first, second
    return _estimate(
        (a.precisions - b.precisions) - (c.precisions - d.precisions),
        (a.draws - b.draws) - (c.draws - d.draws),
    )


def _estimate(values: np.ndarray, draws: np.ndarray) -> Estimate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no class is NaN
        seeds, drawn = np.nanmean(values, axis=1), np.nanmean(draws, axis=2).mean(axis=0)
    return estimate(seeds, drawn)


def estimate(seeds: np.ndarray, drawn: np.ndarray) -> Estimate:
    """Return the estimate for the values of all seeds [seeds] and draws of their mean [draws]."""
    mean = float(np.mean(seeds))
    sd = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else float("nan")
    width = margin(float(np.nanstd(drawn)) if np.isfinite(drawn).any() else float("nan"), sd, len(seeds))
    return Estimate(mean, sd, interval(mean, drawn), tuple(map(float, seeds)), width)


def model_files(study: Study) -> Iterator[Path]:
    """Yield the model files that a study evaluates, in the order of its lists."""
    return (path for path, _ in _evaluated(study))


def _evaluated(study: Study) -> Iterator[tuple[Path, dict]]:
    """Yield the model files, with the identity that each result must have."""
    for seed in study.seeds:
        yield paths.teacher(seed), {"kind": "teacher", "seed": seed}
        for recipe in ("baseline", "kd"):
            for size in study.sizes:
                what = {"kind": "individual", "recipe": recipe, "size": size, "seed": seed}
                yield paths.individual(recipe, size, seed), what
        for constraint in study.constraints:
            what = {"constraint": constraint, "seed": seed}
            for space in study.spaces:
                yield paths.found(space, constraint, seed), {"kind": "found", "space": space, **what}
                yield paths.within(space, constraint, seed), {"kind": "within", "space": space, **what}
            for iterations in study.finetune_iterations:
                tuned = {"kind": "finetuned", "iterations": iterations, **what}
                yield paths.finetuned(constraint, iterations, seed), tuned
            yield paths.init(constraint, seed), {"kind": "init", **what}


def within_budget(limits: Constraint, costs: Mapping, tolerance: str | None = None) -> bool:
    """Return whether a network is within a budget.

    Args:
        limits: the budget.
        costs: `params` and `macs` of the network.
        tolerance: allowed deviation from a budget on parameters, to both sides. With None, it is a limit.
    """
    if tolerance is not None and limits.params is not None:
        if abs(costs["params"] - limits.params) > parse_size(tolerance):
            return False
        limits = limits._replace(params=None)
    return all(limit is None or costs[name] <= limit for name, limit in limits._asdict().items())


def collect(study: Study) -> pd.DataFrame:
    """Return one row per model of the study; mAP is between 0 and 1.

    Raises:
        UserError: a result is missing or damaged.
    """
    results = [_read_evaluation(model, what) for model, what in _evaluated(study)]
    # These describe the validation split, which all models share.
    split = {name: results[0][name] for name in _VALIDATED}
    rows = [{column: result.get(column, split.get(column)) for column in COLUMNS} for result in results]
    return pd.DataFrame(rows, columns=COLUMNS)


def _read_evaluation(model: Path, what: dict) -> dict:
    path = paths.evaluation(model)
    result = read_result(path, "mAP", "valid_mAP")
    # `model` locates the predictions, so it must be the expected path.
    for name, value in {"model": model.as_posix(), **what}.items():
        if result.get(name) != value:
            raise _damaged(path, f"{name}: {result.get(name)!r:.80}, expected {value!r}")
    for name in _COUNTED if what["kind"] in ("found", "within") else (*_COUNTED, *_VALIDATED):
        if result.get(name) is None:
            raise _damaged(path, f"{name}: missing")
    for name in ("ratios", "depths"):
        if what["kind"] != "teacher" and len(result.get(name) or ()) != 3:
            raise _damaged(
                path, f"{name}: {result.get(name)!r:.80}, expected a number for each of three blocks"
            )
    return result


def read_result(path: Path, *measures: str) -> dict:
    """Read the result of a stage.

    Args:
        path: the JSON file.
        measures: fields that must exist; they are returned as floats.

    Raises:
        UserError: the file or a field is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_RESULT + 1)
        if len(text) > _LARGEST_RESULT:
            raise ValueError(f"more than {_LARGEST_RESULT:,} bytes")
        result = json.loads(text)
        if not isinstance(result, dict):
            raise ValueError("not a JSON object")
        for measure in measures:
            if not _is_number(result.get(measure)):
                raise ValueError(f"{measure}: not a number")
        for name, fits in _FIELDS.items():
            if result.get(name) is not None and not fits(result[name]):
                raise ValueError(f"{name}: invalid value {result[name]!r:.80}")
        result |= {measure: float(result[measure]) for measure in measures}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except OSError as error:
        raise os_error(error, path) from None
    except (ValueError, RecursionError, OverflowError) as error:
        raise _damaged(path, error) from None
    return result


def _damaged(path: Path, why: Exception | str) -> UserError:
    return UserError(f"{path}: damaged ({str(why) or type(why).__name__}); {remedy(path)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _is_share(value: object) -> bool:
    return _is_number(value) and (value != value or 0 <= value <= 1)  # NaN is the mean of no class


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(_is_number(number) and abs(number) < 1e9 for number in value)


def _are_shares(value: object) -> bool:
    return isinstance(value, dict) and all(share is None or _is_share(share) for share in value.values())


#: Fields of every evaluated model.
_COUNTED = ("iterations", "train_clips", "test_clips", "params", "macs", "classes")
#: Fields of models that were validated individually, not with all of their space.
_VALIDATED = ("valid_clips", "valid_classes")
_LARGEST_RESULT = 64 << 20  # bytes
#: Fields of a result, with a check for each. None means not applicable.
_FIELDS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("kind", "space", "constraint", "size", "recipe", "corpus", "model"), _is_text),
    **dict.fromkeys(("iterations", "seed", "train_clips", "valid_clips", "test_clips"), _is_count),
    **dict.fromkeys(("params", "macs", "classes", "valid_classes", "classes_left_out"), _is_count),
    **dict.fromkeys(("mAP", "valid_mAP"), _is_share),
    **dict.fromkeys(("ratios", "depths"), _are_numbers),
    "AP": _are_shares,
}


def compare(results: pd.DataFrame, draws: int) -> list[Model]:
    """Return the models of a study with average precisions on the test split and on its resamples.

    Args:
        results: the table of `collect`.
        draws: number of resamples of the test clips; all models share them.

    Raises:
        UserError: predictions are missing or damaged, or models were evaluated on different clips.
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
                    raise UserError(
                        f"{path}: the test clips differ from those of other models; run `dvc repro`"
                    )
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
        test = read_npz(path, names)
        labels, probabilities = test["labels"], test["probabilities"]
        if labels.ndim != 2 or probabilities.shape != labels.shape or not labels.size:
            raise ValueError(f"probabilities {probabilities.shape} and labels {labels.shape}")
        if probabilities.dtype != np.float32 or not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError("probabilities: not all between 0 and 1")
        if labels.dtype != np.uint8 or labels.max() > 1:
            raise ValueError("labels: not all 0 or 1")
        for name in ("clips", "sources"):
            if test[name].shape != labels.shape[:1] or test[name].dtype.kind != "U":
                raise ValueError(f"{name}: not one name per clip")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except OSError as error:
        raise os_error(error, path) from None
    except Exception as error:  # a flipped bit may raise any error of zlib or NumPy
        raise _damaged(path, error) from None
    return test
