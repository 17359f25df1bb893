"""Cut the best network for a budget from a released supernet: from its kept scores, without data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, read_rows
from audionas.deploy.devices.device import UNITS, Device, DeviceCost
from audionas.deploy.supernets import Released, open_supernet
from audionas.models.files import read_model, save_model
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write, sha256
from audionas.search.costs.layers import peak_memory
from audionas.search.pareto import pareto_front
from audionas.search.space import FiniteSpace
from audionas.supernet.scores import fingerprint, read_scores
from audionas.supernet.statistics import read_statistics


class Cost(NamedTuple):
    """A cost in outputs.

    Attributes:
        label: its name.
        option: the option of `audionas specialize` that limits it.
        show: formats a value with its unit.
        limit: a limit as part of a sentence, to format with the text of the user.
    """

    label: str
    option: str
    show: Callable[[float], str]
    limit: str


def _steps(value: float, unit: str, prefixes: str, first: str = "") -> str:
    """Format a value in a unit with the prefix that fits."""
    prefix = first
    for larger in prefixes:
        if value < 999.5:
            break
        value, prefix = value / 1e3, larger
    digits = f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"
    return f"{digits} {prefix.strip()}{unit}".strip()


#: Costs that a budget can limit, in the order of tables.
COSTS = {
    "params": Cost("parameters", "--params", lambda v: f"{v:,.0f}", "{} parameters"),
    "macs": Cost("multiply-adds", "--macs", lambda v: _steps(v, "", "kMG"), "{} multiply-adds"),
    "peak_memory": Cost("peak memory", "--peak-memory", lambda v: f"{v / 1e3:,.1f} kB", "{} of peak memory"),
    "latency_ms": Cost("latency", "--latency", lambda v: _steps(v, "s", " ", "m"), "a latency of {}"),
    "energy_uJ": Cost("energy", "--energy", lambda v: _steps(v, "J", "m ", "u"), "{} of energy"),
}


def budget_phrase(budget: Mapping[str, str]) -> str:
    """Describe a budget, with the texts of the user by the names of `COSTS`."""
    parts = [COSTS[name].limit.format(text) for name, text in budget.items()]
    return "at most " + " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)


@dataclass(frozen=True)
class Candidates:
    """All networks of a supernet, with their scores and costs.

    Attributes:
        space: the networks.
        scores: validation mAP, between 0 and 1 [networks].
        costs: values [networks] by the names of `COSTS`; those of a device only if one is given.
        of_device: details of the costs of the device.
        unknown: why the device does not know a cost, by its name.
        dtype: type of weights and activations that peak memory is counted for.
    """

    space: FiniteSpace
    scores: np.ndarray
    costs: dict[str, np.ndarray]
    of_device: dict[str, DeviceCost]
    unknown: dict[str, str]
    dtype: str

    def choose(self, limits: Mapping[str, float]) -> int:
        """Return the index of the best network within limits.

        Of equal scores, the one with the lowest limited costs, in the order of `COSTS`, is chosen.

        Args:
            limits: maximum by cost.

        Raises:
            UserError: no network is within the limits; the message names the smallest.
        """
        within = self._within(limits)
        if not within.any():
            raise UserError(self._nothing(limits))
        keys = [self.costs[name] for name in COSTS if name in limits]
        order = np.lexsort((np.arange(len(self.scores)), *keys[::-1], -self.scores))
        return int(next(place for place in order if within[place]))

    def front(self, names: Sequence[str]) -> np.ndarray:
        """Return the indices of the Pareto front of some costs and the score, by increasing score."""
        costs = np.stack([self.costs[name] for name in names], axis=1)
        (places,) = np.nonzero(pareto_front(costs, self.scores))
        return places[np.argsort(self.scores[places], kind="stable")]

    def step_up(self, place: int, limits: Mapping[str, float]) -> int | None:
        """Return the network with a higher score that exceeds the limits by the smallest factor, if any."""
        excess = np.max([self.costs[name] / most for name, most in limits.items()], axis=0)
        excess[self.scores <= self.scores[place]] = np.inf
        found = int(np.lexsort((-self.scores, excess))[0])
        return found if np.isfinite(excess[found]) else None

    def step_down(self, place: int, limits: Mapping[str, float]) -> int | None:
        """Return the best network of which no limited cost is higher and one is lower, if any."""
        costs = np.stack([self.costs[name] for name in limits], axis=1)
        lower = (costs <= costs[place]).all(axis=1) & (costs < costs[place]).any(axis=1)
        return int(np.where(lower, self.scores, -np.inf).argmax()) if lower.any() else None

    def shown(self, name: str, place: int) -> str:
        """Format a cost of a network, with the range of an estimate."""
        show, device = COSTS[name].show, self.of_device.get(name)
        text = show(self.costs[name][place])
        if device is not None and device.low is not None:
            text += f" (estimate, {show(device.low[place])} to {show(device.high[place])})"
        elif device is not None:
            text += f" ({device.basis[place]})"
        return text

    def _within(self, limits: Mapping[str, float]) -> np.ndarray:
        within = np.ones(len(self.scores), bool)
        for name, most in limits.items():
            within &= self.costs[name] <= most
        return within

    def _nothing(self, limits: Mapping[str, float]) -> str:
        parts = []
        for name, most in limits.items():
            others = self._within({other: limit for other, limit in limits.items() if other != name})
            alone = not others.any()
            least = self.costs[name][slice(None) if alone else others].min()
            if least > most:
                show = COSTS[name].show
                among = "" if alone or len(limits) == 1 else ", of those within the other limits,"
                parts.append(
                    f"{COSTS[name].label} at most {show(most)}, and the smallest{among} has {show(least)} "
                    f"(raise {COSTS[name].option})"
                )
        return f"no network of space {self.space.name} is within the budget: {'; '.join(parts)}"


class Trained(NamedTuple):
    """A network that was trained further: its file, its parameters and its validation mAP."""

    path: Path
    params: int
    score: float


def _choices(about: Mapping[str, Any]) -> dict[str, float]:
    """Return the choices of a network by the names of columns; empty if the file does not have them."""
    values = [*(about.get("ratios") or ()), *(about.get("depths") or ())]
    names = ("r2", "r3", "r4", "d2", "d3", "d4")
    return dict(zip(names, values, strict=True)) if len(values) == len(names) else {}


def _key(choices: Mapping[str, float]) -> tuple:
    return tuple(sorted((name, float(value)) for name, value in choices.items()))


@dataclass(frozen=True)
class Kept:
    """A released supernet with what stage `score` kept of it.

    Attributes:
        path: model file of the supernet.
        released: the supernet.
        scores: validation mAP per network, in the order of the space.
    """

    path: Path
    released: Released
    scores: np.ndarray
    _statistics: Path

    def candidates(
        self,
        *,
        seconds: float | None = None,
        dtype: str = "float32",
        device: Device | None = None,
        required: Sequence[str] = (),
    ) -> Candidates:
        """Return all networks with their costs.

        Args:
            seconds: length of the input; by default that of the training clips.
            dtype: type of weights and activations for peak memory.
            device: gives latency and energy.
            required: costs of the device that must be known; others are left out if they are not.

        Raises:
            UserError: the input is too short, or the device does not know a required cost.
        """
        space = self.released.space(seconds)
        costs = [space.costs(configuration) for configuration in space]
        values = {name: np.array([getattr(each, name) for each in costs]) for name in ("params", "macs")}
        memory = [peak_memory(space.layers(configuration), dtype) for configuration in space]
        values["peak_memory"] = np.array(memory)
        known: dict[str, DeviceCost] = {}
        unknown: dict[str, str] = {}
        for name in UNITS if device is not None else ():
            try:
                known[name] = device.cost(space, name)
            except UserError as error:
                if name in required:
                    raise
                unknown[name] = str(error)
        values |= {name: cost.values for name, cost in known.items()}
        return Candidates(space, self.scores, values, known, unknown, dtype)

    def better(self, place: int, candidates: Candidates, limits: Mapping[str, float]) -> list[Trained]:
        """Return trained networks beside the supernet that are within limits and better on validation.

        A study fine-tunes networks of the space, and releases them in the same folder.
        """
        places = {_key(candidates.space.describe(each)): i for i, each in enumerate(candidates.space)}
        found = []
        for path in sorted(self.path.parent.glob("*.pt")):
            with suppress(UserError):
                about = read_model(path)["about"]
                at = places.get(_key(_choices(about)))
                same = [about.get(key) == self.released.about.get(key) for key in ("classes", "settings")]
                score = about.get("valid_mAP")
                if at is None or not all(same) or not isinstance(score, float):
                    continue
                if score > candidates.scores[place] and all(
                    candidates.costs[name][at] <= most for name, most in limits.items()
                ):
                    found.append(Trained(path, int(candidates.costs["params"][at]), score))
        return sorted(found, key=lambda one: -one.score)

    def network(self, configuration: Any) -> nn.Module:
        """Cut a network out, with its own BatchNorm statistics.

        Raises:
            UserError: the statistics are missing or damaged, or belong to another supernet.
        """
        statistics = read_statistics(self._statistics, fingerprint(self.path))
        try:
            return self.released.network.extracted(configuration, statistics)
        except (KeyError, RuntimeError):
            raise UserError(
                f"{self._statistics}: no statistics of {configuration}; take the file from the release of "
                "the supernet again"
            ) from None

    def about(self, place: int, candidates: Candidates, budget: Mapping[str, str]) -> dict[str, Any]:
        """Return the metadata of the network at an index, for its model file."""
        configuration = candidates.space[place]
        costs = {name: _plain(values[place]) for name, values in candidates.costs.items()}
        about = self.released.about
        names = about.get("names") or self._names(about.get("classes"))
        return {
            **about,
            **({"names": names} if names else {}),
            "kind": "specialized",
            "supernet": fingerprint(self.path),
            "architecture": candidates.space.text(configuration),
            "choices": candidates.space.describe(configuration),
            "valid_mAP": float(candidates.scores[place]),
            "budget": dict(budget),
            "costs": costs | {"peak_memory_dtype": candidates.dtype},
        }

    def _names(self, classes: list[str] | None) -> list[str] | None:
        """Return the display names of classes.csv beside the supernet."""
        beside = self.path.with_name(data_paths.CLASSES.name)
        if not classes or not beside.exists():
            return None
        names = {row["mid"]: row["display_name"] for row in read_rows(beside, CLASSES)}
        return [names.get(each, each) for each in classes]


def _plain(value: Any) -> int | float:
    number = value.item()
    return number if isinstance(number, int) else float(f"{number:.6g}")


def open_kept(path: str | Path, scores: str | Path | None = None) -> Kept:
    """Open a supernet with its scores and BatchNorm statistics.

    Args:
        path: model file of the supernet.
        scores: its scores (.csv); the statistics (.npz) are beside them. By default both are beside the
            supernet and have its name, as in a release.

    Raises:
        UserError: a file is missing or damaged, or belongs to another supernet.
    """
    path = Path(path)
    table = Path(scores) if scores is not None else path.with_suffix(".csv")
    statistics = table.with_suffix(".npz")
    released = open_supernet(path)
    for file, what in ((table, "scores"), (statistics, "BatchNorm statistics")):
        if not file.exists():
            raise UserError(
                f"{file}: no such file, so the {what} of {path} are not known; copy the .csv and the .npz "
                "file from the folder of the release, or give --scores results/scores/SPACE-SEED.csv of the "
                "study"
            )
    read = read_scores(table, released.space(), path)
    read_statistics(statistics, fingerprint(path))
    return Kept(path, released, np.array(list(read.values())), statistics)


def write(
    output: Path, network: nn.Module, about: dict[str, Any], card: Callable[[dict[str, Any], str], str]
) -> None:
    """Write a model file and its card beside it (.md). Either both files are complete, or none is written.

    Args:
        output: the model file.
        network: the network.
        about: its metadata.
        card: gives the text of the card from `about` and the SHA-256 of the model file.
    """
    with atomic_write(output.with_suffix(".md")) as text, atomic_write(output) as model:
        save_model(model, network, about)
        text.write_text(card(about, sha256(model)), encoding="utf-8")
