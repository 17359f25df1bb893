"""A small network with its metadata, for export."""

import numpy as np
import torch
from torch import nn

from audionas.audio.logmel import LogMel
from audionas.models.calibration import calibrate
from audionas.models.cnn10 import Cnn10
from audionas.settings.audio import Audio, Features

RATE = 16_000
CLASSES = ["dog", "cat", "rain", "wind"]
_AUDIO = Audio(sample_rate=RATE, clip_seconds=1.0)
_FEATURES = Features(n_fft=512, hop=160, mels=16, fmax=8000.0)


def logmel() -> LogMel:
    """Return the front end of `network`."""
    return LogMel(sample_rate=RATE, **_FEATURES.model_dump())


def network() -> Cnn10:
    """Return a network in eval mode whose probabilities differ between `sounds`."""
    torch.manual_seed(0)
    network = Cnn10(len(CLASSES), 4, mels=16)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    x = logmel()(torch.from_numpy(sounds(16, 1.0)))
    calibrate(network, [x])
    with torch.no_grad():
        logits = network(x)
        scale = 1 / logits.std(0)
        network.fc2.weight.mul_(scale[:, None])
        network.fc2.bias.sub_(logits.mean(0)).mul_(scale)
    return network


def about(**more) -> dict:
    """Return the metadata of a model file for `network`."""
    settings = {"audio": _AUDIO.model_dump(), "features": _FEATURES.model_dump()}
    return {"settings": settings, "classes": CLASSES, **more}


def sounds(batch: int, seconds: float, seed: int = 0) -> np.ndarray:
    """Return noise with tones at several levels and pitches, float32 [batch, samples]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch, level = rng.uniform(200, 6000, (batch, 1)), 10 ** rng.uniform(-2.5, -0.5, (batch, 1))
    tones = np.sin(2 * np.pi * pitch * time) * (np.sin(2 * np.pi * 3 * time) > 0)
    noise = rng.standard_normal((batch, len(time))) * 10 ** rng.uniform(-2, 0, (batch, 1))
    return (level * (tones + noise)).clip(-1, 1).astype(np.float32)
