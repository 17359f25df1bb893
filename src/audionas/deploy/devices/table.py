"""Device files: CSV files of latencies and energies that were measured on one device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from audionas.data.ledger import iter_numbered, write_rows
from audionas.runtime.errors import UserError
from audionas.runtime.text import line

COLUMNS = ("architecture", "device", "runtime", "clock", "latency_ms", "energy_uJ", "repeats", "meter")
_LARGEST = 1e12  # of any number in a file
_HOW = "docs/specialize.md describes the columns"


class Measurement(NamedTuple):
    """One row: a network that was measured.

    Attributes:
        architecture: the network, in the text of `SearchSpace.text`.
        device, runtime, clock: the device, the runtime with its number type, and the clock rate.
        latency_ms: median time of one inference in milliseconds.
        energy_uJ: energy of one inference in microjoules; None if it was not measured.
        repeats: number of timed inferences.
        meter: what measured.
    """

    architecture: str
    device: str
    runtime: str
    clock: str
    latency_ms: float
    energy_uJ: float | None
    repeats: int
    meter: str


def file_text(model: str, spec: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return the text of a whole network, with its front end, in the column `architecture`.

    Args:
        model, spec: name of the network in the registry, and its spec.
        settings: `about.settings` of the model file; the waveform has the length of a training clip.
    """
    audio, features = settings["audio"], settings.get("features") or {}
    front = {"rate": audio["sample_rate"], **features}
    values = {key: "-".join(map(str, v)) if isinstance(v, list) else v for key, v in spec.items()}
    form = " ".join(f"{key}={value}" for key, value in sorted(values.items()) if "dropout" not in key)
    before = " ".join(f"{key}={value}" for key, value in sorted(front.items()) if key != "mels")
    return f"input=waveform seconds={audio['clip_seconds']:g} {before} network={model} {form}"


def read_device(path: str | Path, runtime: str | None = None) -> list[Measurement]:
    """Read the rows of one device and one runtime.

    Args:
        path: the CSV file.
        runtime: the runtime whose rows are wanted; needed if the file has several.

    Raises:
        UserError: the file is missing or damaged, lacks a column or has no row of the runtime, a value is not
            a number, a network is listed twice, or the rows have several runtimes, devices or clocks.
    """
    rows = read_measurements(path)
    if runtime is not None:
        chosen = {place: row for place, row in rows.items() if row.runtime == runtime}
        if not chosen:
            there = ", ".join(sorted({repr(row.runtime) for row in rows.values()}))
            raise UserError(f"{path}: no row of runtime {runtime!r}; it has {there or 'no row'}")
        rows = chosen
    for field in ("runtime", "device", "clock"):
        values = sorted({getattr(row, field) for row in rows.values()})
        if len(values) > 1:
            fix = "choose one with --runtime" if field == "runtime" else f"use one file for each {field}"
            raise UserError(f"{path}: rows of {len(values)} {field}s ({_some(values)}) in one file; {fix}")
    seen: dict[str, int] = {}
    for place, row in rows.items():
        if row.architecture in seen:
            raise UserError(
                f"{path}, line {place}: the network of line {seen[row.architecture]} again; keep one of "
                "the two"
            )
        seen[row.architecture] = place
    return list(rows.values())


def read_measurements(path: str | Path) -> dict[int, Measurement]:
    """Read all rows, by line.

    Raises:
        UserError: the file is missing or damaged, lacks a column, or a value is not a number.
    """
    rows = {}
    try:
        for place, row in iter_numbered(path, COLUMNS):
            where = f"{path}, line {place}"
            texts = {name: line(row[name].strip()) for name in ("device", "runtime", "clock", "meter")}
            for name in ("device", "runtime", "clock"):
                if not texts[name]:
                    raise UserError(f"{where}, column {name}: empty; write it in every row")
            if not row["architecture"].strip():
                raise UserError(f"{where}, column architecture: empty; {_HOW}")
            rows[place] = Measurement(
                architecture=" ".join(row["architecture"].split()),
                latency_ms=_number(row, "latency_ms", where),
                energy_uJ=_number(row, "energy_uJ", where) if row["energy_uJ"].strip() else None,
                repeats=round(_number(row, "repeats", where)),
                **texts,
            )
    except UserError as error:
        said = str(error).replace("make the file with `dvc repro`", "make it with `audionas measure`")
        raise UserError(said) from None
    return rows


def write_measurements(path: str | Path, rows: Iterable[Measurement]) -> None:
    """Write rows to a device file, atomically."""
    write_rows(path, COLUMNS, (row._asdict() | {"latency_ms": f"{row.latency_ms:.6g}"} for row in rows))


def _number(row: dict[str, str], name: str, where: str) -> float:
    text = row[name].strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _LARGEST:
        unit = name.rpartition("_")[2] if "_" in name else ""
        alone = f"write the number alone, in {unit}" if unit else "write a number"
        raise UserError(f"{where}, column {name}: {line(text, 40)!r} is not a positive number; {alone}")
    return value


def _some(values: Sequence[str], most: int = 3) -> str:
    return ", ".join(map(repr, values[:most])) + ", …" * (len(values) > most)
