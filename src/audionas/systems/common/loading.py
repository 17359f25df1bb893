"""Open log-mel stores and models, checked against the experiment and each other."""

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
    """A split's log-mel store, made with this experiment's settings.

    Raises:
        UserError: other settings, other classes, a damaged file, or a validation or test split in which no
            class has both a positive and a negative clip.
    """
    store = ClipStore(paths.logmel(split), config.feature_settings())
    if len(store.classes) != config.num_classes:
        raise UserError(
            f"{store.path}: holds {len(store.classes)} classes and network.num_classes in params.yaml is "
            f"{config.num_classes}; set it to {len(store.classes)}"
        )
    if split != "train" and not measurable(store.labels).any():
        raise UserError(
            f"{store.path}: every clip has the same labels, so that no metric can be computed; give the "
            f"split {split} clips of other classes: change the lists or corpus in params.yaml"
        )
    return store


def load_for(path: Path, store: ClipStore, load: Callable = load_model) -> tuple[nn.Module, dict[str, Any]]:
    """A model that was trained on this store's classes, in their order, and with its feature settings.

    Args:
        load: `load_model`, or `load_supernet` for a supernet.

    Raises:
        UserError: it was trained on other classes or settings.
    """
    network, about = load(path)
    for what, have, want in (
        ("classes", about.get("classes"), store.classes),
        ("settings", about.get("settings"), store.settings),
    ):
        if have != want:
            raise UserError(f"{path}: trained with other {what} than {store.path} holds; run `dvc repro`")
    return network, about
