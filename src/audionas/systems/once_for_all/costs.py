"""Training costs in multiply-adds, counted from the configuration and not measured.

The counts exclude validation during training, BatchNorm calibration after it, and stored targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from audionas.search.budget import near
from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Subnetwork
from audionas.settings.values import parse_constraint, parse_size
from audionas.supernet.sampling import RULES
from audionas.systems.once_for_all.architecture import architecture_of, space_of
from audionas.systems.once_for_all.config import Config, parse_shape

BACKWARD = 3  # a step in forward passes: one, and two for the gradients of inputs and weights
_DRAWS = 500  # supernet steps sampled to estimate the mean
DEVICES = (1, 2, 4, 8, 16)


def tree(
    architecture: Cnn10Architecture,
    subnetworks: Iterable[Cnn10Subnetwork],
    frames: int,
    widening: bool = False,
) -> dict[tuple, tuple[int, int]]:
    """Return (multiply-adds, outputs) per layer for one clip, with shared layers computed once.

    Args:
        architecture: the largest network.
        subnetworks: the sub-networks that are computed together.
        frames: frames of a clip.
        widening: count as in scoring, without gradients. The second convolutions of a block then share their
            sums, and together cost as much as the widest (`DynamicConv2d.widening`).
    """
    layers: dict[tuple, tuple[int, int]] = {}
    for subnetwork in subnetworks:
        inputs, path = 1, ()
        for i, (width, depth) in enumerate(
            zip(architecture.widths(subnetwork), (2, *subnetwork.depths), strict=True)
        ):
            places = (frames // 2**i) * (architecture.mels // 2**i)
            first = (9 * inputs * width * places, width * places)
            layers[(*path, 1)] = max(first, layers.get((*path, 1), first))  # the widest
            if depth == 2:
                second = (9 * width * width * places, width * places)
                key = (*path, 2) if widening else (*path, width, 2)
                layers[key] = max(second, layers.get(key, second))
            inputs, path = width, (*path, (width, depth))
        hidden, classes = architecture.hidden, architecture.num_classes
        layers[(*path, "head")] = (inputs * hidden + hidden * classes, hidden + classes)
    return layers


def multiply_adds(
    architecture: Cnn10Architecture,
    subnetworks: Iterable[Cnn10Subnetwork],
    frames: int,
    widening: bool = False,
) -> int:
    """Return the multiply-adds for one clip of `frames`, with shared layers computed once (see `tree`)."""
    return sum(cost for cost, _ in tree(architecture, subnetworks, frames, widening).values())


class Costs:
    """Multiply-adds of the trainings and of the search, for one seed."""

    def __init__(self, config: Config):
        self.config, self.frames = config, config.frames
        self.architecture = architecture_of(config)
        self._clips = config.training.batch_size
        self._largest = self._pass([LARGEST])
        stored = config.distillation.teacher_input == "stored"
        self._taught = 0 if stored else self._largest  # forward pass of the teacher per distillation step

    def _pass(self, subnetworks: Sequence[Cnn10Subnetwork]) -> int:
        return self._clips * multiply_adds(self.architecture, subnetworks, self.frames)

    def teacher(self) -> float:
        """Return the cost of training the teacher."""
        return self.config.teacher.iterations * BACKWARD * self._largest

    def supernet(self, name: str) -> float:
        """Estimate the cost of training a supernet, with the passes of the teacher, from sampled steps."""
        space, schedule = space_of(self.config, name), self.config.supernet
        draw = RULES[schedule.sampling]
        rng = np.random.default_rng(0)
        drawn = [self._pass(draw(space, schedule.networks_per_step, rng)) for _ in range(_DRAWS)]
        largest = schedule.largest_iterations * (BACKWARD * self._largest + self._taught)
        return largest + schedule.sampled_iterations * (BACKWARD * float(np.mean(drawn)) + self._taught)

    def individual(self, subnetwork: Cnn10Subnetwork, distilled: bool = True) -> float:
        """Return the cost of training one network individually."""
        taught = self._taught if distilled else 0
        return self.config.individual.iterations * (BACKWARD * self._pass([subnetwork]) + taught)

    def scoring(self, name: str, clips: int) -> float:
        """Return the cost of scoring all sub-networks of a space on validation clips, with calibration."""
        space = space_of(self.config, name)
        calibration = self._clips * self.config.calibration.batches
        return (clips + calibration) * multiply_adds(self.architecture, space, self.frames, widening=True)

    def once(self, valid_clips: int) -> float:
        """Return the cost for any number of devices: the chosen supernet, trained and scored."""
        name = self.config.study.chosen_space
        return self.supernet(name) + self.scoring(name, valid_clips)

    def each(self) -> float:
        """Return the cost of one distillation: the mean over budgets, and over the sub-networks near each."""
        space = space_of(self.config, self.config.study.chosen_space)
        tolerance = parse_size(self.config.search.tolerance)
        means = []
        for budget in self.config.study.constraints:
            found = near(space, parse_constraint(budget), tolerance)
            means.append(np.mean([self.individual(subnetwork) for subnetwork in found]))
        return float(np.mean(means))

    def table(self, valid_clips: int) -> pd.DataFrame:
        """Compare one supernet for N devices with N distillations. Both need the teacher.

        Args:
            valid_clips: clips of the validation split.

        Returns:
            A table of trainings with their multiply-adds in 10^12 and hours at `study.gflops`.
        """
        study = self.config.study
        rows = [("teacher", self.teacher())]
        rows += [(f"supernet {name}", self.supernet(name)) for name in study.spaces]
        rows += [(f"scoring all of {name}", self.scoring(name, valid_clips)) for name in study.spaces]
        for recipe, name in (("baseline", "Baseline"), ("kd", "KD")):
            for size in study.sizes:
                ratio, depth = parse_shape(size)
                form = Cnn10Subnetwork((ratio,) * 3, (depth,) * 3)
                rows.append((f"{name} {size}", self.individual(form, recipe == "kd")))
        once, each = self.once(valid_clips), self.each()
        for n in DEVICES:
            rows.append((f"{n} device(s), OFA {study.chosen_space}", once))
            rows.append((f"{n} device(s), KD for each", n * each))
        table = pd.DataFrame(rows, columns=["What", "10^12 multiply-adds"])
        table[f"h at {study.gflops:g} GFLOP/s"] = (
            2 * table["10^12 multiply-adds"] / (study.gflops * 1e9) / 3600
        )
        table["10^12 multiply-adds"] /= 1e12
        return table
