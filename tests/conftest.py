"""Shared fixtures."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests run side by side, one a core; PyTorch's threads would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The tests' servers are on this machine; a proxy would not find them.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings beside the repository; tests that need it skip where it is not."""
    if not SHARED.is_dir():
        pytest.skip(f"no recordings at ../shared/data beside {SHARED.parents[1].name}; see CONTRIBUTING.md")
    return SHARED


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """AUDIONAS_DEBUG in one test would have all later ones keep their log, and with it what is logged."""
    yield
    logging.getLogger("audionas").setLevel(logging.NOTSET)
