"""Estimated microcontrollers, from the public results of MLPerf Tiny (Banbury et al., 2021; MLCommons).

`mlperf-tiny.csv` has the results of rounds v1.0 to v1.3 that state an energy: energy
and throughput of image classification (ic), visual wake words (vww), keyword spotting (kws) and anomaly
detection (ad), all int8, with the multiply-adds of each network. The last one has no convolution and is left
out of the estimates.

Energy and time per multiply-add differ between these networks, and 2 to 4 times between runtimes on the same
board. So they only give an order of magnitude for another network.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from audionas.data.ledger import parse_rows

_COLUMNS = ("round", "submitter", "system", "benchmark", "energy_uJ", "inferences_per_s", "MMACs")
_CONVOLUTIONAL = ("ic", "vww", "kws")

Rates = tuple[float, float, float]


class Estimate(NamedTuple):
    """A bundled estimate.

    Attributes:
        name: its name for --device.
        title: the system, submitter and round.
        benchmarks: number of networks that it rests on.
        rates: lowest, median and highest cost of one multiply-add, by column of a device file; None if the
            submission does not state it.
    """

    name: str
    title: str
    benchmarks: int
    rates: dict[str, Rates | None]


@cache
def estimates() -> tuple[Estimate, ...]:
    """Return the bundled estimates, sorted by name."""
    content = files("audionas.deploy.devices").joinpath("mlperf-tiny.csv").read_bytes()
    systems: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in parse_rows(content, "mlperf-tiny.csv", _COLUMNS):
        if row["benchmark"] in _CONVOLUTIONAL:
            systems.setdefault((row["round"], row["submitter"], row["system"]), []).append(row)
    found = []
    for (edition, submitter, system), rows in systems.items():
        macs = [1e6 * float(row["MMACs"]) for row in rows]
        energy = [float(row["energy_uJ"]) / n for row, n in zip(rows, macs, strict=True)]
        rates: dict[str, Rates | None] = {"energy_uJ": _range(energy), "latency_ms": None}
        if all(row["inferences_per_s"] for row in rows):
            latency = [1e3 / float(row["inferences_per_s"]) / n for row, n in zip(rows, macs, strict=True)]
            rates["latency_ms"] = _range(latency)
        short = re.sub(r"[^a-z0-9.]+", "-", system.lower()).strip("-")
        title = f"estimate from MLPerf Tiny {edition}, {submitter}, {system}"
        found.append(Estimate(f"estimated-{short}-{edition}", title, len(rows), rates))
    return tuple(sorted(found))


def _range(values: list[float]) -> Rates:
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return ordered[0], median, ordered[-1]
