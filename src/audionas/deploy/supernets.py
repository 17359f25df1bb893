"""Released supernets: the model file, and the search space for an input length."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from audionas.models.files import load_supernet, read_model
from audionas.models.registry import MODELS
from audionas.runtime.errors import UserError
from audionas.search.space import FiniteSpace
from audionas.settings.audio import Audio, Features
from audionas.supernet.base import Supernet

_FEWEST_FRAMES = 16  # four 2x2 poolings leave one


class Released(NamedTuple):
    """A supernet from a model file.

    Attributes:
        network: the supernet.
        about: metadata of the file.
        audio, features: settings of the front end.
    """

    network: Supernet
    about: dict[str, Any]
    audio: Audio
    features: Features

    def space(self, seconds: float | None = None) -> FiniteSpace:
        """Return the search space, with costs for inputs of `seconds`, by default those of training clips.

        Raises:
            UserError: the supernet is for another space, or the input is too short.
        """
        frames = self.frames(seconds)
        if frames < _FEWEST_FRAMES:
            least = _FEWEST_FRAMES * self.features.hop / self.audio.sample_rate
            raise UserError(
                f"--seconds {seconds:g}: {frames} frames, and the networks need {_FEWEST_FRAMES}; give "
                f"{least:.3g} or more"
            )
        return self.network.space(self.about["space"], frames)

    def frames(self, seconds: float | None = None) -> int:
        """Return the frames of an input."""
        return self.features.frames(round(self.audio.sample_rate * (seconds or self.audio.clip_seconds)))


def is_supernet(path: str | Path) -> bool:
    """Return whether a model file holds a supernet. Raises UserError as `read_model` does."""
    return MODELS[read_model(path)["model"]].supernet


def open_supernet(path: str | Path) -> Released:
    """Load a supernet.

    Raises:
        UserError: the file is missing, damaged, not a supernet, or lacks the settings or the space.
    """
    network, about = load_supernet(path)
    try:
        settings = about["settings"]
        audio, features = Audio(**settings["audio"]), Features(**settings["features"])
        if not isinstance(about["space"], str):
            raise TypeError
    except (KeyError, TypeError):
        raise UserError(
            f"{path}: the search space or the settings of the features are missing; make the supernet with "
            "`dvc repro`"
        ) from None
    return Released(network, about, audio, features)
