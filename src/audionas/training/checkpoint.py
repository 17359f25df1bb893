"""Checkpoints of a training. `audionas.runtime.state` defines their keys."""

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
    """The latest checkpoint of a run and the one before it. Files are written atomically.

    Args:
        name: name of the run.
        key: hash of everything that determines the state (`state_key`); another key means another run.
        folder: folder of the files.
        basis: input of the hash (`basis_of`), to report differences between runs.
    """

    def __init__(self, name: str, key: str, folder: Path = STATE, basis: Mapping[str, str] | None = None):
        self.name, self.key, self.basis = name, key, dict(basis or {})
        self.path = folder / f"{name}-{key}.pt"
        self.previous = self.path.with_suffix(".previous.pt")

    def save(self, state: dict[str, Any]) -> None:
        """Write the state: tensors and plain values. The previous file is kept until the new one is on disk.

        Raises:
            UserError: the file cannot be written because the disk is full or the folder is not writable.
        """
        try:
            with atomic_write(self.path) as temporary:
                torch.save({"key": self.key, "basis": self.basis, **state}, temporary)
                if self.path.exists():
                    self.path.replace(self.previous)
        except (OSError, RuntimeError) as error:  # torch wraps errors of the file system
            raise UserError(
                f"{self.path}: the checkpoint could not be written ({str(error).splitlines()[0]}); free disk "
                "space or fix the permissions of the folder, then run again to resume from the previous "
                "checkpoint"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """Return the latest intact state, or None if there is none. Logs a warning for a damaged file.

        Raises:
            UserError: the state belongs to another configuration.
        """
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                state = load_archive(path, _LARGEST, _OPERATIONS)
                if not isinstance(state, dict):
                    raise ValueError("not the state of a training")
            except Exception as error:  # torch raises many types for a damaged file
                log.warning("%s: damaged (%s); trying the previous checkpoint", path, error)
                continue
            state.pop("basis", None)
            if state.pop("key", None) != self.key:
                raise UserError(
                    f"{path}: this checkpoint is of another configuration; delete it and run again"
                )
            return state
        return None

    def report_unused(self) -> None:
        """Log a warning if this run has a checkpoint under another key, with the differences.

        The newest one is kept until this run ends, so that the user can revert an edit. Others are removed.
        """
        others = sorted(self._others(), key=lambda path: path.stat().st_mtime_ns)
        for path in others[:-1]:
            path.unlink(missing_ok=True)
        for path in others[-1:]:
            try:
                state = load_archive(path, _LARGEST, _OPERATIONS)
                what = differences(dict(state["basis"]), self.basis)
            except Exception as error:  # torch raises many types for a damaged file
                what = f"unknown, because the file is damaged ({type(error).__name__})"
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
        """Remove all checkpoints of this run, under any key. Call it after the output is written."""
        half_written = self.path.parent.glob(f".{self.path.name}.*.tmp")  # left by a kill during `save`
        for path in (self.path, self.previous, *half_written, *self._others()):
            path.unlink(missing_ok=True)
