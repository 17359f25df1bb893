"""Where lists, audio and features lie, relative to the folder of `dvc.yaml`."""

from __future__ import annotations

from pathlib import Path

from audionas.runtime.artifacts import claim
from audionas.runtime.state import STATE

DATA = Path("data")
DOWNLOADS = STATE / "download"  # under way
CLASSES = DATA / "segments" / "classes.csv"
WARNINGS = DATA / "segments" / "warnings.txt"  # of the corpus; there only where it has any
COVERAGE = Path("results", "coverage")

claim(*(DATA / name for name in ("segments", "raw", "audio", "logmel")), COVERAGE)


def segments(split: str) -> Path:
    """Clips of a split and their labels."""
    return DATA / "segments" / f"{split}.csv"


def raw(split: str) -> Path:
    """Folder of shards of original audio, with its ledger."""
    return DATA / "raw" / split


def audio(split: str) -> Path:
    """Waveforms of a split."""
    return DATA / "audio" / f"{split}.h5"


def audio_ledger(split: str) -> Path:
    """What became of every clip of a split in decoding."""
    return DATA / "audio" / f"{split}.ledger.csv"


def logmel(split: str) -> Path:
    """Log-mel spectrograms of a split."""
    return DATA / "logmel" / f"{split}.h5"
