"""Folders that only stages write to, and the fix for a damaged file."""

from __future__ import annotations

import os
from pathlib import Path

from audionas.runtime.state import STATE

_OWN = {STATE}


def claim(*folders: Path) -> None:
    """Register folders, relative to that of `dvc.yaml`, that only stages write to, and no user."""
    _OWN.update(folders)


def remedy(path: str | Path) -> str:
    """Return the fix for a damaged file: stage outputs may be deleted, the user's files may not."""
    place = os.path.relpath(path)  # not resolved: it may be a link to DVC's cache
    if any(Path(place).is_relative_to(folder) for folder in _OWN):
        return "delete it and run `dvc repro`"
    return "give a file that `dvc repro` made"
