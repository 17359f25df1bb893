"""Comparison of an exported network with PyTorch on the same sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from audionas.deploy.waveform import Described
from audionas.runtime.errors import UserError

SECONDS = (1.0, 3.0, 10.0, 20.0)
#: Largest difference of a probability in float32.
FLOAT = 1e-4
#: Largest mean difference of a probability in int8. Only labelled clips show the effect on accuracy.
INT8 = 0.05
_CERTAIN = 1e-3  # probabilities nearer to 0 or 1 than this do not determine a logit in float32
_BATCH = 4


@dataclass(frozen=True)
class Row:
    """Differences at one length.

    Attributes:
        seconds: length of the sounds.
        sounds: number of them; 0 if the network, in PyTorch as well, needs longer ones.
        largest, mean: absolute differences of probabilities.
        largest_logit, mean_logit: the same of logits, where PyTorch's probability is not close to 0 or 1.
    """

    seconds: float
    sounds: int
    largest: float = 0.0
    mean: float = 0.0
    largest_logit: float = 0.0
    mean_logit: float = 0.0


@dataclass(frozen=True)
class Parity:
    """Differences of an exported network from PyTorch.

    Attributes:
        rows: by length.
        source: where the sounds come from.
        quantized: whether the network is int8.
    """

    rows: tuple[Row, ...]
    source: str
    quantized: bool

    @property
    def tolerance(self) -> float:
        """The limit: of the mean difference for int8, else of the largest."""
        return INT8 if self.quantized else FLOAT

    @property
    def measured(self) -> float:
        """The value that the limit applies to: the worst of all lengths."""
        return max((row.mean if self.quantized else row.largest for row in self.rows), default=math.inf)

    def require(self, where: object) -> None:
        """Raise UserError if a difference exceeds the tolerance, or nothing was compared."""
        if not any(row.sounds for row in self.rows):
            raise UserError(
                f"{where}: not written: the network needs sounds longer than {self.rows[-1].seconds:g} s, "
                "those of the comparison, and cannot be checked"
            )
        kind = "mean" if self.quantized else "largest"
        # Not `>`: a NaN exceeds every tolerance.
        if not self.measured <= self.tolerance:
            raise UserError(
                f"{where}: not written: the {kind} difference of probabilities from PyTorch is "
                f"{self.measured:.2g} on {self.source}, above {self.tolerance:g}; "
                + (
                    "calibrate on clips like those in training (--calibration)"
                    if self.quantized
                    else "report it with the model file: this is an error of the export"
                )
            )

    def text(self) -> str:
        """Return a table for the terminal."""
        lines = [
            f"difference from PyTorch on {self.source}; tolerance {self.tolerance:g} for the "
            f"{'mean' if self.quantized else 'largest'} of probabilities",
            "length  sounds   probabilities: largest     mean   logits: largest     mean",
        ]
        for row in self.rows:
            start = f"{row.seconds:4g} s  {row.sounds:6d}"
            if row.sounds:
                start += (
                    f"   {row.largest:22.1e} {row.mean:8.1e} {row.largest_logit:17.1e} {row.mean_logit:8.1e}"
                )
            else:
                start += "   too short for the network, in PyTorch as well"
            lines.append(start)
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """Return plain values for metadata; differences as the next power of ten, equal on all machines."""
        return {
            "sounds": self.source,
            "seconds": [row.seconds for row in self.rows if row.sounds],
            "tolerance": self.tolerance,
            "of": "mean" if self.quantized else "largest",
            "below": 10.0 ** math.floor(math.log10(max(self.measured, 1e-12)) + 1),
        }


def compare(
    network: nn.Module,
    described: Described,
    run: Callable[[np.ndarray], np.ndarray],
    *,
    quantized: bool = False,
    features: bool = False,
    recordings: np.ndarray | None = None,
    seconds: Sequence[float] = SECONDS,
    shortest: int = 1,
) -> Parity:
    """Compare an exported network with PyTorch: `LogMel`, the network and the activation of its task.

    Args:
        network, described: the network in eval mode, and what its metadata state.
        run: maps waveforms [batch, samples], or features, to probabilities [batch, classes].
        quantized: whether the exported network is int8.
        features: whether `run` takes features: those of `LogMel`.
        recordings: waveforms [clips, samples] at the rate of the model, repeated or cut to each length; by
            default `test_signals`.
        seconds: lengths.
        shortest: fewest samples that the network takes.
    """
    rate = described.audio.sample_rate
    logmel = described.logmel() or nn.Identity()
    source = "test signals" if recordings is None else f"{len(recordings)} recordings"
    rows = []
    for length in seconds:
        samples = round(length * rate)
        if samples < shortest:
            rows.append(Row(length, 0))
            continue
        sounds = test_signals(rate, samples) if recordings is None else repeated(recordings, samples)
        expected, logits, found = [], [], []
        with torch.inference_mode():
            for start in range(0, len(sounds), _BATCH):
                batch = torch.from_numpy(sounds[start : start + _BATCH])
                heard = logmel(batch)
                logits.append(network(heard).double())
                expected.append(described.task.activation(logits[-1]).numpy())
                found.append(run((heard if features else batch).numpy()))
        rows.append(_row(length, *map(np.concatenate, (expected, logits, found)), described))
    return Parity(tuple(rows), source, quantized)


def _row(seconds: float, expected: np.ndarray, logits: np.ndarray, found: np.ndarray, described) -> Row:
    difference = np.abs(found - expected)
    sure = (expected > _CERTAIN) & (expected < 1 - _CERTAIN)
    found = np.clip(found.astype(np.float64), 1e-12, 1 - 1e-12)
    if described.task.name == "single-label":  # softmax determines logits up to a constant
        logits = logits - (logits * sure).sum(1, keepdims=True) / np.maximum(sure.sum(1, keepdims=True), 1)
        found = np.log(found)
        found = found - (found * sure).sum(1, keepdims=True) / np.maximum(sure.sum(1, keepdims=True), 1)
    else:
        found = np.log(found) - np.log1p(-found)
    of_logits = np.abs(found - logits)[sure]
    return Row(
        seconds,
        len(expected),
        float(difference.max()),
        float(difference.mean()),
        float(of_logits.max(initial=0.0)),
        float(of_logits.mean()) if of_logits.size else 0.0,
    )


def repeated(waveforms: np.ndarray, samples: int) -> np.ndarray:
    """Cut waveforms [clips, n] to a length, or repeat them up to it: float32 [clips, samples]."""
    times = -(-samples // waveforms.shape[1])
    return np.ascontiguousarray(np.tile(waveforms, (1, times))[:, :samples], np.float32)


def test_signals(rate: int, samples: int) -> np.ndarray:
    """Return sounds that differ in spectrum and level, float32 [6, samples] in -1..1.

    Loud and quiet noise, a sweep, tones with pauses, clicks, and noise of falling spectrum, in 16 bits like
    recordings. In tones without rounding, empty mel bands hold only errors of float32, also in PyTorch.
    """
    rng = np.random.default_rng(0)
    time = np.arange(samples) / rate
    noise = rng.standard_normal((3, samples))
    sweep = np.sin(2 * np.pi * (50 * time + (0.45 * rate - 50) * time**2 / (2 * time[-1] + 1 / rate)))
    tones = sum(np.sin(2 * np.pi * hertz * time) for hertz in (220.0, 1_000.0, 3_100.0)) / 3
    clicks = (np.arange(samples) % (rate // 5) == 0).astype(float)
    brown = np.cumsum(noise[2])
    brown -= np.linspace(brown[0], brown[-1], samples)
    sounds = [
        0.2 * noise[0],
        1e-3 * noise[1],
        0.5 * sweep,
        0.3 * tones * (np.sin(2 * np.pi * time) > 0),
        0.8 * clicks,
        0.5 * brown / max(np.abs(brown).max(), 1e-9),
    ]
    return (np.rint(np.clip(sounds, -1, 1) * 32_767) / 32_768).astype(np.float32)


test_signals.__test__ = False  # not a test, although pytest would collect it from a test module
