"""Shared fixtures."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# One test process per core; more PyTorch threads would only compete.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The servers of the tests are local, so no proxy must be used.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


def pytest_xdist_auto_num_workers() -> int:
    """Three workers on two cores: the tests of engines often wait for a process."""
    cores = len(os.sched_getaffinity(0))
    return cores + cores // 2


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings beside the repository. Tests that need it are skipped if it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no recordings at ../shared/data beside {SHARED.parents[1].name}; see CONTRIBUTING.md")
    return SHARED


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Reset logging, because AUDIONAS_DEBUG in one test would affect all later tests."""
    yield
    logging.getLogger("audionas").setLevel(logging.NOTSET)
