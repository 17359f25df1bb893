"""What the parameters of every system begin with: which clips, and what is computed of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from audionas.settings.audio import Audio, Features, check_front_end
from audionas.settings.corpora import AudiosetCorpus, Esc50Corpus, FolderCorpus, SoundfontCorpus
from audionas.settings.values import Section


class Experiment(Section):
    """Sections that stages from the lists to the features read; a system's `Config` adds its own."""

    system: str | None = None  # which system's parameters these are
    corpus: Annotated[
        SoundfontCorpus | FolderCorpus | Esc50Corpus | AudiosetCorpus, Field(discriminator="name")
    ]
    audio: Audio
    features: Features

    @property
    def num_classes(self) -> int:
        """How many classes the networks tell apart."""
        raise NotImplementedError

    @property
    def frames(self) -> int:
        """Frames of one clip: 1 + samples // hop, since the transform is centred."""
        return 1 + self.audio.clip_samples // self.features.hop

    @model_validator(mode="after")
    def _computable(self):
        check_front_end(self.audio, self.features)
        if self.audio.min_seconds > self.audio.clip_seconds:
            raise ValueError("audio.min_seconds is longer than audio.clip_seconds; lower it")
        return self

    def feature_settings(self) -> dict[str, Any]:
        """What a packed log-mel file must have been made with, to be read under this configuration."""
        return {"audio": self.audio.model_dump(), "features": self.features.model_dump()}
