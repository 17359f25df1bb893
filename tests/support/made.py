"""A synthetic study without training: results of every model, scores of every sub-network."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import tiny

from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, read_rows
from audionas.evaluation.metrics import average_precisions
from audionas.reporting.table_files import write
from audionas.search.budget import near, within
from audionas.search.cnn10 import LARGEST, Cnn10Subnetwork
from audionas.search.tables import space_table
from audionas.settings.values import parse_constraint, parse_size
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import architecture_of, space_of
from audionas.systems.once_for_all.config import Config, parse_shape
from audionas.systems.once_for_all.results import model_files

CLIPS = 60


def make(folder: Path, strengths: dict | None = None, search: dict | None = None, **study) -> Config:
    """Write params.yaml, results and the table of released files of a study to `folder`, the working folder.

    Args:
        strengths: distance between positives and negatives in standard deviations, for all classes or per
            class. Keys are model paths without `models/`, seed and suffix.
    """
    wanted = {"seeds": [0, 1], "ranked": [0, 1, 2, 3, 4], "draws": 60} | study
    config = tiny.make(
        folder, study=tiny.PARAMS["study"] | wanted, search={"tolerance": "2k"} | (search or {})
    )
    architecture, chance = architecture_of(config), np.random.default_rng(0)
    labels = (chance.random((CLIPS, 4)) < 0.4).astype(np.uint8)
    for seed in config.study.seeds:
        for name in config.study.spaces:
            table = space_table(space_of(config, name))
            table["mAP"] = 0.3 + 0.2 * np.log(table.params / table.params.min()) / 3
            table["mAP"] += chance.normal(0, 0.02, len(table))
            table["supernet"] = "made"
            paths.scores(name, seed).parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(paths.scores(name, seed), index=False)
        for index in config.study.ranked:
            paths.ranking(index, seed).parent.mkdir(parents=True, exist_ok=True)
            paths.ranking(index, seed).write_text(json.dumps({"valid_mAP": 0.3 + 0.01 * index}))
    rows = [
        {
            "Budget": budget,
            "Format": name,
            "File": f"{budget}{suffix}",
            "kB": 9.5,
            "mAP": 60.0,
            "SHA-256": "0",
        }
        for budget in map(str, config.study.constraints)
        for name, suffix in paths.FORMATS.items()
    ]
    write(pd.DataFrame(rows), paths.released("").parent, "files", "Released files by format.", latex=False)
    for path in model_files(config.study):
        kind, seed = path.parts[1], int(path.stem.split("-")[-1])
        planted = (strengths or {}).get(f"{kind}/{path.stem.rpartition('-')[0]}")
        _result(config, path, kind, seed, labels, architecture, chance, planted)
    return config


def _result(config, path, kind, seed, labels, architecture, chance, planted) -> None:
    parts, strength = path.stem.split("-"), 1.0
    result = {"kind": kind, "seed": seed, "corpus": "soundfont", "train_clips": 24, "iterations": 12}
    result |= {"valid_mAP": 0.4, "valid_clips": 12, "valid_classes": 4}
    form = LARGEST
    if kind == "teacher":
        strength = 1.5
    elif kind == "individual":
        result["valid_mAP"] = 0.3
        ratio, depth = parse_shape(parts[1])
        form = Cnn10Subnetwork((ratio,) * 3, (depth,) * 3)
        result |= {"recipe": parts[0], "size": parts[1], "ratios": form.ratios, "depths": form.depths}
        strength = 0.5 if parts[0] == "kd" else 0.3
    else:
        space = "-".join(parts[:-2]) if kind in ("found", "within") else config.study.chosen_space
        constraint = parts[-2] if kind != "finetuned" else parts[0]
        searched, budget = space_of(config, space), parse_constraint(constraint)
        tolerance = parse_size(config.search.tolerance)
        scores = dict(zip(searched, pd.read_csv(paths.scores(space, seed)).mAP, strict=True))
        form = near(searched, budget, tolerance)[0]
        if kind in ("found", "within"):  # scored with the complete space
            del result["valid_clips"], result["valid_classes"]
        if kind == "within":
            form = max(within(searched, budget), key=scores.get)
        result |= {"space": space, "constraint": constraint, "recipe": "OFA"}
        result["valid_mAP"] = scores[form] + {"finetuned": 0.12, "init": -0.1}.get(kind, 0)
        result |= {"ratios": form.ratios, "depths": form.depths}
        if kind == "finetuned":
            result["iterations"] = int(parts[1])
            result["valid_mAP"] += int(parts[1]) / 1e3
            strength = 1.2
    strength = strength if planted is None else np.array(planted)
    probabilities = 1 / (1 + np.exp(-strength * labels - chance.normal(0, 1, labels.shape)))
    result |= {"params": architecture.parameters(form), "test_clips": len(labels), "model": path.as_posix()}
    result |= {"macs": architecture.multiply_adds(form, config.frames), "classes_left_out": 0}
    result["classes"] = labels.shape[1]
    precisions = average_precisions(labels, probabilities)
    classes = read_rows(data_paths.CLASSES, CLASSES)
    result["AP"] = {row["mid"]: float(ap) for row, ap in zip(classes, precisions, strict=True)}
    result["mAP"] = float(precisions.mean())
    paths.evaluation(path).parent.mkdir(parents=True, exist_ok=True)
    paths.evaluation(path).write_text(json.dumps(result))
    with paths.predictions(path).open("wb") as file:
        ids = np.array([f"clip{i}" for i in range(len(labels))])
        np.savez(file, probabilities=probabilities.astype(np.float32), labels=labels, clips=ids, sources=ids)
