"""Sections for training that systems share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from audionas.settings.values import Count, Positive, Rate, Seconds, Section


class Training(Section):
    """Settings of every training run (section 3.3)."""

    batch_size: Annotated[int, Field(gt=0, le=65_536)] = 64
    learning_rate: Rate = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_iterations: Count = 0  # of linear warm-up, before the schedule
    averaging: Literal["none", "ema", "swa"] = "none"  # of the evaluated and saved weights
    averaging_decay: Annotated[float, Field(gt=0, lt=1)] = 0.999  # of ema, per iteration
    threads: Annotated[int, Field(gt=0, le=1_024)] = 2  # changes the bits of float sums, so it is a parameter
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = (
        "float32"  # of forward and backward passes; weights are float32
    )
    compile: bool = False  # single networks and the teacher; takes a minute or more at every start
    sampler: Literal["uniform", "balanced"] = "uniform"  # balanced: one clip of every class in turn (PANNs)
    gpus: Annotated[int, Field(ge=0, le=1_024)] = 0  # that a scheduler reserves for each training
    valid_every: Positive = 1_000  # iterations between validations for the curve
    checkpoint_seconds: Seconds = 60.0


class Distillation(Section):
    """The loss of equation 2; hard labels are not in the paper, so their weight is 0."""

    teacher_input: Literal["augmented", "clean", "stored"] = "augmented"  # stored: clean, computed once
    hard_label_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    in_place: bool = False  # the largest sub-network learns from the teacher, the others from the largest


class SupernetTraining(Section):
    """Once-for-all training: the largest network first, then sampled ones (sections 2.3 and 3.3)."""

    largest_iterations: Count = 100_000
    sampled_iterations: Positive = 200_000
    networks_per_step: Annotated[int, Field(gt=0, le=1_000)] = 4
    sampling: Literal["uniform", "sandwich"] = (
        "uniform"  # sandwich: the largest and the smallest in each step
    )
    sort_channels: bool = False  # by importance, when the sampled phase begins

    @model_validator(mode="after")
    def _between(self):
        if self.sampling == "sandwich" and self.networks_per_step < 3:
            raise ValueError(
                f"supernet.networks_per_step {self.networks_per_step} is too low for supernet.sampling "
                "sandwich, which takes the largest and the smallest in each step; raise it to 3 or more"
            )
        return self


class Calibration(Section):
    """Batches for the estimate of BatchNorm statistics before every score."""

    batches: Annotated[int, Field(gt=0, le=1_000_000)] = 64
