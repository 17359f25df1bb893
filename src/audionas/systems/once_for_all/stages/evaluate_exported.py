"""Stage `evaluate-exported@constraint`: evaluate exported files on the test split, with ONNX Runtime."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from audionas.data import paths as data_paths
from audionas.deploy.evaluation import network_part
from audionas.deploy.evaluation import predict as predict_exported
from audionas.evaluation.metrics import average_precisions
from audionas.evaluation.prediction import predict
from audionas.runtime.device import prepare
from audionas.runtime.files import atomic_write
from audionas.runtime.npz import write_npz
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.stages.evaluate import sources_of
from audionas.tasks import MultiLabel


def run(config: Config, constraint: str) -> None:
    """Write results/exported/{constraint}.json and .npz from models/exported/{constraint}.

    The JSON file has for each format the file, its bytes and SHA-256, the mAP, and precision, recall and F1
    at the thresholds, each averaged over the classes. The NPZ file has `probabilities` float32 [formats,
    clips, classes], and `labels`, `clips` and `sources` as in `evaluate`. The front end of a file is not run:
    the input is the log-mel spectrogram of the split; the parity report of the export covers the front end.
    """
    test = open_logmel(config, "test")
    prepare(config.training, seed=0)
    folder, results, predictions = paths.exported(constraint), {}, []
    network, about = load_for(folder / f"{constraint}.pt", test)
    for name, suffix in paths.FORMATS.items():
        path = folder / f"{constraint}{suffix}"
        if name == "pytorch":
            probabilities = predict(network, test, config.training.batch_size, MultiLabel().activation)
        else:
            probabilities = predict_exported(
                network_part(path, exact="int8" in name), test, config.training.batch_size
            )
        predictions.append(probabilities)
        content = path.read_bytes()
        results[name] = {
            "file": path.name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "mAP": float(np.nanmean(average_precisions(test.labels, probabilities))),
            **_detection(test.labels, probabilities, about["thresholds"]),
        }
    result = {"budget": constraint, "test_clips": len(test), "formats": results}
    with atomic_write(paths.exported_result(constraint)) as temporary:
        temporary.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    arrays = {
        "probabilities": np.stack(predictions),
        "labels": np.asarray(test.labels, np.uint8),
        "clips": np.array(test.clip_ids),
        "sources": np.array(sources_of(data_paths.segments("test"), test)),
    }
    with atomic_write(paths.exported_result(constraint).with_suffix(".npz")) as temporary:
        write_npz(temporary, arrays)


def _detection(labels: np.ndarray, probabilities: np.ndarray, thresholds: list[float]) -> dict[str, float]:
    """Return precision, recall and F1 of detections, averaged over classes with a positive and a negative.

    A class without a detection has precision 0, as in scikit-learn.
    """
    positive, detected = np.asarray(labels) != 0, probabilities >= np.array(thresholds)
    measured = positive.any(axis=0) & ~positive.all(axis=0)
    hits = (positive & detected).sum(axis=0)[measured]
    found, wanted = detected.sum(axis=0)[measured], positive.sum(axis=0)[measured]
    return {
        "precision": float((hits / np.maximum(found, 1)).mean()),
        "recall": float((hits / wanted).mean()),
        "F1": float((2 * hits / (found + wanted)).mean()),
    }
