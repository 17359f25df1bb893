"""Predictions of an exported network for the clips of a store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from audionas.data.store import ClipStore
from audionas.deploy.onnx_files import KEY, OUTPUT, OnnxModel, encoded
from audionas.evaluation.prediction import batches
from audionas.runtime.errors import UserError
from audionas.settings.audio import Features


def predict(model: OnnxModel, store: ClipStore, batch_size: int = 64) -> np.ndarray:
    """Return the probabilities, float32 [clips, classes], of an ONNX file through ONNX Runtime.

    Args:
        model: with `exact=True`, int8 is evaluated in exact arithmetic.
        store: waveforms or log-mel, as the model takes them.
        batch_size: clips per run.

    Raises:
        UserError: the store has other classes, settings or kind of data than the model.
    """
    kind = "waveform" if len(store.data.shape) == 2 else "features"
    if kind != model.input:
        raise UserError(
            f"{store.path}: clips are {kind}, but the input of {model.path} is {model.input}; give the other "
            "store, or export with the other `--input`"
        )
    require_same(model.about, store, model.path)
    return np.concatenate([model.probabilities(batch.numpy()) for batch in batches(store, batch_size)])


def network_part(path: Path, exact: bool = False) -> OnnxModel:
    """Open the part of an ONNX file after its front end, to run it on log-mel spectrograms.

    Args:
        path: a file of `audionas export`; one without a front end is opened as it is.
        exact: see `OnnxModel`.

    Raises:
        UserError: the file is missing, damaged, or not from `audionas export`.
    """
    whole = OnnxModel(path)
    if whole.input == "features" or not whole.about["settings"].get("features"):
        return OnnxModel(path, exact=exact)
    import onnx

    model = onnx.utils.Extractor(onnx.load(path)).extract_model(["features"], [OUTPUT])
    del model.metadata_props[:]
    frames = Features(**whole.about["settings"]["features"]).frames(whole.shortest)
    onnx.helper.set_model_props(
        model, {KEY: json.dumps(whole.metadata | {"input": "features", "shortest": frames})}
    )
    return OnnxModel(path, content=encoded(model), exact=exact)


def require_same(about: dict, store: ClipStore, where: object) -> None:
    """Raise UserError unless a store has the classes and settings of a model."""
    settings = about.get("settings", {})
    for what, have, want in (
        ("classes", store.classes, about.get("classes")),
        ("settings", store.settings, {key: settings.get(key) for key in store.settings}),
    ):
        if have != want:
            raise UserError(f"{store.path}: other {what} than those of {where}; give a store of its study")
