"""Synthetic single-label waveforms, and a linear network that can classify them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from audionas.data.store import ClipStore, write_store
from audionas.models.registry import Entry
from audionas.settings.values import Section

CLASSES = ["low", "middle", "high"]
SAMPLES, RATE = 64, 1000  # of a clip; Hz


def store(path: Path, clips: int, seed: int = 0) -> ClipStore:
    """Return int16 waveforms [clips, samples]: a sine with fixed phase per class, plus noise."""
    rng, of_clip = np.random.default_rng(seed), np.arange(clips) % len(CLASSES)
    cycles = np.array([2, 5, 11])[of_clip, None] * np.arange(SAMPLES) / SAMPLES
    waves = 0.5 * np.sin(2 * np.pi * cycles) + rng.normal(0, 0.1, (clips, SAMPLES))
    write_store(
        path,
        [f"{path.stem}{i}" for i in range(clips)],
        np.eye(len(CLASSES), dtype=np.uint8)[of_clip],
        np.round(waves.clip(-1, 1) * 32_767).astype(np.int16),
        classes=CLASSES,
        settings={"audio": {"sample_rate": RATE, "clip_seconds": SAMPLES / RATE, "min_seconds": 0.01}},
    )
    return ClipStore(path)


class LinearSpec(Section):
    num_classes: int


class Linear(nn.Module):
    """A linear network that maps waveforms [batch, samples] to logits [batch, classes]."""

    name = "linear"

    def __init__(self) -> None:
        super().__init__()
        self.spec = {"num_classes": len(CLASSES)}
        self.fc = nn.Linear(SAMPLES, len(CLASSES))

    @classmethod
    def from_spec(cls, spec: dict) -> "Linear":
        assert spec == {"num_classes": len(CLASSES)}
        return cls()

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        assert keep is None and x.dtype == torch.float32
        return self.fc(x)


ENTRY = Entry("waves", "Linear", "LinearSpec")
