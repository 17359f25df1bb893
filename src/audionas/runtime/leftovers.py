"""Remove obsolete files from a stage's folders, such as those of a removed budget."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from audionas.runtime.files import remove_abandoned

log = logging.getLogger(__name__)


def remove_leftovers(folder: Path, named: Iterable[Path]) -> None:
    """Remove from a folder, at any depth, files that are not `named`, and temporary files of killed runs.

    DVC compares a folder as a whole, so an obsolete file makes the stage stale in other clones. Files are
    removed only if DVC runs the stage, because its cache keeps them. Files whose suffix no named file has are
    not removed, but logged.
    """
    if "DVC_STAGE" not in os.environ or not folder.is_dir():
        return
    named = set(named)
    suffixes = {path.suffix for path in named}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            remove_abandoned(path)
            if not any(path.iterdir()):
                path.rmdir()
        elif path.exists() and path not in named and not path.name.startswith("."):
            if path.suffix in suffixes:
                path.unlink()
                log.info("%s: removed, because params.yaml does not name it", path)
            else:
                log.warning(
                    "%s: not the output of a stage; move it away, or this stage is stale in other clones",
                    path,
                )
    remove_abandoned(folder)
