"""Load log-mel stores and models, with checks that they match the experiment and each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from audionas.data import paths
from audionas.data.store import ClipStore
from audionas.evaluation.metrics import measurable
from audionas.models.files import load_model
from audionas.runtime.errors import UserError
from audionas.settings.experiment import Experiment


def open_logmel(config: Experiment, split: str) -> ClipStore:
    """Open the log-mel store of a split.

    Raises:
        UserError: the store has other settings or classes than the experiment, the file is damaged, or no
            class of a validation or test split has both positive and negative clips.
    """
    store = ClipStore(paths.logmel(split), config.feature_settings())
    if len(store.classes) != config.num_classes:
        raise UserError(
            f"{store.path}: {len(store.classes)} classes, but network.num_classes in params.yaml is "
            f"{config.num_classes}; set it to {len(store.classes)}"
        )
    if split != "train" and not measurable(store.labels).any():
        raise UserError(
            f"{store.path}: every clip has the same labels, so no metric can be computed; add clips "
            f"of other classes to the split {split}: change the lists or corpus in params.yaml"
        )
    return store


def load_for(path: Path, store: ClipStore, load: Callable = load_model) -> tuple[nn.Module, dict[str, Any]]:
    """Load a model and its metadata for a log-mel store.

    Args:
        path: the model file.
        store: the store; the model must have the same classes, in the same order, and the same settings.
        load: `load_model`, or `load_supernet` for a supernet.

    Raises:
        UserError: the model was trained with other classes or settings.
    """
    network, about = load(path)
    for what, have, want in (
        ("classes", about.get("classes"), store.classes),
        ("settings", about.get("settings"), store.settings),
    ):
        if have != want:
            raise UserError(f"{path}: trained with other {what} than those of {store.path}; run `dvc repro`")
    return network, about
