"""Measure the level and bandwidth of clips, to compare them with the training data of a network."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

_FRAME = 1024
_WINDOW = np.hanning(_FRAME + 1)[:-1].astype(np.float32)  # periodic Hann
_LOUD = 10 ** (-20 / 10)  # share of the loudest frame's power; quieter frames are ignored
_BINS = 8  # frequency bins in a band
_FLOOR = 10 * (1 / 32_768) ** 2 / 12  # 10 dB above 16-bit quantization noise
_QUIETEST = 1e-12


@dataclass(frozen=True)
class Measure:
    """Level and bandwidth of the frames within 20 dB of a clip's loudest frame.

    Attributes:
        bandwidth: Hz, the upper edge of the highest band above 16-bit noise; at most half the rate.
        level: dBFS, the root mean square; 0 for a square wave at full scale.
    """

    bandwidth: float
    level: float


def measure(wave: np.ndarray, rate: int) -> Measure:
    """Measure float32 [n] in -1..1 at `rate` Hz.

    The median over frames ignores clicks and the edge of padding, which have energy at all frequencies. An
    energy quantile would not detect a clip recorded at half the rate, because most energy is at low
    frequencies.
    """
    frames = np.pad(wave, (0, -len(wave) % _FRAME)).reshape(-1, _FRAME)
    power = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / _FRAME
    loud = power >= max(power.max(initial=0.0) * _LOUD, _QUIETEST)
    if not loud.any():
        return Measure(0.0, 10 * np.log10(_QUIETEST))
    spectra = np.abs(np.fft.rfft(frames[loud] * _WINDOW)) ** 2 / np.sum(_WINDOW**2)
    density = np.median(spectra, axis=0)[: _FRAME // 2].reshape(-1, _BINS).mean(axis=1)
    heard = np.flatnonzero(density > _FLOOR)
    top = (heard[-1] + 1) * _BINS if len(heard) else 0
    return Measure(float(top * rate / _FRAME), float(10 * np.log10(power[loud].mean())))


def spread(rows: Iterable[Mapping[str, str]]) -> dict[str, list[float]]:
    """Return the 5 %, 50 % and 95 % quantiles over the decoded clips of a `resample` ledger.

    Returns:
        `bandwidth` in Hz and `level` in dBFS, three numbers each; empty if no clip was decoded.
    """
    values = {"bandwidth": array("f"), "level": array("f")}
    for row in rows:
        if row["status"] == "ok":
            for name, of in values.items():
                of.append(float(row[name]))
    if not values["level"]:
        return {}
    return {
        name: [round(float(x), 1) for x in np.quantile(of, (0.05, 0.5, 0.95))] for name, of in values.items()
    }
