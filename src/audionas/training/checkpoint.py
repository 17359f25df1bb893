"""Training state that outlives a killed process; where it lies and what names it, see `audionas.state`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from audionas.errors import UserError
from audionas.files import atomic_write
from audionas.models.archive import load_archive
from audionas.state import STATE

log = logging.getLogger(__name__)

_LARGEST, _OPERATIONS = 64 << 30, 20_000_000


class Checkpoint:
    """One run's state file, written whole or not at all, and the one before it.

    Args:
        name: of the run. key: of what the state follows from (`state_key`); another key is another run.
    """

    def __init__(self, name: str, key: str, folder: Path = STATE):
        self.key = key
        self.path = folder / f"{name}-{key}.pt"
        self.previous = self.path.with_suffix(".previous.pt")

    def save(self, state: dict[str, Any]) -> None:
        """Write the state: tensors and plain values. The last one is kept until this one is on disk.

        Raises UserError when it cannot be written: the disk is full, or the folder is not ours.
        """
        try:
            with atomic_write(self.path) as temporary:
                torch.save({"key": self.key, **state}, temporary)
                if self.path.exists():
                    self.path.replace(self.previous)
        except (OSError, RuntimeError) as error:  # torch wraps what the file system says
            raise UserError(
                f"{self.path}: the checkpoint could not be written ({str(error).splitlines()[0]}); make room "
                "or mend the folder's rights, then run again: training goes on from the checkpoint before"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """The last state that is whole, or None where there is none; a damaged one is reported.

        Raises UserError for a state of another configuration.
        """
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                state = load_archive(path, _LARGEST, _OPERATIONS)
                if not isinstance(state, dict):
                    raise ValueError("no state of a training")
            except Exception as error:  # torch raises many kinds for a damaged file
                log.warning("%s: damaged (%s); the checkpoint before it is tried", path, error)
                continue
            if state.pop("key", None) != self.key:
                raise UserError(f"{path}: a checkpoint of another configuration; delete it and run again")
            return state
        return None

    def remove(self) -> None:
        """The run has ended and its output is written."""
        half_written = self.path.parent.glob(f".{self.path.name}.*.tmp")  # by kills in the middle of `save`
        for path in (self.path, self.previous, *half_written):
            path.unlink(missing_ok=True)
