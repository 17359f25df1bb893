"""Configuration of the system `once_for_all`: the sections of `params.yaml`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from audionas.settings.audio import Augment
from audionas.settings.deploy import Deploy
from audionas.settings.experiment import Experiment
from audionas.settings.search import Search
from audionas.settings.training import Calibration, Distillation, SupernetTraining, Training
from audionas.settings.values import (
    Budget,
    Count,
    Positive,
    Rate,
    Section,
    Seed,
    checked,
    parse_constraint,
    unique,
)

Space = Literal["x-x-x", "2-x-x", "2-2-x", "ew"]

_SHAPE = re.compile(r"(0?\.[0-9]{1,15}|1(?:\.0{1,15})?)x([12])")

_MOST_MODELS = 20_000  # limit per study


def parse_shape(text: str) -> tuple[float, int]:
    """Parse the width ratio and depth of a uniform network, such as `0.6x1` (section 3.2 of the paper).

    Raises:
        ValueError: the text is not of this form.
    """
    match = _SHAPE.fullmatch(str(text))
    if not match:
        raise ValueError(f"{text!r} is not a uniform network; write RATIOxDEPTH, such as 0.6x1 or 1.0x2")
    return float(match[1]), int(match[2])


Shape = Annotated[str, Field(max_length=40), AfterValidator(checked(parse_shape))]


class Network(Section):
    """Size of CNN10; the paper uses 527 classes and 64 channels in the first block."""

    num_classes: Annotated[int, Field(gt=0, le=100_000)]
    base_channels: Annotated[int, Field(gt=0, le=1_024)] = 64
    block_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    width_rounding: Literal["floor", "nearest"] = "floor"


class Teacher(Section):
    """Training of the teacher CNN10 with BCE, mixup and SpecAugment (section 3.2)."""

    iterations: Positive = 400_000
    mixup_alpha: Annotated[float, Field(ge=0, le=1_000)] = 1.0


class Individual(Section):
    """Training of individual networks: baseline, KD and init+N (sections 3.2 and 4.3)."""

    iterations: Positive = 100_000


class Finetune(Section):
    """Continual fine-tuning by distillation (section 4.3)."""

    learning_rate: Rate = 1e-3


class Study(Section):
    """The lists that define the stages. A new entry adds stages and restarts no others."""

    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1_000), AfterValidator(unique)] = [0]
    spaces: Annotated[list[Space], Field(min_length=1, max_length=1_000), AfterValidator(unique)]
    chosen_space: Space = "2-2-x"
    constraints: Annotated[
        list[Budget],
        Field(min_length=1, max_length=1_000),
        AfterValidator(lambda values: unique(values, parse_constraint)),
    ]
    sizes: Annotated[
        list[Shape],
        Field(min_length=1, max_length=1_000),
        AfterValidator(lambda values: unique(values, parse_shape)),
    ]
    finetune_iterations: Annotated[
        list[Positive], Field(min_length=1, max_length=1_000), AfterValidator(unique)
    ]
    # resamples of the test clips, and random searches, per interval
    draws: Annotated[int, Field(gt=0, le=100_000)] = 1_000
    # 10^9 operations per second, to convert operations to hours; `make bench` measures them
    gflops: Annotated[float, Field(gt=0, le=1e12)] = 50.0
    # Indices, in a random order, of sub-networks of the chosen space that are also trained individually. They
    # show how well the scores of the supernet rank networks.
    ranked: Annotated[list[Count], Field(max_length=1_000), AfterValidator(unique)] = []

    @model_validator(mode="after")
    def _chosen(self):
        if self.chosen_space not in self.spaces:
            raise ValueError(
                f"chosen_space {self.chosen_space!r} is not in spaces {self.spaces}; "
                "add it to spaces, or choose one of spaces"
            )
        return self

    @model_validator(mode="after")
    def _bounded(self):
        found = len(self.spaces) * len(self.constraints)
        rest = len(self.constraints) * (len(self.finetune_iterations) + 1) + 2 * len(self.sizes)
        models = len(self.seeds) * (1 + len(self.spaces) + found + rest + len(self.ranked))
        if models > _MOST_MODELS:
            raise ValueError(
                f"the lists define {models:,} models, more than the limit of {_MOST_MODELS:,}; shorten the "
                "lists, or run several studies"
            )
        return self


class Config(Experiment):
    """All sections of `params.yaml`."""

    system: Literal["once_for_all"] | None = None  # optional in the main study
    network: Network
    augment: Augment
    training: Training
    teacher: Teacher
    distillation: Distillation
    supernet: SupernetTraining
    calibration: Calibration
    search: Search
    individual: Individual
    finetune: Finetune
    deploy: Deploy
    study: Study

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.network.num_classes

    @model_validator(mode="after")
    def _consistent(self):
        if self.augment.time_mask_frames >= self.frames:
            raise ValueError(
                f"augment.time_mask_frames {self.augment.time_mask_frames} is not shorter than a clip of "
                f"{self.frames} frames; lower it, or raise audio.clip_seconds"
            )
        if self.augment.mel_mask_bins >= self.features.mels:
            raise ValueError(
                f"augment.mel_mask_bins {self.augment.mel_mask_bins} is not narrower than features.mels "
                f"{self.features.mels}; lower it"
            )
        if min(self.frames, self.features.mels) < 16:
            raise ValueError(
                f"a clip of {self.frames} frames x {self.features.mels} mels is too small for the four 2x2 "
                "poolings of CNN10; use at least 16 of each (features.hop, features.mels, audio.clip_seconds)"
            )
        return self

    @model_validator(mode="after")
    def _trainable(self):
        if self.distillation.in_place and self.supernet.sampling != "sandwich":
            raise ValueError(
                "distillation.in_place needs the largest network in every step, but supernet.sampling is "
                f"{self.supernet.sampling}; set supernet.sampling to sandwich, or in_place to false"
            )
        shortest = min(
            (self.teacher.iterations, "teacher.iterations"),
            (
                self.supernet.largest_iterations + self.supernet.sampled_iterations,
                "the sum of supernet.largest_iterations and supernet.sampled_iterations",
            ),
            (self.individual.iterations, "individual.iterations"),
            (min(self.study.finetune_iterations), "the minimum of study.finetune_iterations"),
        )
        # A silently shortened warm-up would change the recipe.
        if self.training.warmup_iterations >= shortest[0]:
            raise ValueError(
                f"training.warmup_iterations {self.training.warmup_iterations} is not shorter than every "
                f"training: {shortest[1]} is {shortest[0]}; lower the warm-up, or raise the iterations"
            )
        return self
