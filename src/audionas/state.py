"""State that outlives a killed process: in `.state/`, since DVC deletes a stage's outs before it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STATE = Path(".state")


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
