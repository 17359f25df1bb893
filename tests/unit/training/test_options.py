"""Options that are off by default: each follows its source, and resumes exactly."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import torch.nn.functional as F
from dag import ROOT

from audionas.data.store import ClipStore
from audionas.models import Cnn10
from audionas.runtime.interruption import Interrupted
from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space
from audionas.settings.training import Distillation, SupernetTraining, Training
from audionas.supernet import training as once_for_all
from audionas.supernet.cnn10 import Cnn10Supernet
from audionas.supernet.sorting import channel_orders, sort_channels
from audionas.supernet.training import InPlace, OnceForAll
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.stages import individual, supernet, teacher
from audionas.tasks import MultiLabel
from audionas.training import run as training_run
from audionas.training.averaging import Average
from audionas.training.checkpoint import Checkpoint
from audionas.training.feed import Batch, Feed
from audionas.training.loop import train
from audionas.training.objectives.distillation import Distilled
from audionas.training.schedules import rate

ARCHITECTURE = Cnn10Architecture(4, 4, 16)
SPACE = Cnn10Space("2-2-x", ARCHITECTURE)
NO_DROPOUT = {"block_dropout": 0.0, "head_dropout": 0.0}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tiny.make(tmp_path)


def batch(clips: int = 6) -> Batch:
    x = torch.randn(clips, 20, 16)
    return Batch(x, torch.eye(4)[torch.arange(clips) % 4], torch.ones_like(x), torch.arange(clips))


def test_the_sandwich_holds_both_ends_and_draws_the_rest_uniformly():
    schedule = SupernetTraining(largest_iterations=1, networks_per_step=4, sampling="sandwich")
    objective = OnceForAll(
        Cnn10Supernet(ARCHITECTURE), MultiLabel(), Cnn10(4, 4, mels=16), Distillation(), SPACE, schedule
    )
    assert objective.sample(0) == [LARGEST]
    steps = [objective.sample(iteration) for iteration in range(1, 1601)]
    smallest = min(SPACE, key=ARCHITECTURE.parameters)
    assert all(step[:2] == [LARGEST, smallest] and len(step) == 4 for step in steps)
    drawn = [s for step in steps for s in step[2:]]
    counts = [drawn.count(s) for s in SPACE]
    assert min(counts) > 5 and max(counts) < 60  # 25 expected
    other = OnceForAll(
        objective.network, MultiLabel(), objective.teacher, Distillation(), SPACE, schedule, seed=1
    )
    assert other.sample(1) != objective.sample(1)


def test_in_place_the_others_learn_from_the_largest_which_feels_nothing_of_it(monkeypatch):
    torch.manual_seed(0)
    network, master = Cnn10Supernet(ARCHITECTURE, **NO_DROPOUT), Cnn10(4, 4, mels=16)
    schedule = SupernetTraining(largest_iterations=0, networks_per_step=4, sampling="sandwich")
    objective = InPlace(network, MultiLabel(), master, Distillation(hard_label_weight=0.5), SPACE, schedule)
    # The largest network may be drawn again.
    drawn = [LARGEST, SPACE.smallest, LARGEST, SPACE[5]]
    monkeypatch.setattr(objective, "sample", lambda iteration: drawn)
    one = batch()

    def gradients(loss) -> list[torch.Tensor]:
        return torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)

    outputs = {s: network(one.x, one.keep, s) for s in drawn}
    soft = outputs[LARGEST].sigmoid().tolist()  # plain numbers without gradients
    parts = [
        F.binary_cross_entropy_with_logits(
            outputs[s], objective.target(one) if s == LARGEST else torch.tensor(soft)
        )
        for s in drawn
    ]
    loss = objective(one, 0)
    assert loss.item() == pytest.approx(sum(parts).item() / 4)
    for got, expected in zip(gradients(loss), gradients(sum(parts) / 4), strict=True):
        torch.testing.assert_close(got, expected)


def trained(network: Cnn10Supernet) -> Cnn10Supernet:
    """Set weights and statistics that differ between channels, as after training."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "bn" in name and value.is_floating_point():
                value += 0.3 * torch.rand_like(value)
    return network


def test_sorting_puts_the_channels_that_are_read_most_first_and_keeps_the_largest_network():
    torch.manual_seed(0)
    network = trained(Cnn10Supernet(ARCHITECTURE).double()).eval()
    x = torch.randn(5, 20, 16, dtype=torch.float64)
    before, smaller = network(x), network(x, subnetwork=SPACE.smallest)
    marks = [(name, value.detach().clone()) for name, value in network.named_parameters()]
    sort_channels(network, marks)
    assert (network(x) - before).abs().max() < 1e-9
    assert (network(x, subnetwork=SPACE.smallest) - smaller).abs().max() > 1e-3
    for reader in ("block2.conv2", "block3.conv1", "block3.conv2", "block4.conv1", "block4.conv2"):
        norms = network.get_submodule(reader).weight.abs().sum(dim=(0, 2, 3))
        assert (norms.diff() <= 1e-12).all(), reader
    assert (network.fc1.weight.abs().sum(dim=0).diff() <= 1e-12).all()
    for name, value in marks:  # Adam's moments and averaged weights follow their weights
        assert torch.equal(value, network.get_parameter(name)), name
    for order in channel_orders(network).values():  # the channels are sorted
        assert torch.equal(order, torch.arange(len(order)))


def test_channels_are_sorted_once_where_the_sampled_phase_begins(monkeypatch):
    sorted_at = []
    monkeypatch.setattr(once_for_all, "sort_channels", lambda network, companions: sorted_at.append(now))
    for wanted, expected in ((True, [3]), (False, [])):
        sorted_at.clear()
        schedule = SupernetTraining(largest_iterations=3, sampled_iterations=3, sort_channels=wanted)
        objective = OnceForAll(
            Cnn10Supernet(ARCHITECTURE), MultiLabel(), Cnn10(4, 4, mels=16), Distillation(), SPACE, schedule
        )
        for now in range(6):
            objective.begin(now, ())
        assert sorted_at == expected


@pytest.mark.slow
@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_with_options_a_resumed_supernet_equals_an_uninterrupted_one(project, monkeypatch, averaging):
    """The run stops after each iteration: around the sort, and around the start of the average."""
    config = tiny.make(
        Path(),
        training={"warmup_iterations": 2, "averaging": averaging, "averaging_decay": 0.7},
        supernet={"sampling": "sandwich", "sort_channels": True},
        distillation={"in_place": True, "teacher_input": "stored"},
    )
    teacher.run(config, seed=0)
    supernet.run(config, "x-x-x", seed=0)
    output, curves = Path("models/supernet/x-x-x-0.pt"), Path("results/curves/supernet/x-x-x-0")
    whole = {path: path.read_bytes() for path in [output, *curves.rglob("*.*")]}
    assert len(whole) > 3
    output.unlink()
    shutil.rmtree(curves)
    monkeypatch.setenv("AUDIONAS_TIME_LIMIT", "0")
    for iteration in range(1, 12):
        with pytest.raises(Interrupted, match=f"after iteration {iteration} of 12"):
            supernet.run(config, "x-x-x", seed=0)
    supernet.run(config, "x-x-x", seed=0)
    assert {path: path.read_bytes() for path in whole} == whole


def test_the_learning_rate_warms_up_and_then_follows_its_schedule():
    constant = Training(warmup_iterations=4)
    assert [rate(constant, i, 10) for i in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    cosine = Training(warmup_iterations=4, schedule="cosine")
    assert [rate(cosine, i, 10) for i in (0, 3, 4, 7, 10)] == pytest.approx([0.25, 1.0, 1.0, 0.5, 0.0])
    plain = Training(schedule="cosine")
    assert [rate(plain, i, 10) for i in range(11)] == pytest.approx(
        0.5 + 0.5 * np.cos(np.arange(11) / 10 * np.pi)
    )


def averaged(settings: Training, steps: torch.Tensor) -> torch.Tensor:
    """`Average` of a network that has the given weights [2] in each step."""
    network = torch.nn.Linear(2, 1, bias=False).double()
    average = Average(network, settings, len(steps))
    for i, weights in enumerate(steps, start=1):
        with torch.no_grad():
            network.weight.copy_(weights)
        average.update(i)
        if not average.count:
            assert torch.equal(average.measured().weight, network.weight)
    assert torch.equal(network.weight[0], steps[-1])  # the trained weights do not change
    average.finish()
    return network.weight.detach()[0]


def test_averages_equal_plainly_computed_means():
    steps = torch.randn(40, 2, dtype=torch.float64)
    assert torch.equal(averaged(Training(), steps), steps[-1])
    swa = averaged(Training(averaging="swa"), steps)
    torch.testing.assert_close(swa, steps[30:].mean(dim=0))
    torch.testing.assert_close(averaged(Training(averaging="swa"), steps[:1]), steps[0])
    mean = steps[:5].mean(dim=0)  # until 1/n is below 1 - decay
    for step in steps[5:]:
        mean = 0.8 * mean + 0.2 * step
    torch.testing.assert_close(averaged(Training(averaging="ema", averaging_decay=0.8), steps), mean)


def test_averaged_weights_are_what_is_measured_and_written(project, monkeypatch):
    """The averaged weights have separate BatchNorm statistics."""
    weights, measured = [], []
    update = Average.update

    def noting(self, iteration):
        weights.append(self.network.fc2.weight.detach().clone())
        update(self, iteration)

    monkeypatch.setattr(Average, "update", noting)
    monkeypatch.setattr(
        training_run,
        "predict",
        lambda network, store, *more: measured.append(network.fc2.weight.clone()) or store.labels,
    )
    teacher.run(tiny.make(Path(), training={"averaging": "swa"}), seed=0)
    written = torch.load("models/teacher/0.pt", weights_only=True)["state"]
    mean = torch.stack(weights[9:]).mean(dim=0)  # of 12
    torch.testing.assert_close(written["fc2.weight"], mean)
    torch.testing.assert_close(measured[-1], mean)
    assert torch.equal(measured[0], weights[4])  # the mean has not started
    assert written["block4.bn2.num_batches_tracked"] == 3  # estimated again


def test_stored_targets_equal_those_of_clean_clips(project):
    store = ClipStore("data/logmel/train.h5")
    master = trained(Cnn10(4, 4, mels=16))
    clean, stored = (
        Distilled(
            Cnn10(4, 4, mels=16),
            MultiLabel(),
            master,
            Distillation(teacher_input=which, hard_label_weight=0.3),
            store,
        )
        for which in ("clean", "stored")
    )
    calls = []
    master.register_forward_hook(lambda *_: calls.append(1))
    feed = Feed(store, Training(batch_size=7), project.augment)
    for iteration in range(4):
        one = feed.batch(iteration)
        torch.testing.assert_close(stored.target(one), clean.target(one), rtol=1e-5, atol=1e-6)
    assert len(calls) == 4  # only for clean input
    assert not torch.allclose(
        clean.target(one), Distilled(clean.network, MultiLabel(), master, Distillation()).target(one)
    )


def test_stored_targets_reach_every_distilled_run(project):
    config = tiny.make(Path(), distillation={"teacher_input": "stored"})
    teacher.run(config, seed=0)
    individual.run(config, "kd", "0.6x1", seed=0)
    assert Path("models/individual/kd-0.6x1-0.pt").exists()


def test_stored_targets_of_mixed_batches_are_refused(project):
    store = ClipStore("data/logmel/train.h5")
    settings = Distillation(teacher_input="stored")
    with pytest.raises(ValueError, match="needs the store of the training split"):
        Distilled(Cnn10(4, 4, mels=16), MultiLabel(), Cnn10(4, 4, mels=16), settings)
    objective = Distilled(Cnn10(4, 4, mels=16), MultiLabel(), Cnn10(4, 4, mels=16), settings, store)
    with pytest.raises(ValueError, match="mixup_alpha must be 0"):
        train(
            objective,
            Feed(store, project.training, project.augment, mixup_alpha=1.0),
            iterations=1,
            settings=project.training,
            learning_rate=1e-3,
            checkpoint=Checkpoint("run", "key", Path(".state")),
            curves=Path("curves"),
            validate=lambda network: {},
            description="mixed",
        )


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"supernet": {"sampling": "sandwich", "networks_per_step": 2}},
            r"supernet\.networks_per_step 2 is too low .* raise it to 3 or more",
        ),
        (
            {"distillation": {"in_place": True}},
            r"distillation\.in_place .* set supernet\.sampling to sandwich",
        ),
        (
            {"training": {"warmup_iterations": 3}},
            r"training\.warmup_iterations 3 .* minimum of study\.finetune_iterations is 3",
        ),
        ({"training": {"averaging_decay": 1.0}}, r"averaging_decay"),
        ({"supernet": {"sampling": "random"}}, r"sampling"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes, message):
    values = {name: {**section, **changes.get(name, {})} for name, section in tiny.PARAMS.items()}
    with pytest.raises(ValueError, match=message):
        Config.model_validate(values)


@pytest.mark.slow
def test_the_comparison_of_options_leaves_the_project_alone(project):
    teacher.run(project, seed=0)
    before = sorted(Path().rglob("*"))
    Path("out").mkdir()
    chosen = ["--options", "default", "sorted", "--seeds", "0", "1", "--output", "out"]
    subprocess.run(
        [sys.executable, ROOT / "experiments" / "options.py", *chosen], check=True, capture_output=True
    )
    table = pd.read_csv("out/options.csv")
    assert table["option"].tolist() == ["default", "default", "sorted", "sorted"]
    assert table.drop(columns="option").notna().all(axis=None) and (table["mean of the space"] > 0).all()
    text = Path("out/options.md").read_text()
    assert "`supernet.sort_channels: true`" in text and "best near 12k" in text and " ± " in text
    assert [p for p in sorted(Path().rglob("*")) if p.parts[0] != "out"] == before
