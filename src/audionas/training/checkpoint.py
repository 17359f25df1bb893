"""Training state that survives a killed process; `audionas.runtime.state` says what its key is made of."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from audionas.models.archive import load_archive
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write
from audionas.runtime.state import STATE, differences

log = logging.getLogger(__name__)

_LARGEST, _OPERATIONS = 64 << 30, 20_000_000


class Checkpoint:
    """One run's state file, written whole or not at all, and the one before it.

    Args:
        name: of the run.
        key: of what the state follows from (`state_key`); another key is another run.
        basis: what the key was made of (`basis_of`), to report what differs.
    """

    def __init__(self, name: str, key: str, folder: Path = STATE, basis: Mapping[str, str] | None = None):
        self.name, self.key, self.basis = name, key, dict(basis or {})
        self.path = folder / f"{name}-{key}.pt"
        self.previous = self.path.with_suffix(".previous.pt")

    def save(self, state: dict[str, Any]) -> None:
        """Write the state: tensors and plain values. The last one is kept until this one is on disk.

        Raises UserError when it cannot be written: the disk is full, or the folder is not writable.
        """
        try:
            with atomic_write(self.path) as temporary:
                torch.save({"key": self.key, "basis": self.basis, **state}, temporary)
                if self.path.exists():
                    self.path.replace(self.previous)
        except (OSError, RuntimeError) as error:  # torch wraps what the file system says
            raise UserError(
                f"{self.path}: the checkpoint could not be written ({str(error).splitlines()[0]}); make room "
                "or fix the folder's permissions, then run again: it resumes from the previous checkpoint"
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
                    raise ValueError("not the state of a training")
            except Exception as error:  # torch raises many kinds for a damaged file
                log.warning("%s: damaged (%s); the previous checkpoint is tried", path, error)
                continue
            state.pop("basis", None)
            if state.pop("key", None) != self.key:
                raise UserError(f"{path}: a checkpoint of another configuration; delete it and run again")
            return state
        return None

    def report_unused(self) -> None:
        """Log which checkpoint of this run is not used, and what differs: it was made under another key.

        The newest one is kept until this run ends, so that an edit can be reverted; older ones are removed.
        """
        others = sorted(self._others(), key=lambda path: path.stat().st_mtime_ns)
        for path in others[:-1]:
            path.unlink(missing_ok=True)
        for path in others[-1:]:
            try:
                state = load_archive(path, _LARGEST, _OPERATIONS)
                what = differences(dict(state["basis"]), self.basis)
            except Exception as error:  # torch raises many kinds for a damaged file
                what = f"unknown, for it is damaged ({type(error).__name__})"
            log.warning(
                "%s: not used; what differs: %s. It is kept until this run ends; revert the change to use it",
                path,
                what,
            )

    def _others(self) -> list[Path]:
        """Checkpoints of this run under other keys."""
        named = re.compile(rf"{re.escape(self.name)}-[0-9A-Za-z]+(\.previous)?\.pt")
        mine = {self.path, self.previous}
        return [
            path for path in self.path.parent.glob("*.pt") if named.fullmatch(path.name) and path not in mine
        ]

    def remove(self) -> None:
        """The run has ended and its output is written: no checkpoint of it, under any key, is needed."""
        half_written = self.path.parent.glob(f".{self.path.name}.*.tmp")  # by kills in the middle of `save`
        for path in (self.path, self.previous, *half_written, *self._others()):
            path.unlink(missing_ok=True)
