"""State that outlives a killed process: in `.state/`, and no stage's output."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STATE = Path(".state")
UNFINISHED = "clips.h5"  # the store that a stage fills, in its folder of state


def state_key(settings: Any, files: Iterable[Path]) -> str:
    """A hash of what a state follows from, so that a changed run never resumes an old one.

    Args:
        settings: plain values.
        files: by content.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def store_folder(stage: str, split: str, key: str) -> Path:
    """Where a stage fills its store and marks what is done; what other keys left of this split is removed.

    Marks without a store would promise rows that are not there, so they are removed as well.
    """
    folder = STATE / stage / f"{split}-{key}"
    for other in (STATE / stage).glob(f"{split}-*"):
        if other != folder or not (folder / UNFINISHED).exists():
            shutil.rmtree(other)
    return folder
