"""Networks to release, and the table of their exported files.

The table compares the size and accuracy of the formats on the same test clips.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from audionas.deploy.devices.table import file_text, read_measurements
from audionas.models.files import read_model
from audionas.reporting.captions import budget_text
from audionas.reporting.intervals import average_precisions, resamples
from audionas.reporting.table_files import read_csv
from audionas.runtime.errors import UserError
from audionas.runtime.npz import read_npz
from audionas.settings.values import parse_constraint
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.results import estimate, model_files, read_result, within_budget

CAPTION = (
    "mAP × 100 on test [95 % interval over test clips], and its difference to PyTorch on the same clips. "
    "Precision, recall and F1 × 100 are averaged over classes, at the thresholds chosen on validation. ONNX "
    "files run through ONNX Runtime, from the log-mel spectrogram on; int8 in exact arithmetic, which does "
    "not depend on the processor."
)
#: Formats that a device file has latencies of, by the type of weights.
_TYPES = {"onnx": "float32", "onnx-int8": "int8"}
_ARRAYS = ("probabilities", "labels", "clips", "sources")
_SHIP = paths.TABLES / "ship.csv"


def released_networks(config: Config) -> list[pd.Series]:
    """Return the row of the table `ship` for each budget.

    Raises:
        UserError: the table is missing or damaged, or a file does not belong to this study or exceeds its
            budget.
    """
    return [released_network(config, constraint) for constraint in config.study.constraints]


def released_network(config: Config, constraint: str) -> pd.Series:
    """Return the row of the table `ship` for a budget; see `released_networks`."""
    table = read_csv(_SHIP, ["Budget", "File"])
    rows = table[table.Budget == constraint]
    if len(rows) != 1:
        raise UserError(f"{_SHIP}: Budget: {len(rows)} rows of {constraint}; run `dvc repro tables`")
    row = rows.iloc[0]
    # A name from a table is compared with known files, never opened.
    known = {path.as_posix(): path for path in model_files(config.study)}
    if row.File not in known:
        raise UserError(f"{_SHIP}: File: {row.File!r} is not a network of this study; run `dvc repro tables`")
    costs = read_result(paths.evaluation(known[row.File]), "params", "macs")
    tolerance = config.search.released_tolerance
    if not within_budget(parse_constraint(constraint), costs, tolerance):
        raise UserError(
            f"{_SHIP}: File: {row.File} is not within the budget, {budget_text(constraint, tolerance)}; run "
            "`dvc repro tables`"
        )
    return row


def files_table(config: Config) -> pd.DataFrame:
    """Return one row per budget and format. mAP and differences are x 100.

    The latency `ms` is that of the network on one clip, front end included, if the device file
    `deploy.device` has it.

    Raises:
        UserError: a result or the device file is missing or damaged.
    """
    study, latencies = config.study, _latencies(config.deploy.device)
    tables = []
    for constraint in study.constraints:
        content = read_model(paths.exported(constraint) / f"{constraint}.pt")
        text = file_text(content["model"], content["spec"], config.feature_settings())
        ms = {name: latencies.get((text, dtype), np.nan) for name, dtype in _TYPES.items()}
        table = _rows(constraint, study.draws)
        tables.append(table.assign(ms=table.Format.map(ms)))
    return pd.concat(tables, ignore_index=True)


def latency_caption(config: Config) -> str:
    """Describe the column `ms` of the table, or return nothing if the device file has no network of it."""
    rows = list(read_measurements(config.deploy.device).values())
    if not rows:
        return ""
    return (
        f" ms: median time of one clip of {config.audio.clip_seconds:g} s, front end included, one thread, "
        f"on {rows[0].device} ({rows[0].runtime.rpartition(' ')[0]})."
    )


def _latencies(device: str) -> dict[tuple[str, str], float]:
    """Return the latency in ms by architecture and type of weights."""
    rows = read_measurements(device).values()
    for field in ("device", "clock"):
        if len({getattr(row, field) for row in rows}) > 1:
            raise UserError(
                f"{device}: rows of several {field}s; use one file for each, and name it in deploy.device"
            )
    if len({(row.architecture, row.runtime.rpartition(" ")[2]) for row in rows}) < len(rows):
        raise UserError(f"{device}: a network is there twice for one type of weights; keep one of the rows")
    return {(row.architecture, row.runtime.rpartition(" ")[2]): row.latency_ms for row in rows}


def _rows(constraint: str, draws: int) -> pd.DataFrame:
    path = paths.exported_result(constraint)
    formats = read_result(path).get("formats")
    arrays = read_npz(path.with_suffix(".npz"), _ARRAYS)
    try:
        stacked, labels = arrays["probabilities"], arrays["labels"]
        if stacked.shape != (len(paths.FORMATS), *labels.shape):
            raise ValueError(f"probabilities {stacked.shape} and labels {labels.shape}")
        weights = np.vstack([np.ones(len(labels), np.float32), resamples(arrays["sources"], draws)])
        drawn = [average_precisions(labels, probabilities, weights) for probabilities in stacked]
        rows = []
        for (name, suffix), values in zip(paths.FORMATS.items(), drawn, strict=True):
            one = formats[name]
            means, base = np.nanmean(values, axis=1), np.nanmean(drawn[0], axis=1)
            accuracy, change = (estimate(x[:1], x[1:]).interval for x in (means, means - base))
            rows.append(
                {
                    "Budget": constraint,
                    "Format": name,
                    "File": f"{constraint}{suffix}",
                    "kB": one["bytes"] / 1e3,
                    "mAP": 100 * accuracy.value,
                    "low mAP": 100 * accuracy.low,
                    "high mAP": 100 * accuracy.high,
                    "minus PyTorch": 100 * change.value,
                    "low minus PyTorch": 100 * change.low,
                    "high minus PyTorch": 100 * change.high,
                    "precision": 100 * one["precision"],
                    "recall": 100 * one["recall"],
                    "F1": 100 * one["F1"],
                    "SHA-256": one["sha256"],
                }
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run `dvc repro`") from None
    return pd.DataFrame(rows)
