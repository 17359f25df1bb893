"""Training loop, objectives and augmentation; a resumed run equals an uninterrupted one."""

from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.data.store import ClipStore
from audionas.models import Cnn10
from audionas.runtime.errors import UserError
from audionas.runtime.ranks import Ranks
from audionas.runtime.state import basis_of, state_key
from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space
from audionas.settings.audio import Augment
from audionas.settings.training import Distillation, SupernetTraining, Training
from audionas.supernet.cnn10 import Cnn10Supernet
from audionas.supernet.training import OnceForAll
from audionas.systems.once_for_all.stages import teacher
from audionas.tasks import MultiLabel
from audionas.training.augment import draw_mixup, mix, spec_augment
from audionas.training.feed import Batch, Feed
from audionas.training.objectives import base, distillation
from audionas.training.objectives.distillation import Distilled
from audionas.training.objectives.supervised import Supervised

PLAIN = Augment(time_masks=0, mel_masks=0)
ARCHITECTURE = Cnn10Architecture(4, 4, 16)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path)


@settings(max_examples=30, deadline=None)
@given(
    frames=st.integers(17, 80), widest=st.integers(0, 16), masks=st.integers(0, 3), seed=st.integers(0, 99)
)
def test_spec_augment_masks_whole_bands_of_bounded_width(frames, widest, masks, seed):
    torch.manual_seed(seed)
    options = Augment(time_masks=masks, time_mask_frames=widest, mel_masks=0, mel_mask_bins=0)
    keep = spec_augment(6, frames, 20, options)
    assert keep.shape == (6, frames, 20) and set(keep.unique().tolist()) <= {0.0, 1.0}
    assert (keep == keep[:, :, :1]).all()  # time masks cover all mel bins
    assert (1 - keep[:, :, 0]).sum(dim=1).max() <= masks * widest


def test_spec_augment_reaches_both_ends_and_every_width():
    torch.manual_seed(0)
    keep = spec_augment(4000, 20, 16, Augment(time_masks=1, time_mask_frames=4, mel_masks=0, mel_mask_bins=0))
    dropped = 1 - keep[:, :, 0]
    assert dropped[:, 0].any() and dropped[:, -1].any()
    assert sorted(dropped.sum(dim=1).unique().tolist()) == [0, 1, 2, 3, 4]


def test_mixup_mixes_inputs_and_labels_alike():
    torch.manual_seed(0)
    y = torch.eye(8)
    x = y[:, None, :].expand(8, 3, 8) * 10
    share, partner = draw_mixup(8, 1.0)
    mixed_x, mixed_y = (mix(values, values[partner], share) for values in (x, y))
    assert torch.allclose(mixed_x, mixed_y[:, None, :] * 10)
    assert torch.allclose(mixed_y.sum(dim=1), torch.ones(8)) and not torch.equal(mixed_y, y)


def test_masked_input_is_zero_after_bn0():
    network = Cnn10(4, 4, mels=16)
    x, keep = torch.randn(2, 20, 16), torch.ones(2, 20, 16)
    keep[:, 3:7] = 0
    assert not network.normalise_input(x, keep)[:, :, 3:7].any()


def test_feed_shows_every_clip_once_an_epoch(project):
    store = ClipStore("data/logmel/train.h5")
    feed = Feed(store, Training(batch_size=9), PLAIN)
    seen = [clip_id for iteration in range(8) for clip_id in feed.clip_ids(iteration)]
    for epoch in range(3):
        assert sorted(seen[24 * epoch : 24 * (epoch + 1)]) == sorted(store.clip_ids)
    assert seen[:24] != seen[24:48]


def test_a_batch_follows_from_seed_and_iteration_alone(project):
    store, options = ClipStore("data/logmel/train.h5"), Training(batch_size=9)

    def fields(seed, iteration, before=()):
        feed = Feed(store, options, project.augment, 1.0, seed=seed)
        for other in before:
            feed.batch(other)
        return [*vars(feed.batch(iteration)).values()]

    first = fields(0, 5)
    assert all(map(torch.equal, first, fields(0, 5, before=(0, 1, 2, 9))))
    assert not torch.equal(first[0], fields(1, 5)[0]) and not torch.equal(first[0], fields(0, 6)[0])


@pytest.mark.parametrize("sampler", ["uniform", "balanced"])
@pytest.mark.parametrize("mixup_alpha", [0.0, 1.0])
def test_ranks_share_a_batch_without_overlap(project, sampler, mixup_alpha):
    store, options = ClipStore("data/logmel/train.h5"), Training(batch_size=12, sampler=sampler)
    feeds = [
        Feed(store, options, project.augment, mixup_alpha, ranks=ranks)
        for ranks in (Ranks(), *(Ranks(i, 3) for i in range(3)))
    ]
    for iteration in range(3):
        whole, *parts = ([*vars(feed.batch(iteration)).values()] for feed in feeds)
        for all_of_it, *shares in zip(whole, *parts, strict=True):
            assert [len(share) for share in shares] == [4, 4, 4]
            torch.testing.assert_close(torch.cat(shares), all_of_it)
    with pytest.raises(UserError, match=r"batch_size is 12, which is not a multiple of the 5 processes"):
        Feed(store, options, project.augment, ranks=Ranks(0, 5))


def test_once_for_all_takes_the_largest_first_then_all_uniformly():
    space = Cnn10Space("2-2-x", ARCHITECTURE)
    schedule = SupernetTraining(largest_iterations=2, sampled_iterations=1, networks_per_step=4)
    objective = OnceForAll(
        Cnn10Supernet(ARCHITECTURE), MultiLabel(), Cnn10(4, 4, mels=16), Distillation(), space, schedule
    )
    assert objective.sample(0) == objective.sample(1) == [LARGEST]
    assert objective.sample(2) == objective.sample(2)  # equal in all processes and in a resumed run
    drawn = [s for iteration in range(2, 802) for s in objective.sample(iteration)]
    counts = [drawn.count(s) for s in space]
    assert len(drawn) == 3200 and min(counts) > 5 and max(counts) < 60  # 25 expected


def test_distillation_learns_from_the_teacher_and_leaves_it_alone():
    torch.manual_seed(0)
    student, master = Cnn10(4, 4, mels=16), Cnn10(4, 4, mels=16)
    before = {k: v.clone() for k, v in master.state_dict().items()}
    objective = Distilled(student, MultiLabel(), master, Distillation())
    x, y = torch.randn(6, 20, 16), torch.zeros(6, 4)
    batch = Batch(x, y, torch.ones_like(x), torch.arange(6))
    loss = objective(batch, 0)
    loss.backward()
    assert all(torch.equal(before[k], v) for k, v in master.state_dict().items())
    assert all(p.grad is None for p in master.parameters())
    target = torch.sigmoid(master.eval()(x))
    # the loss is minimal if student and teacher agree
    assert loss > -(target * target.log() + (1 - target) * (1 - target).log()).mean()
    hard = Distilled(student, MultiLabel(), master, Distillation(hard_label_weight=1.0))
    assert torch.equal(hard.target(batch), y)


def test_golden_losses(project):
    """The first losses of each recipe to four digits. Any change of the computation fails this test.

    Without dropout, whose masks follow the layout in memory.
    """
    none = {"block_dropout": 0.0, "head_dropout": 0.0}
    torch.manual_seed(0)
    torch.set_num_threads(1)
    feed = Feed(ClipStore("data/logmel/train.h5"), Training(batch_size=8), project.augment, mixup_alpha=1.0)
    space = Cnn10Space("x-x-x", ARCHITECTURE)
    master = Cnn10(4, 4, mels=16, **none)
    objectives = [
        Supervised(Cnn10(4, 4, mels=16, **none), MultiLabel()),
        Distilled(Cnn10(4, 4, mels=16, **none), MultiLabel(), master, Distillation()),
        OnceForAll(
            Cnn10Supernet(ARCHITECTURE, **none),
            MultiLabel(),
            master,
            Distillation(),
            space,
            SupernetTraining(largest_iterations=1),
        ),
    ]
    losses = []
    for objective in objectives:
        optimiser = torch.optim.Adam(objective.network.parameters(), lr=1e-3)
        for iteration in range(3):
            loss = objective(feed.batch(iteration), iteration)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        feed.mixup_alpha = 0.0  # only the teacher uses mixup
    assert losses == pytest.approx(GOLDEN, abs=2e-4)


GOLDEN = [
    *(0.73009, 0.67242, 0.59016),  # BCE with mixup
    *(0.74893, 0.73639, 0.72976),  # distillation
    *(0.74284, 0.7323, 0.73063),  # once-for-all: the largest network, then four sampled ones
]


@pytest.mark.slow
def test_compiled_networks_compute_the_same_in_one_graph_each(project, monkeypatch):
    """Use the compiler without code generation, which takes a minute."""
    whole = partial(torch.compile, fullgraph=True, dynamic=False, backend="aot_eager")
    for module in (base, distillation):
        monkeypatch.setattr(module, "compiled", whole)
    torch.manual_seed(0)
    none = {"block_dropout": 0.0, "head_dropout": 0.0}
    feed = Feed(ClipStore("data/logmel/train.h5"), Training(batch_size=8), project.augment)
    student, master = Cnn10(4, 4, mels=16, **none).train(), Cnn10(4, 4, mels=16, **none)
    losses, gradients = [], []
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for compiled in (False, True):
        objective = Distilled(student, MultiLabel(), master, Distillation())
        if compiled:
            objective.compile()
        for iteration in range(3):
            student.zero_grad()
            loss = objective(feed.batch(iteration), iteration)
            loss.backward()
            losses.append(loss.item())
        gradients.append([parameter.grad.clone() for parameter in student.parameters()])
    assert losses[:3] == pytest.approx(losses[3:], abs=1e-5)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 2


@pytest.mark.slow
def test_a_teacher_learns(project):
    config = tiny.make(
        Path(), teacher={"iterations": 150}, training={**tiny.PARAMS["training"], "valid_every": 150}
    )
    teacher.run(config, seed=0)
    value = float(Path("results/curves/teacher/0/plots/metrics/valid_mAP.tsv").read_text().split()[-1])
    assert value > 0.9
    assert not list(Path(".state").glob("*.pt"))


def test_two_runs_are_equal_to_the_bit_and_two_seeds_are_not(project):
    def run(seed):
        teacher.run(project, seed=seed)
        return Path(f"models/teacher/{seed}.pt").read_bytes()

    first = run(0)
    assert run(0) == first and run(1) != first


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(project, monkeypatch):
    monkeypatch.setattr(
        Supervised, "__call__", lambda self, batch, i: self.network(batch.x).sum() * float("nan")
    )
    with pytest.raises(UserError, match=r"loss became nan in iteration 1; .*: train\d+"):
        teacher.run(project, seed=0)
    assert not Path("models/teacher/0.pt").exists()


def test_state_keys_tell_parameters_and_inputs_apart(tmp_path):
    file = tmp_path / "input"
    keys = set()
    for content in ("a", "b"):
        file.write_text(content)
        for rate in (1, 2):
            keys.add(state_key(basis_of({"seed": 0, "training": {"rate": rate}}, [file])))
    assert len(keys) == 4
