"""An expensive folder that is made once for all test processes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a copy of a folder that `make` fills. One process makes it, the others wait and copy it."""
    own = factory.mktemp(name)
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"{name}-made"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            working = shared.with_name(f"{shared.name}-working")
            working.mkdir()
            make(working)
            working.rename(shared)
    shutil.copytree(shared, own, symlinks=True, dirs_exist_ok=True)
    return own
