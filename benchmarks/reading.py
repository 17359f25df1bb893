"""A batch of log-mel for a training step: read from the store, or computed from waveforms."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import torch

from audionas.evaluation.prediction import batches
from benchmarks import panns
from benchmarks.ceilings import least_seconds
from benchmarks.steps import made_store
from benchmarks.timing import interleaved


def loader(clips: int = 64, stored: int = 256, frames: int = 1001) -> dict:
    """Read a batch from the store. The reference is PANNs, which opens the file for every clip."""
    rng = np.random.default_rng(0)
    samples = (frames - 1) * 320
    with TemporaryDirectory() as folder, made_store(stored, frames, 527) as store:
        path = Path(folder, "waves.h5")
        with h5py.File(path, "w") as file:
            file.create_dataset("waveform", (stored, samples), np.int16)
            for i in range(stored):
                file["waveform"][i] = rng.integers(-9999, 9999, samples, dtype=np.int16)
        frontend = panns.Frontend()

        def drawn() -> np.ndarray:
            return rng.permutation(stored)[:clips]

        @torch.no_grad()
        def reference() -> None:
            frontend(panns.read(path, drawn()))

        ours, theirs = interleaved(lambda: next(batches(store, clips, drawn())), reference)
    numbers = clips * frames * 64
    return {
        "what": f"{clips} clips of {samples / 32_000:g} s as log-mel float32; reference: int16 waveforms, "
        "the file opened for every clip, log-mel in every step by convolution; all of it in the page cache",
        "unit": "s",
        "ours": ours,
        "reference": theirs,
        "floor": least_seconds(0, numbers * (2 + 4)),
        "counted": "float16 read and float32 written at the memory's ceiling",
    }
