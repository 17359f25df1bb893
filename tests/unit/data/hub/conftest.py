"""The mirror on loopback, in each of its layouts."""

import pytest
from hub_server import HubServer
from mirror import OTHERS, PARQUET, TAR


@pytest.fixture
def server():
    with HubServer(PARQUET | OTHERS) as hub:
        yield hub


@pytest.fixture
def tars():
    with HubServer(TAR | OTHERS) as hub:
        yield hub
