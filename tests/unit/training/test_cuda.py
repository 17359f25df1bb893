"""GPU training gives the results of the CPU and resumes exactly. Skipped without a GPU."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from audionas.audio import LogMel
from audionas.data.store import ClipStore
from audionas.evaluation.metrics import mean_average_precision
from audionas.evaluation.prediction import calibration_batches, predict
from audionas.models import Cnn10
from audionas.models.files import load_model
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space
from audionas.settings.audio import Augment
from audionas.settings.training import Distillation, Training
from audionas.supernet.calibration import calibrate_all
from audionas.supernet.cnn10 import Cnn10Supernet, extract
from audionas.supernet.scoring import score
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.stages import score as scoring
from audionas.systems.once_for_all.stages import search, supernet, teacher
from audionas.tasks import MultiLabel
from audionas.training import loop
from audionas.training.feed import Batch, Feed
from audionas.training.objectives.distillation import Distilled
from audionas.training.objectives.supervised import Supervised

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
GPU = "cuda"
ARCHITECTURE = Cnn10Architecture(4, 8, 16)
NONE = {"block_dropout": 0.0, "head_dropout": 0.0}


@pytest.fixture
def exact(monkeypatch):
    """Use float32 convolutions, because TF32 has only three digits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Config:
    """A tiny experiment on the GPU that checks the loss in every iteration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(loop._CHECK_LOSS_EVERY, GPU, 1)
    return made()


def made(iterations: int = 12, **training) -> Config:
    training = {**tiny.PARAMS["training"], "device": GPU, "valid_every": 5, **training}
    return tiny.make(Path(), training=training, teacher={"iterations": iterations})


def test_networks_compute_what_they_compute_on_the_cpu(exact):
    torch.manual_seed(0)
    network, x = Cnn10(527).eval(), torch.randn(2, 200, 64) * 20 - 40
    keep = (torch.rand(2, 200, 64) < 0.9).float()
    expected = network(x, keep)
    torch.testing.assert_close(network.to(GPU)(x.to(GPU), keep.to(GPU)).cpu(), expected, atol=1e-4, rtol=1e-4)
    waves = torch.randn(2, 32_000) / 10
    on_gpu = LogMel().to(GPU)(waves.to(GPU)).cpu()
    torch.testing.assert_close(on_gpu, LogMel()(waves), atol=1e-3, rtol=1e-4)


def test_a_step_has_the_gradients_of_the_cpu(exact):
    torch.manual_seed(0)
    student, master = Cnn10(4, 8, mels=16, **NONE).train(), Cnn10(4, 8, mels=16, **NONE)
    x, y, gradients = torch.randn(6, 64, 16), torch.eye(4)[torch.arange(6) % 4], []
    for device in ("cpu", GPU):
        objective = Distilled(student.to(device), MultiLabel(), master, Distillation(hard_label_weight=0.5))
        batch = Batch(*(part.to(device) for part in (x, y, torch.ones_like(x), torch.arange(6))))
        student.zero_grad()
        objective(batch, 0).backward()
        gradients.append([parameter.grad.clone().cpu() for parameter in student.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_batches_are_the_same_held_on_the_gpu_and_read_ahead(project):
    store, options = ClipStore("data/logmel/train.h5"), Training(batch_size=9)
    feeds = [Feed(store, options, Augment(), 1.0, GPU, resident=held) for held in (True, False)]
    for iteration in (0, 1, 2, 7, 8, 3):
        for one, other in zip(*(vars(feed.batch(iteration)).values() for feed in feeds), strict=True):
            assert one.device.type == GPU and torch.equal(one, other)


def test_shared_scores_are_those_of_networks_cut_out(project, exact):
    torch.manual_seed(0)
    space, network = Cnn10Space("x-x-x", ARCHITECTURE), Cnn10Supernet(ARCHITECTURE).eval().to(GPU)
    valid, train = ClipStore("data/logmel/valid.h5"), ClipStore("data/logmel/train.h5")
    batches = [x.to(GPU) for x in calibration_batches(train, 8, 3)]
    chosen = [space.smallest, LARGEST, *space[5::97]]
    scores, _ = score(network, chosen, batches, valid)
    statistics = calibrate_all(network, chosen, batches)
    with torch.no_grad():
        for subnetwork, value in zip(chosen, scores, strict=True):
            alone = extract(network, subnetwork, statistics).to(GPU)
            [(_, logits)] = network.outputs(batches[0], [subnetwork], statistics=statistics)
            torch.testing.assert_close(alone(batches[0]), logits, atol=1e-5, rtol=1e-5)
            expected = mean_average_precision(valid.labels, predict(alone, valid))
            assert value == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_teacher_learns_and_is_read_on_the_cpu(project, precision, compiled, caplog):
    caplog.set_level("INFO")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # left by the previous test
    teacher.run(made(150, precision=precision, compile=compiled, valid_every=150), seed=0)
    network, _ = load_model("models/teacher/0.pt")
    store = ClipStore("data/logmel/valid.h5")
    assert mean_average_precision(store.labels, predict(network, store)) > 0.9
    assert (" 1 graphs compiled" in caplog.text) == compiled


@pytest.mark.parametrize("changes", [{}, {"sampling": "sandwich", "sort_channels": True}])
def test_a_supernet_is_trained_scored_and_searched(project, changes):
    values = {**tiny.PARAMS["supernet"], **changes}
    tiny.make(Path(), training={**project.training.model_dump(), "precision": "bfloat16"}, supernet=values)
    config = tiny.load_config("params.yaml")
    teacher.run(config, seed=0)
    supernet.run(config, "2-2-x", 0)
    scoring.run(config, "2-2-x", 0)
    search.run(config, "2-2-x", "5k", 0)
    network, about = load_model("models/found/2-2-x-5k-0.pt")
    valid = ClipStore("data/logmel/valid.h5")
    value = mean_average_precision(valid.labels, predict(network, valid))
    assert value == pytest.approx(about["valid_mAP"], abs=0.05)  # TF32 there, float32 here; 12 clips


def test_two_runs_are_equal_to_the_bit(project):
    """Deterministic kernels are requested; PyTorch only warns if there is none."""
    found = []
    for _ in range(2):
        teacher.run(project, seed=0)
        found.append(Path("models/teacher/0.pt").read_bytes())
    assert found[0] == found[1]


KILLED = f"""
import os, signal
from audionas.systems.once_for_all.stages import teacher
from audionas.systems.registry import load_config
from audionas.training import checkpoint, loop

save = checkpoint.Checkpoint.save
def dying_save(self, state):
    save(self, state)
    if state["iteration"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoint.save = dying_save
loop._CHECK_LOSS_EVERY["{GPU}"] = 1
teacher.run(load_config(), seed=0)
"""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_killed_and_resumed_equals_uninterrupted(project, precision):
    config, output = made(precision=precision), Path("models/teacher/0.pt")
    teacher.run(config, seed=0)
    whole = output.read_bytes()
    output.unlink()
    killed = subprocess.run([sys.executable, "-c", KILLED])
    assert killed.returncode == -signal.SIGKILL and list(Path(".state").glob("*.pt"))
    teacher.run(config, seed=0)
    assert output.read_bytes() == whole


def test_too_little_memory_is_said_in_words(project, monkeypatch):
    whole = Supervised.__call__

    def greedy(self, batch, iteration):
        held = torch.empty(1 << 45, device=GPU) if iteration == 3 else 0  # 128 TB
        return whole(self, batch, iteration) + held

    monkeypatch.setattr(Supervised, "__call__", greedy)
    with pytest.raises(UserError, match=r"iteration 4 .*: out of memory; lower training\.batch_size"):
        teacher.run(project, seed=0)
