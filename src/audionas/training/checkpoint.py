"""Training state that outlives a killed process."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from audionas.files import atomic_write
from audionas.state import STATE

log = logging.getLogger(__name__)


class Checkpoint:
    """One run's state file, written whole or not at all."""

    def __init__(self, name: str, key: str, folder: Path = STATE):
        self.path = folder / f"{name}-{key}.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Write the state: tensors and plain values."""
        with atomic_write(self.path) as temporary:
            torch.save(state, temporary)

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none; a damaged one is reported and left behind."""
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            log.warning("%s: damaged (%s); training begins anew", self.path, type(error).__name__)
            return None

    def remove(self) -> None:
        """The run has ended and its output is written."""
        self.path.unlink(missing_ok=True)
