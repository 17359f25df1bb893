"""Files in a stage's folders that no parameter names any more, as those of a budget that was taken out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from audionas.runtime.files import remove_abandoned

log = logging.getLogger(__name__)


def remove_leftovers(folder: Path, named: Iterable[Path]) -> None:
    """Remove from a folder, at any depth, the files that are not `named`, and what kills have left.

    DVC compares a folder as a whole: with a leftover in it, what one clone has computed is stale in another.
    Only where DVC runs the stage: its cache keeps the files. Of other files (those without a suffix that a
    named one has) only the names are logged.
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
                log.info("%s: removed, since params.yaml does not name it", path)
            else:
                log.warning(
                    "%s: no stage has made it; move it away, or other clones find this stage stale", path
                )
    remove_abandoned(folder)
