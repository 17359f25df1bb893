"""How loud a clip is and how high it reaches: what a network that learned from other clips may not know."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

_FRAME = 1024
_WINDOW = np.hanning(_FRAME + 1)[:-1].astype(np.float32)  # periodic Hann
_LOUD = 10 ** (-20 / 10)  # of the loudest frame's power: the frames that count
_BINS = 8  # of a transform that make a band
_FLOOR = 10 * (1 / 32_768) ** 2 / 12  # 10 dB above the noise of 16 bits
_QUIETEST = 1e-12


@dataclass(frozen=True)
class Measure:
    """Of the parts of a clip that lie within 20 dB of its loudest.

    Attributes:
        bandwidth: Hz, below which all bands lie that stand out of the noise of 16 bits, up to half the rate.
        level: dBFS, the root mean square; 0 for a square wave at full scale.
    """

    bandwidth: float
    level: float


def measure(wave: np.ndarray, rate: int) -> Measure:
    """Measure float32 [n] in -1..1 at `rate` Hz.

    The median over frames keeps a click, or the edge where padding begins, from counting as sound up to half
    the rate. Energy shares would not tell a clip that was recorded at half the rate: most sound lies low.
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
    """What the decoded clips of a ledger of `resample` are like: 5 %, median and 95 % over clips.

    Returns:
        `bandwidth` in Hz and `level` in dBFS, three numbers each; empty where no clip was decoded.
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
