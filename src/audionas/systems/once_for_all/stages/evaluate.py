"""`evaluate-…`: a model on the test split. No other stage reads that split."""

from __future__ import annotations

import io
import json
import zipfile
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
from audionas.search.costs.cnn10 import count_multiply_adds
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.tasks import MultiLabel

FORM = ("widths", "depths", "hidden", "num_classes", "mels")


def run(config: Config, model: str) -> None:
    """models/….pt to results/eval/….json: mAP, AP of each class, parameters, multiply-adds.

    And results/eval/….npz: `probabilities` float32 and `labels` uint8 [clips, classes], `clips` and
    `sources`, the ids of clips and of the recordings they were cut from; intervals and paired comparisons
    read nothing else of the test split. Classes without a positive or without a negative clip have AP null,
    and are left out of the mAP: `classes` is the number of those in the mean, `classes_left_out` of the rest.
    """
    test = open_logmel(config, "test")
    device = prepare(config.training, seed=0)
    path = Path(model)
    network, about = load_for(path, test)
    sources = _sources(data_paths.segments("test"), test)
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


def _sources(path: Path, store: ClipStore) -> list[str]:
    """The recording of each clip of a store, from the list of its split."""
    listed = {row["clip_id"]: row["source"] for row in iter_rows(path, ("clip_id", "source"))}
    try:
        return [listed[clip_id] for clip_id in store.clip_ids]
    except KeyError as error:
        raise UserError(f"{path}: no clip {error}, which {store.path} holds; run `dvc repro`") from None


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """What `numpy.savez` writes, with the same bytes under every Python.

    `savez` asks for zip64, which Python marks in another way from 3.11.4 on, so that DVC would take the
    predictions of one lab for stale in another.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
