"""Parameters that all systems share: corpus, audio and features."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from audionas.settings.audio import Audio, Features, check_front_end
from audionas.settings.corpora import AudiosetCorpus, Esc50Corpus, FolderCorpus, SoundfontCorpus
from audionas.settings.values import Section


class Experiment(Section):
    """Sections for the stages up to the features; a system's `Config` adds its own."""

    system: str | None = None  # name of the system
    corpus: Annotated[
        SoundfontCorpus | FolderCorpus | Esc50Corpus | AudiosetCorpus, Field(discriminator="name")
    ]
    audio: Audio
    features: Features

    @property
    def num_classes(self) -> int:
        """Number of classes of the networks."""
        raise NotImplementedError

    @property
    def frames(self) -> int:
        """Number of frames of a clip."""
        return self.features.frames(self.audio.clip_samples)

    @model_validator(mode="after")
    def _computable(self):
        check_front_end(self.audio, self.features)
        if self.audio.min_seconds > self.audio.clip_seconds:
            raise ValueError("audio.min_seconds is longer than audio.clip_seconds; lower it")
        return self

    def feature_settings(self) -> dict[str, Any]:
        """Return the settings that a log-mel store must have to be read with this configuration."""
        return {"audio": self.audio.model_dump(), "features": self.features.model_dump()}
