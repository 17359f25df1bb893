"""Data-parallel training: several ranks give the results of one, and survive interruptions."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
from projects import until
from together import python

from audionas.runtime.ranks import Ranks
from audionas.supernet.statistics import read_statistics


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12])
def test_shares_are_neighbours_and_whole(size):
    shares = [Ranks(rank, size).share(range(10)) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(10))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


STEPS = """
import sys
from pathlib import Path
import numpy as np, torch, together
from dataclasses import astuple
from torch import nn
from audionas.systems.once_for_all.config import Distillation, SupernetTraining, Training
from audionas.systems.registry import load_config
from audionas.models import Cnn10
from audionas.supernet.cnn10 import Cnn10Supernet
from audionas.search.cnn10 import Cnn10Architecture
from audionas.runtime.ranks import current, join
from audionas.search.cnn10 import Cnn10Space
from audionas.data.store import ClipStore
from audionas.training.checkpoint import Checkpoint
from audionas.training.feed import Batch, Feed
from audionas.training.loop import train
from audionas.training.objectives.base import Objective
from audionas.training.objectives.supervised import Supervised
from audionas.tasks import MultiLabel
from audionas.supernet.training import OnceForAll

config, none = load_config(), {"block_dropout": 0.0, "head_dropout": 0.0}

class InFloat64(Objective):
    def __init__(self, objective):
        self.objective, self.network = objective, objective.network.double()
    def __call__(self, batch, iteration):
        x, y, keep = (values.double() for values in (batch.x, batch.y, batch.keep))
        return self.objective(Batch(x, y, keep, batch.rows), iteration)

def run(kind, ranks, frozen):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if kind == "teacher":
        objective, alpha = Supervised(Cnn10(4, 4, mels=16, **none), MultiLabel()), 1.0
    else:
        architecture = Cnn10Architecture(4, 4, 16)
        master, alpha = Cnn10(4, 4, mels=16).double(), 0.0
        objective = OnceForAll(
            Cnn10Supernet(architecture, **none), MultiLabel(), master, Distillation(),
            Cnn10Space("x-x-x", architecture),
            SupernetTraining(largest_iterations=2, sampled_iterations=8), seed=0,
        )
    objective = InFloat64(objective)
    if frozen:
        def freeze(mode=True):
            for module in objective.network.modules():
                module.training = mode and not isinstance(module, nn.BatchNorm2d)
            return objective.network
        objective.network.train = freeze
    feed = Feed(ClipStore("data/logmel/train.h5"), Training(batch_size=8), config.augment, alpha)
    train(
        objective, feed, iterations=10, settings=Training(batch_size=8), learning_rate=1e-3,
        checkpoint=Checkpoint(kind, str(ranks), Path("state")), curves=Path(f"{kind}{ranks}"),
        validate=lambda network: {}, description="run",
    )
    if current().first:
        torch.save(objective.network.state_dict(), f"{kind}{ranks}.pt")
    return 0

def joined(*arguments):
    with join("cpu"):
        return run(*arguments)

for kind in ("teacher", "supernet"):
    for ranks in (1, 2):
        codes = together.end(together.start(lambda: joined(kind, ranks, {frozen}), ranks))
        assert not any(codes), codes
"""


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
def test_two_ranks_equal_one(project, frozen):
    """Ranks compute the same global batch in float64: masks, mixup, sub-networks, BatchNorm, gradients."""
    python(STEPS.replace("{frozen}", str(frozen)))
    for kind in ("teacher", "supernet"):
        one, two = (torch.load(f"{kind}{ranks}.pt", weights_only=True) for ranks in (1, 2))
        for name, value in one.items():
            assert (value - two[name]).abs().max() < 1e-9, name
        curves = [Path(f"{kind}{n}", "plots/metrics/loss.tsv").read_text().split() for n in (1, 2)]
        assert float(curves[0][-1]) == pytest.approx(float(curves[1][-1]), abs=1e-9)


TRAINED = """
import os, sys, together
from audionas.cli import main

def by(ranks, *arguments):
    codes = together.end(together.start(lambda: main([*arguments]), ranks))
    assert not any(codes), codes

by(2, "teacher", "--seed", "0")
by(2, "supernet", "--space", "x-x-x", "--seed", "0")
for ranks in (1, 2):
    by(ranks, "score", "--space", "x-x-x", "--seed", "0")
    os.rename("results/scores/x-x-x-0.csv", f"{ranks}.csv")
    os.rename("results/scores/x-x-x-0.npz", f"{ranks}.npz")
"""


@pytest.mark.slow
def test_two_ranks_train_and_score_as_one_does(project):
    """Each rank draws its own dropout, so the training differs but has equal quality."""
    settings = {**tiny.PARAMS["training"], "valid_every": 50, "checkpoint_seconds": 60.0}
    tiny.make(Path(), teacher={"iterations": 150}, training=settings)
    python(TRAINED)
    curve = Path("results/curves/teacher/0/plots/metrics/valid_mAP.tsv").read_text().split()
    assert float(curve[-1]) > 0.9 and not list(Path(".state").glob("*"))
    one, two = (pd.read_csv(f"{ranks}.csv") for ranks in (1, 2))
    pd.testing.assert_frame_equal(one, two, atol=1e-3)
    name = one.supernet[0]
    kept, joined = (read_statistics(Path(f"{ranks}.npz"), name).values for ranks in (1, 2))
    assert kept.keys() == joined.keys() and len(kept) > 100
    for key, (mean, variance, _) in kept.items():
        torch.testing.assert_close(joined[key][0], mean, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(joined[key][1], variance, atol=1e-2, rtol=1e-3)


PACKED = """
import os, together
from audionas.cli import main
from audionas.systems.common import logmel
logmel._BLOCK = 5
for ranks in (1, 3):
    codes = together.end(together.start(lambda: main(["logmel", "--split", "train"]), ranks))
    assert not any(codes) and not os.listdir(".state/logmel"), codes
    os.rename("data/logmel/train.h5", f"{ranks}.h5")
"""


@pytest.mark.slow
def test_ranks_pack_the_store_that_one_packs(project):
    import numpy as np

    from audionas.data.store import write_store

    waves = np.random.default_rng(0).integers(-9999, 9999, (23, 32_000), dtype=np.int16)
    labels, ids = np.ones((23, 4), np.uint8), [f"clip{i}" for i in range(23)]
    settings = {"audio": project.audio.model_dump()}
    write_store(Path("data/audio/train.h5"), ids, labels, waves, classes=tiny.CLASSES, settings=settings)
    python(PACKED)
    assert Path("1.h5").read_bytes() == Path("3.h5").read_bytes()


def test_other_stages_refuse_ranks(project, monkeypatch, capsys):
    from audionas.cli import main

    launched = {"WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": 1, "MASTER_ADDR": "localhost", "MASTER_PORT": 29500}
    for name, value in launched.items():
        monkeypatch.setenv(name, str(value))
    assert main(["tables"]) == 1
    assert (
        "tables (rank 1): this stage supports a single process; run it without `torchrun`"
        in capsys.readouterr().err
    )


SAVING = """
import ctypes, os, signal, sys, time
from pathlib import Path

ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # as in `join`
signal.signal(signal.SIGTERM, lambda *_: Path("asked" + os.environ["RANK"]).touch())
Path("began" + os.environ["RANK"]).touch()
while not Path("go").exists():
    time.sleep(0.01)
Path("saved" + os.environ["RANK"]).touch()
sys.exit(75)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_a_launcher_told_often_to_stop_lets_its_ranks_save(tmp_path):
    """The launcher of torchrun exits at the third signal, and its ranks die with it."""
    (tmp_path / "audionas").mkdir()
    (tmp_path / "audionas" / "__init__.py").touch()
    (tmp_path / "audionas" / "__main__.py").write_text(SAVING)
    code = "import sys; from audionas.runtime.ranks import launch; sys.exit(launch([], 2, 75))"
    process = subprocess.Popen([sys.executable, "-P", "-c", code], cwd=tmp_path)
    until(lambda: len(list(tmp_path.glob("began*"))) == 2, "both ranks")
    for _ in range(5):
        process.send_signal(signal.SIGTERM)
        until(lambda: len(list(tmp_path.glob("asked*"))) == 2, "the signal in both ranks")
        time.sleep(0.1)  # otherwise the signals merge
    assert process.poll() is None
    (tmp_path / "go").touch()
    assert process.wait(600) == 75
    assert len(list(tmp_path.glob("saved*"))) == 2


COMPILED = """
import torch, together
from audionas.models import Cnn10
from audionas.runtime.ranks import current, join

def step():
    with join("cpu"):
        torch.manual_seed(0)
        network = Cnn10(4, 4, mels=16, block_dropout=0.0, head_dropout=0.0)
        compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")
        x = torch.randn(4, 33, 16) + current().rank
        found = []
        for forward in (network, compiled):
            network.zero_grad()
            forward(x).square().mean().backward()
            found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
        assert (found[0] - found[1]).abs().max() < 1e-5 * found[0].abs().max()
    return 0

assert not any(together.end(together.start(step, 2), grace=60))
"""


@pytest.mark.slow
def test_a_compiled_network_joins_its_statistics_in_one_graph():
    python(COMPILED)
