"""`logmel@split`: log-mel spectrograms of a split, packed in HDF5 as float16."""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from audionas import paths
from audionas.audio.logmel import LogMel
from audionas.config import Config
from audionas.parallel import ordered_map
from audionas.store import ClipStore, ClipStoreWriter

_frontend: LogMel


def run(config: Config, split: str) -> None:
    """data/audio/{split}.h5 to data/logmel/{split}.h5, in parallel over processes.

    Clips are transformed one by one, so the bits do not depend on how many processes there are.

    Raises:
        UserError: the audio was made with other settings, or a file is damaged.
    """
    settings = config.feature_settings()
    audio = ClipStore(paths.audio(split), {"audio": settings["audio"]})
    options = {"sample_rate": config.audio.sample_rate, **config.features.model_dump()}
    LogMel(**options)  # bad settings are refused here, not in a worker
    writer = ClipStoreWriter(
        paths.logmel(split),
        row_shape=(config.frames, config.features.mels),
        dtype=np.float16,
        classes=audio.classes,
        settings=settings,
    )
    with writer:
        results = ordered_map(_transform, audio.data, initializer=_start, initargs=(options,))
        for i, features in enumerate(tqdm(results, total=len(audio), desc=f"logmel {split}", unit="clips")):
            writer.add(audio.clip_ids[i], features, audio.labels[i])


def _start(options: dict) -> None:
    global _frontend
    torch.set_num_threads(1)
    _frontend = LogMel(**options)


def _transform(waveform: np.ndarray) -> np.ndarray:
    """int16 [samples] to float16 [frames, mels]."""
    x = torch.from_numpy(np.asarray(waveform, dtype=np.float32) / 32767.0)
    return _frontend(x[None])[0].half().numpy()
