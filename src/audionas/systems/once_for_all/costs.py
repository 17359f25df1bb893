"""What trainings cost, counted in multiply-adds from the parameters; nothing is measured here.

Validation during training, BatchNorm calibration after it, and targets computed once are left out.
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

BACKWARD = 3  # times the forward pass: it, and twice as much for the gradients of inputs and weights
_DRAWS = 500  # steps of a supernet that are drawn to know the mean
DEVICES = (1, 2, 4, 8, 16)


def tree(
    architecture: Cnn10Architecture,
    subnetworks: Iterable[Cnn10Subnetwork],
    frames: int,
    widening: bool = False,
) -> dict[tuple, tuple[int, int]]:
    """(multiply-adds, outputs) for one clip of every layer when what sub-networks share is computed once.

    Args:
        widening: as where scores are computed, without gradients: the second convolutions of a block share
            their sums, so that together they cost what the widest does (`DynamicConv2d.widening`).
    """
    layers: dict[tuple, tuple[int, int]] = {}
    for subnetwork in subnetworks:
        inputs, path = 1, ()
        for i, (width, depth) in enumerate(
            zip(architecture.widths(subnetwork), (2, *subnetwork.depths), strict=True)
        ):
            places = (frames // 2**i) * (architecture.mels // 2**i)
            first = (9 * inputs * width * places, width * places)
            layers[(*path, 1)] = max(first, layers.get((*path, 1), first))  # of the widest
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
    """Multiply-adds for one clip of `frames` when what sub-networks share is computed once (see `tree`)."""
    return sum(cost for cost, _ in tree(architecture, subnetworks, frames, widening).values())


class Costs:
    """Multiply-adds of one seed's trainings, and of the search."""

    def __init__(self, config: Config):
        self.config, self.frames = config, config.frames
        self.architecture = architecture_of(config)
        self._clips = config.training.batch_size
        self._largest = self._pass([LARGEST])
        stored = config.distillation.teacher_input == "stored"
        self._taught = 0 if stored else self._largest  # the teacher's pass in each step of a distillation

    def _pass(self, subnetworks: Sequence[Cnn10Subnetwork]) -> int:
        return self._clips * multiply_adds(self.architecture, subnetworks, self.frames)

    def teacher(self) -> float:
        """Its training."""
        return self.config.teacher.iterations * BACKWARD * self._largest

    def supernet(self, name: str) -> float:
        """Its training, with the teacher's passes; the mean of drawn steps stands for all."""
        space, schedule = space_of(self.config, name), self.config.supernet
        draw = RULES[schedule.sampling]
        rng = np.random.default_rng(0)
        drawn = [self._pass(draw(space, schedule.networks_per_step, rng)) for _ in range(_DRAWS)]
        largest = schedule.largest_iterations * (BACKWARD * self._largest + self._taught)
        return largest + schedule.sampled_iterations * (BACKWARD * float(np.mean(drawn)) + self._taught)

    def alone(self, subnetwork: Cnn10Subnetwork, distilled: bool = True) -> float:
        """A network trained by itself."""
        taught = self._taught if distilled else 0
        return self.config.individual.iterations * (BACKWARD * self._pass([subnetwork]) + taught)

    def scoring(self, name: str, clips: int) -> float:
        """All sub-networks of a space on so many validation clips, with the calibration's."""
        space = space_of(self.config, name)
        calibration = self._clips * self.config.calibration.batches
        return (clips + calibration) * multiply_adds(self.architecture, space, self.frames, widening=True)

    def once(self, valid_clips: int) -> float:
        """The chosen space's supernet, trained and scored: what any number of devices costs."""
        name = self.config.study.chosen_space
        return self.supernet(name) + self.scoring(name, valid_clips)

    def each(self) -> float:
        """A distillation for one device: the mean over the study's budgets, and over what meets each."""
        space = space_of(self.config, self.config.study.chosen_space)
        tolerance = parse_size(self.config.search.tolerance)
        means = []
        for budget in self.config.study.constraints:
            found = near(space, parse_constraint(budget), tolerance)
            means.append(np.mean([self.alone(subnetwork) for subnetwork in found]))
        return float(np.mean(means))

    def table(self, valid_clips: int) -> pd.DataFrame:
        """Training once for N devices against N trainings by distillation; both need the teacher.

        Columns: what, and multiply-adds in 10^12 with the hours that they take at `study.gflops`.
        """
        study = self.config.study
        rows = [("teacher", self.teacher())]
        rows += [(f"supernet {name}", self.supernet(name)) for name in study.spaces]
        rows += [(f"scoring all of {name}", self.scoring(name, valid_clips)) for name in study.spaces]
        for recipe, name in (("baseline", "Baseline"), ("kd", "KD")):
            for size in study.sizes:
                ratio, depth = parse_shape(size)
                form = Cnn10Subnetwork((ratio,) * 3, (depth,) * 3)
                rows.append((f"{name} {size}", self.alone(form, recipe == "kd")))
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
