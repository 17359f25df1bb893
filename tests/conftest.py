"""Shared fixtures."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings beside the repository; tests that need it skip where it is not."""
    if not SHARED.is_dir():
        pytest.skip(f"no recordings at ../shared/data beside {SHARED.parents[1].name}; see README, Tests")
    return SHARED
