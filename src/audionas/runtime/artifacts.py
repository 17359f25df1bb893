"""Folders that only stages write to, and what to do about a damaged file."""

from __future__ import annotations

import os
from pathlib import Path

from audionas.runtime.state import STATE

_OWN = {STATE}


def claim(*folders: Path) -> None:
    """Note folders, relative to that of `dvc.yaml`, in which stages alone write; the user's files lie elsewhere."""
    _OWN.update(folders)


def remedy(path: str | Path) -> str:
    """What to do about a damaged file: what stages make may be deleted, what is the user's own may not."""
    place = os.path.relpath(path)  # as it is written: DVC may have put a link to its cache there
    if any(Path(place).is_relative_to(folder) for folder in _OWN):
        return "delete it and run `dvc repro`"
    return "give a file that `dvc repro` made"
