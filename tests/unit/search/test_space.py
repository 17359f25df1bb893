"""Search spaces: the interface, and the CNN10 spaces, whose sizes equal the paper's."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from dag import SOURCE
from words import Words

from audionas.search.cnn10 import LARGEST, SPACES, Cnn10Architecture, Cnn10Space
from audionas.search.space import FiniteSpace
from audionas.search.tables import space_table
from audionas.systems.once_for_all.config import Space


def test_every_size_equals_the_table():
    with Path(__file__).with_name("search_space_params.csv").open() as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    ours = [
        (space, *(f"{choice}" for choice in (*s.ratios, *s.depths)), f"{Cnn10Space(space).costs(s).params}")
        for space in ("x-x-x", "2-x-x", "2-2-x", "ew")
        for s in Cnn10Space(space)
    ]
    assert sorted(ours) == sorted(rows)


@pytest.mark.parametrize("name, count", [("x-x-x", 512), ("2-x-x", 256), ("2-2-x", 128), ("ew", 125)])
def test_spaces_have_the_papers_configurations(name, count):
    space = Cnn10Space(name)
    assert len(space) == len(set(space)) == count
    assert max(space.costs(s).params for s in space) == 5_219_279


def test_cnn10_multiply_adds_are_the_papers():
    assert Cnn10Architecture().multiply_adds(LARGEST, 1001) / 1e9 == pytest.approx(13.02, abs=0.005)
    assert Cnn10Space("2-2-x").costs(LARGEST) == (
        5_219_279,
        Cnn10Architecture().multiply_adds(LARGEST, 1001),
    )


SMALL = Cnn10Architecture(num_classes=5, base_channels=1, mels=16, width_rounding="nearest")
EVERY = [*(Cnn10Space(name) for name in SPACES), Cnn10Space("x-x-x", SMALL, 20), Words()]


@pytest.mark.parametrize("space", EVERY, ids=lambda space: f"{space.name}, {len(space)}")
def test_what_a_space_makes_is_of_the_space(space: FiniteSpace):
    inside, generator = set(space), np.random.default_rng(0)
    drawn = [space.sample(generator) for _ in range(20 * len(space))]
    assert set(drawn) == inside and max(map(drawn.count, inside)) < 60
    for first, second in zip(drawn[:500], drawn[500:1000], strict=False):
        assert space.mutate(first, 0.0, generator) == first == space.cross(first, first, generator)
        child = space.cross(first, second, generator)
        code, *parents = (space.encode(each) for each in (child, first, second))
        assert child in inside and ((code == parents[0]) | (code == parents[1])).all()
        assert space.mutate(first, 0.5, generator) in inside
    changed = [space.encode(space.mutate(drawn[0], 1.0, generator)) for _ in range(200)]
    assert (np.ptp(changed, axis=0) == np.ptp([space.encode(each) for each in space], axis=0)).all()


@pytest.mark.parametrize("space", EVERY, ids=lambda space: f"{space.name}, {len(space)}")
def test_a_finite_space_is_the_sequence_of_its_configurations(space: FiniteSpace):
    assert list(space) == [space[i] for i in range(len(space))] and space[2:9:3] == list(space)[2:9:3]
    assert sorted(map(space.index, space.shuffled())) == list(range(len(space)))
    assert space.shuffled() == space.shuffled() != list(space)
    assert len({tuple(space.encode(each)) for each in space}) == len(space)
    params = [space.costs(each).params for each in space]
    assert space.smallest == space[params.index(min(params))]
    assert space.largest == space[-1] and space.costs(space.largest).params == max(params)


def test_a_table_has_what_a_space_tells_of_each_configuration():
    space = Cnn10Space("ew", frames=101)
    table = space_table(space)
    assert list(table.columns) == ["r2", "r3", "r4", "d2", "d3", "d4", "params", "macs"]
    assert np.array_equal(table.iloc[:, :6].to_numpy(), [space.encode(each) for each in space])
    assert [tuple(row) for row in table[["params", "macs"]].to_numpy()] == list(map(space.costs, space))
    assert list(space_table(Words()).columns) == ["word", "params", "macs"]


def test_only_the_modules_of_cnn10_name_it_and_none_needs_pytorch():
    for path in (SOURCE / "audionas" / "search").rglob("*.py"):
        if path.stem != "cnn10":
            assert "cnn10" not in path.read_text(encoding="utf-8").lower(), path
    program = "import sys; from audionas.cli import main; main(['space', '2-2-x'])"
    subprocess.run([sys.executable, "-c", f"{program}; assert 'torch' not in sys.modules"], check=True)


def test_parameters_name_every_search_space():
    assert get_args(Space) == SPACES
