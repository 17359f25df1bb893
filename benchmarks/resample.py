"""Resamplers to 32 kHz, compared by speed, alias rejection, and pass-band ripple."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache

import imageio_ffmpeg
import librosa
import numpy as np
import soxr
import torch
import torchaudio

from audionas.audio import decode
from benchmarks.ceilings import least_seconds
from benchmarks.timing import one_core, seconds

NEW_RATE = 32_000
RATES = (44_100, 48_000, 22_050, 11_127)
CLIP_SECONDS = 10
CLIPS = 5  # clips per timed action
MEL_TOP = 14_000  # Hz; upper limit of the log-mel front end
REFERENCE = "librosa.resample (its default, soxr HQ)"
PACKAGE = "audionas (what the package does)"
_TONE = 0.5  # seconds per test tone; the middle three fifths are measured
_BETA = 24.0  # Kaiser window with side lobes at -170 dB
_LOBE = 60.0  # Hz on either side that count as the tone

Resampler = Callable[[np.ndarray, int], np.ndarray]  # float32 [n] at a rate in Hz to float32 at NEW_RATE


def _torchaudio(**settings) -> Resampler:
    @lru_cache(maxsize=1)
    def kernel(rate: int) -> torchaudio.transforms.Resample:
        ratio = Fraction(rate, NEW_RATE).limit_denominator(
            2000
        )  # as in the package; exact filters take gigabytes
        return torchaudio.transforms.Resample(ratio.numerator, ratio.denominator, **settings)

    return lambda wave, rate: kernel(rate)(torch.from_numpy(wave)).numpy()


def _ffmpeg(resampler: str) -> Resampler:
    """Start one process per call, as pipelines do."""

    def run(wave: np.ndarray, rate: int) -> np.ndarray:
        raw = ["-f", "f32le", "-ac", "1"]
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-threads", "1"]
        command += [*raw, "-ar", str(rate), "-i", "pipe:0"]
        command += ["-af", f"aresample={NEW_RATE}:resampler={resampler}", *raw, "pipe:1"]
        done = subprocess.run(command, input=wave.tobytes(), stdout=subprocess.PIPE, check=True)
        return np.frombuffer(done.stdout, np.float32)

    return run


def resamplers() -> dict[str, Resampler]:
    """Return the resamplers by name; soxr of ffmpeg only if it is built in."""
    kaiser = {"resampling_method": "sinc_interp_kaiser", "lowpass_filter_width": 64}
    kaiser |= {"rolloff": 0.9475937167399596, "beta": 14.769656459379492}
    found = {
        PACKAGE: lambda wave, rate: decode.resample(wave, rate, NEW_RATE),
        "torchaudio, Kaiser, 64 zero crossings": _torchaudio(**kaiser),
        "torchaudio, its defaults": _torchaudio(),
        "soxr HQ": lambda wave, rate: soxr.resample(wave, rate, NEW_RATE, "HQ"),
        "soxr VHQ": lambda wave, rate: soxr.resample(wave, rate, NEW_RATE, "VHQ"),
        REFERENCE: lambda wave, rate: librosa.resample(wave, orig_sr=rate, target_sr=NEW_RATE),
        "ffmpeg, swr": _ffmpeg("swr"),
        "ffmpeg, soxr": _ffmpeg("soxr"),
    }
    try:
        found["ffmpeg, soxr"](np.zeros(4800, np.float32), 48_000)
    except subprocess.CalledProcessError:
        del found["ffmpeg, soxr"]
    return found


def responses(function: Resampler, rate: int, hertz: np.ndarray) -> Iterator[tuple[float, float]]:
    """Return the output level per tone of `hertz`, and of everything else, in dB of the input level.

    A tone above the new Nyquist frequency must vanish, so all of its output counts as `else`.
    """
    length = round(_TONE * rate)
    time = np.arange(length) / rate
    # Fades over a tenth: steps between tones would ring into the measured part.
    fade = np.clip(np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.1 * length), 0, 1)
    fade = np.sin(np.pi / 2 * fade) ** 2
    tones = [0.5 * fade * np.sin(2 * np.pi * f * time) for f in hertz]
    output = function(np.concatenate(tones).astype(np.float32), rate).astype(np.float64)
    for i, f in enumerate(hertz):
        start = (i + 0.2) * length * NEW_RATE / rate
        part = output[round(start) : round(start + 0.6 * length * NEW_RATE / rate)]
        window = np.kaiser(len(part), _BETA)
        power = np.abs(np.fft.rfft(part * window)) ** 2
        whole = 0.25 / 4 * len(part) * (window**2).sum()  # relative to a sine of amplitude 0.5, by Parseval
        own = np.abs(np.fft.rfftfreq(len(part), 1 / NEW_RATE) - f) <= _LOBE
        yield tuple(10 * np.log10(np.maximum(p.sum() / whole, 1e-20)) for p in (power[own], power[~own]))


def quality(function: Resampler, rate: int) -> dict[str, float]:
    """Rejection in dB (higher is better), and pass-band ripple in dB (lower is better).

    Downsampling: the loudest alias of tones from 16.5 kHz up, overall and below 14 kHz.
    Upsampling: the loudest image, or other addition, of tones up to 90 % of the old Nyquist frequency.
    Ripple: between the loudest and the softest tone, up to 14 kHz or 90 % of the old Nyquist frequency.
    """
    top = min(MEL_TOP, 0.45 * rate)
    kept = np.array(list(responses(function, rate, np.linspace(100, top, 48))))
    result = {"ripple": float(np.ptp(kept[:, 0]))}
    if rate <= NEW_RATE:
        return {"rejection": float(-kept[:, 1].max()), **result}
    hertz = np.linspace(16_500, 0.495 * rate, 48)
    aliases = np.array([other for _, other in responses(function, rate, hertz)])
    into_mel = aliases[hertz >= NEW_RATE - MEL_TOP]
    return {"rejection": float(-aliases.max()), "below 14 kHz": float(-into_mel.max()), **result}


def compare() -> list[dict]:
    """Return a row per rate and resampler, with the seconds of a clip and of an almost empty call."""
    noise = np.random.default_rng(0)
    rows = []
    for rate in RATES:
        wave = noise.normal(0, 0.1, CLIP_SECONDS * rate).astype(np.float32)
        for name, function in resamplers().items():
            took = seconds(lambda f=function, w=wave, r=rate: [f(w, r) for _ in range(CLIPS)]) / CLIPS
            call = seconds(lambda f=function, w=wave[:100], r=rate: f(w, r))
            row = {"rate": rate, "resampler": name, "seconds": took, "call": call}
            rows.append(row | quality(function, rate))
    return rows


def resample() -> dict:
    """Compare resamplers. The ratio is this package to the default of librosa, for a clip of 44.1 kHz."""
    with one_core():
        rows = compare()
        floor = least_seconds(0, 4 * CLIP_SECONDS * (RATES[0] + NEW_RATE))
    reference = {row["rate"]: row["seconds"] for row in rows if row["resampler"] == REFERENCE}
    table = [
        {
            "from": f"{row['rate'] / 1000:g} kHz",
            "resampler": row["resampler"],
            "clips/s": f"{1 / row['seconds']:.1f}",
            "ms/clip": f"{1000 * row['seconds']:.1f}",
            "of it for any call": f"{1000 * row['call']:.1f}",
            "times librosa's default": f"{reference[row['rate']] / row['seconds']:.2f}",
            "rejection, dB": f"{row['rejection']:.0f}",
            "of it below 14 kHz, dB": f"{row['below 14 kHz']:.0f}" if "below 14 kHz" in row else "",
            "ripple, dB": f"{row['ripple']:.3f}",
        }
        for row in rows
    ]
    ours = next(row["seconds"] for row in rows if row["resampler"] == PACKAGE)
    return {
        "what": "a clip of 10 s from 44.1 to 32 kHz on one core; reference: librosa.resample's default",
        "unit": "s",
        "ours": ours,
        "reference": reference[RATES[0]],
        "floor": floor,
        "counted": "float32 samples read and written once; operations are the filter's, and soxr tells none",
        "table": table,
    }
