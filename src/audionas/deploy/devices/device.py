"""What a network costs on a device: measured, predicted from measurements, or estimated."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from audionas.deploy.devices.estimates import Estimate, estimates
from audionas.deploy.devices.predictor import Predictor
from audionas.deploy.devices.table import Measurement, read_device
from audionas.runtime.errors import UserError
from audionas.search.space import FiniteSpace

#: Columns of a device file that a budget can limit, with their units.
UNITS = {"latency_ms": "ms", "energy_uJ": "uJ"}


class DeviceCost(NamedTuple):
    """A cost of every network of a space on a device.

    Attributes:
        values: cost per network, float64 [networks].
        basis: `measured`, `predicted` or `estimated`, per network.
        note: how good the numbers are.
        low, high: range of an estimate [networks]; None without one.
    """

    values: np.ndarray
    basis: list[str]
    note: str
    low: np.ndarray | None = None
    high: np.ndarray | None = None


class Device(Protocol):
    """A device that networks run on.

    Attributes:
        title: its name in outputs; that of an estimate says so.
    """

    title: str

    def cost(self, space: FiniteSpace, what: str) -> DeviceCost:
        """Return a cost of every network of a space; `what` is a key of `UNITS`.

        Raises:
            UserError: the device has no data on this cost, or not enough for this space.
        """
        ...


class MeasuredDevice:
    """A device whose networks were measured; a predictor gives the costs of the others.

    Args:
        path: name of the file in messages.
        rows: measurements of one device and runtime.
    """

    def __init__(self, path: str | Path, rows: list[Measurement]):
        self.path, self.rows = path, rows
        self.title = f"{rows[0].device}, {rows[0].runtime}, clock {rows[0].clock}" if rows else str(path)

    def cost(self, space: FiniteSpace, what: str) -> DeviceCost:
        """See `Device`. A measured network has its own value."""
        known = {space.text(configuration): place for place, configuration in enumerate(space)}
        own = [row for row in self.rows if row.architecture in known]
        if what == "energy_uJ" and own and not any(row.energy_uJ for row in own):
            raise UserError(
                f"{self.path}: the column energy_uJ is empty; measure the energy of the networks, or limit "
                "--latency"
            )
        own = [row for row in own if getattr(row, what) is not None]
        places = np.array([known[row.architecture] for row in own], int)
        measured = np.array([getattr(row, what) for row in own])
        predictor = Predictor(space, places, measured, f"{self.path}, column {what}", len(self.rows))
        values = predictor.predict()
        values[places] = measured
        basis = ["predicted"] * len(space)
        for place in places:
            basis[place] = "measured"
        return DeviceCost(values, basis, predictor.report())


class EstimatedDevice:
    """A device for which only published results of other networks exist."""

    def __init__(self, estimate: Estimate):
        self.estimate, self.title = estimate, f"{estimate.name}: {estimate.title}"

    def cost(self, space: FiniteSpace, what: str) -> DeviceCost:
        """See `Device`. The cost is proportional to the multiply-adds."""
        rates = self.estimate.rates[what]
        if rates is None:
            raise UserError(
                f"{self.estimate.name}: its submission states no {what.partition('_')[0]}; choose another "
                "device of `audionas specialize --devices`, or measure yours"
            )
        macs = np.array([space.costs(configuration).macs for configuration in space], float)
        low, middle, high = (rate * macs for rate in rates)
        note = (
            f"estimated from the multiply-adds and {self.estimate.benchmarks} int8 networks of MLPerf Tiny, "
            f"whose costs of a multiply-add differ by a factor of {rates[2] / rates[0]:.1f}; not measured, "
            "and without the front end"
        )
        return DeviceCost(middle, ["estimated"] * len(space), note, low, high)


def open_device(name: str, runtime: str | None = None) -> Device:
    """Return the device of a CSV file, or the bundled estimate of this name.

    Raises:
        UserError: there is no such file or estimate, or the file cannot be used (see `read_device`).
    """
    bundled = {estimate.name: estimate for estimate in estimates()}
    if name in bundled and not Path(name).exists():
        if runtime is not None:
            raise UserError(f"{name}: a bundled estimate has one runtime; omit --runtime")
        return EstimatedDevice(bundled[name])
    if not Path(name).exists():
        raise UserError(
            f"{name}: no such file, and not a bundled estimate; make the file with `audionas measure`, or "
            "choose a name of `audionas specialize --devices`"
        )
    return MeasuredDevice(name, read_device(name, runtime))
