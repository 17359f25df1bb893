"""Stage `evaluate-…`: evaluate a model on the test split. No other stage opens the test split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from audionas.data import paths as data_paths
from audionas.data.ledger import iter_rows
from audionas.data.store import ClipStore
from audionas.evaluation.metrics import average_precisions
from audionas.evaluation.prediction import predict
from audionas.runtime.device import prepare
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write
from audionas.runtime.npz import write_npz
from audionas.search.costs.cnn10 import count_multiply_adds
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.tasks import MultiLabel

FORM = ("widths", "depths", "hidden", "num_classes", "mels")


def run(config: Config, model: str) -> None:
    """Write results/eval/….json and results/eval/….npz from models/….pt.

    The JSON file has mAP, AP per class, parameters and multiply-adds. A class without a positive or without
    a negative clip has AP null and is excluded from the mAP. `classes` counts the classes in the mAP, and
    `classes_left_out` the excluded ones.

    The NPZ file has `probabilities` float32 and `labels` uint8 [clips, classes], `clips` (ids) and `sources`
    (recordings). Intervals and paired comparisons need no more of the test split.
    """
    test = open_logmel(config, "test")
    device = prepare(config.training, seed=0)
    path = Path(model)
    network, about = load_for(path, test)
    sources = sources_of(data_paths.segments("test"), test)
    probabilities = predict(network.to(device), test, config.training.batch_size, MultiLabel().activation)
    ap = average_precisions(test.labels, probabilities)
    result = {
        **{key: value for key, value in about.items() if key not in ("classes", "settings")},
        "model": path.as_posix(),
        "test_clips": len(test),
        "params": sum(p.numel() for p in network.parameters()),
        "macs": count_multiply_adds(*(network.spec[key] for key in FORM), config.frames),
        "mAP": float(np.nanmean(ap)),
        "classes": int(np.isfinite(ap).sum()),
        "classes_left_out": int(np.isnan(ap).sum()),
        "AP": {name: None if np.isnan(v) else float(v) for name, v in zip(test.classes, ap, strict=True)},
    }
    with atomic_write(paths.evaluation(path)) as temporary:
        temporary.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    predictions = {
        "probabilities": probabilities,
        "labels": np.asarray(test.labels, np.uint8),
        "clips": np.array(test.clip_ids),
        "sources": np.array(sources),
    }
    with atomic_write(paths.predictions(path)) as temporary:
        write_npz(temporary, predictions)


def sources_of(path: Path, store: ClipStore) -> list[str]:
    """Return the recording of each clip of a store, from the list of its split."""
    listed = {row["clip_id"]: row["source"] for row in iter_rows(path, ("clip_id", "source"))}
    try:
        return [listed[clip_id] for clip_id in store.clip_ids]
    except KeyError as error:
        raise UserError(f"{path}: clip {error} of {store.path} is missing; run `dvc repro`") from None
