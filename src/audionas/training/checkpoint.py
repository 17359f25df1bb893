"""Training state that outlives a killed process.

It lies in `.state/`, outside DVC's outs, which DVC deletes before a run.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch

import audionas
from audionas.files import atomic_write

STATE = Path(".state")
log = logging.getLogger(__name__)


def run_key(command: dict[str, Any], parameters: dict[str, Any], inputs: list[Path]) -> str:
    """A hash of command, parameters, input files and this package's code.

    Whatever would change a run's result changes its key, so an old state is never resumed under a new one.
    """
    digest = hashlib.blake2b(digest_size=12)
    digest.update(json.dumps([command, parameters], sort_keys=True).encode())
    for path in [*inputs, *sorted(Path(audionas.__file__).parent.rglob("*.py"))]:
        with Path(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


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
