"""A Slurm cluster for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm import Slurm, missing


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if why := missing():
        pytest.skip(why)
    with Slurm(Path(tmp_path_factory.mktemp("slurm"))) as running:
        yield running
