"""A damaged file is read, or rejected by a message that names it. No traceback, no hang, no crash.

AUDIONAS_HOSTILE_SEED draws other cases, AUDIONAS_HOSTILE_TIMES so many times as many.
"""

import os

import pytest
from fuzz import fuzz

SEED, TIMES = (
    int(os.environ.get(f"AUDIONAS_HOSTILE_{name}", value)) for name, value in (("SEED", 0), ("TIMES", 1))
)
CASES = {
    "audio": 3000,
    "tables": 150,
    "models": 800,
    "stores": 1200,
    "params": 500,
    "lists": 600,
    "predictions": 300,
    "results": 800,
    "scores": 500,
    "shards": 1500,
    "ledgers": 600,
    "archives": 800,
    "checkpoints": 300,
}


@pytest.mark.parametrize("kind", CASES)
def test_damage_is_read_or_refused(kind, tmp_path):
    found = fuzz(kind, CASES[kind] * TIMES, SEED, tmp_path)
    assert not found, f"{len(found)} findings; their files are kept in .state/hostile\n" + "\n".join(found)
