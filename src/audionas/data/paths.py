"""Paths of lists, audio and features, relative to the folder of `dvc.yaml`."""

from __future__ import annotations

from pathlib import Path

from audionas.runtime.artifacts import claim
from audionas.runtime.state import STATE

DATA = Path("data")
DOWNLOADS = STATE / "download"  # unfinished downloads
CLASSES = DATA / "segments" / "classes.csv"
WARNINGS = DATA / "segments" / "warnings.txt"  # written only if the corpus has warnings
COVERAGE = Path("results", "coverage")

claim(*(DATA / name for name in ("segments", "raw", "audio", "logmel")), COVERAGE)


def segments(split: str) -> Path:
    """Return the CSV of a split's clips and labels."""
    return DATA / "segments" / f"{split}.csv"


def raw(split: str) -> Path:
    """Return the folder with a split's shards of original audio and their ledger."""
    return DATA / "raw" / split


def audio(split: str) -> Path:
    """Return the store of a split's waveforms."""
    return DATA / "audio" / f"{split}.h5"


def audio_ledger(split: str) -> Path:
    """Return the ledger of decoding: one row for each clip of a split."""
    return DATA / "audio" / f"{split}.ledger.csv"


def logmel(split: str) -> Path:
    """Return the store of a split's log-mel spectrograms."""
    return DATA / "logmel" / f"{split}.h5"
