"""`evaluate-…`: a model on the test split. Only this stage opens it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from audionas import paths
from audionas.config import Config
from audionas.device import prepare
from audionas.evaluation import average_precisions, predict
from audionas.files import atomic_write
from audionas.models.architecture import count_multiply_adds
from audionas.stages.inputs import load_for, open_logmel

FORM = ("widths", "depths", "hidden", "num_classes", "mels")


def run(config: Config, model: str) -> None:
    """models/….pt to results/eval/….json: mAP, AP of each class, parameters, multiply-adds.

    And results/eval/….npz: `probabilities` float32 and `labels` uint8 [clips, classes], `clips` and
    `sources`, their ids and those of the recordings they were cut from; intervals and paired comparisons need
    no more of the test split. Classes without a positive clip have AP null, and are counted and left out.
    """
    test = open_logmel(config, "test")
    device = prepare(config.training, seed=0)
    path = Path(model)
    network, about = load_for(path, test)
    probabilities = predict(network.to(device), test, config.training.batch_size)
    ap = average_precisions(test.labels, probabilities)
    result = {
        **{key: value for key, value in about.items() if key not in ("classes", "settings")},
        "model": path.as_posix(),
        "test_clips": len(test),
        "params": sum(p.numel() for p in network.parameters()),
        "macs": count_multiply_adds(*(network.spec[key] for key in FORM), config.frames),
        "mAP": float(np.nanmean(ap)),
        "classes_left_out": int(np.isnan(ap).sum()),
        "AP": {name: None if np.isnan(v) else float(v) for name, v in zip(test.classes, ap, strict=True)},
    }
    with atomic_write(paths.evaluation(path)) as temporary:
        temporary.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    listed = pd.read_csv(paths.segments("test"), dtype=str, keep_default_na=False).set_index("clip_id")
    predictions = {
        "probabilities": probabilities,
        "labels": np.asarray(test.labels, np.uint8),
        "clips": np.array(test.clip_ids),
        "sources": listed.source[test.clip_ids].to_numpy(str),
    }
    with atomic_write(paths.predictions(path)) as temporary:
        write_npz(temporary, predictions)


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
