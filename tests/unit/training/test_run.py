"""Training recipes: outputs, checkpoint keys, and other tasks."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
import waves

from audionas.data.store import ClipStore, write_store
from audionas.inference import Classifier
from audionas.models import Cnn10
from audionas.models.files import load_model
from audionas.models.registry import MODELS
from audionas.runtime.errors import UserError
from audionas.runtime.interruption import Interrupted
from audionas.settings.training import Calibration, Training
from audionas.tasks import MultiLabel, SingleLabel
from audionas.training.objectives.base import Objective
from audionas.training.objectives.supervised import Supervised
from audionas.training.run import TrainingRun


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path)


def opened(config, output: str, *, seed: int = 0, sections=("individual",), files=()) -> TrainingRun:
    return TrainingRun(
        config,
        Path(output),
        stage="individual-baseline",
        seed=seed,
        task=MultiLabel(),
        train=ClipStore("data/logmel/train.h5"),
        valid=ClipStore("data/logmel/valid.h5"),
        sections=sections,
        files=files,
    )


def network(widths=None) -> Cnn10:
    return Cnn10(4, 4, widths=widths, mels=16)


def test_a_recipe_writes_the_network_its_curves_and_its_duration(project):
    """A name with a dot is not truncated."""
    with opened(project, "models/individual/kd-0.6x1-0.pt") as run:
        trained = network().to(run.device)
        run.fit(Supervised(trained, run.task), iterations=6, augment=project.augment)
        assert list(Path(".state").glob("individual-kd-0.6x1-0-*.pt"))  # kept until the network is written
        run.calibrate(trained)
        run.save(trained, {"kind": "individual", **run.measure(trained)})
    written, about = load_model("models/individual/kd-0.6x1-0.pt")
    for name, value in trained.state_dict().items():
        assert torch.equal(value, written.state_dict()[name]), name
    assert written.state_dict()["block4.bn2.num_batches_tracked"] == project.calibration.batches
    assert list(about) == [
        *("kind", "valid_mAP", "valid_clips", "valid_classes"),
        *("seed", "corpus", "train_clips", "classes", "settings"),
    ]
    assert float(Path("logs/seconds/individual/kd-0.6x1-0.txt").read_text()) >= 0
    curve = Path("results/curves/individual/kd-0.6x1-0/plots/metrics/valid_mAP.tsv")
    assert [line.split()[0] for line in curve.read_text().splitlines()] == ["step", "5", "6"]
    assert not list(Path(".state").iterdir())


def test_a_killed_run_of_another_architecture_is_not_resumed(project):
    """`init` restarts if the search finds another network."""

    def train(widths: tuple[int, ...], save: bool) -> None:
        with opened(project, "models/init/5k-0.pt") as run:
            trained = network(widths)
            run.fit(Supervised(trained, run.task), iterations=6)
            if save:
                run.save(trained, {"kind": "init"})

    train((4, 8, 16, 32), save=False)
    train((4, 3, 6, 12), save=True)
    assert load_model("models/init/5k-0.pt")[0].spec["widths"] == [4, 3, 6, 12]
    assert not list(Path(".state").iterdir())


class Another(Supervised):
    """A change of the computation changes the state key."""


@dataclass
class Changed:
    """One argument or input differs from the run of the checkpoint."""

    iterations: int = 6
    mixup_alpha: float = 0.0
    learning_rate: float | None = None
    seed: int = 0
    objective: type[Objective] = Supervised
    widths: tuple[int, ...] | None = None
    sections: dict | None = None
    input: str = "a"


def key(**changes) -> str:
    """Interrupt a run after its first iteration, and return its checkpoint key."""
    changed = Changed(**changes)
    config = tiny.make(Path(), **(changed.sections or {}))
    Path("input").write_text(changed.input)
    opening = opened(config, "models/x/0.pt", seed=changed.seed, files=[Path("input")])
    with pytest.raises(Interrupted), opening as run:
        run.fit(
            changed.objective(network(changed.widths), run.task),
            iterations=changed.iterations,
            mixup_alpha=changed.mixup_alpha,
            learning_rate=changed.learning_rate,
        )
    return max(Path(".state").glob("x-0-*.pt"), key=lambda path: path.stat().st_mtime_ns).name


@pytest.mark.slow
def test_a_checkpoint_is_bound_to_all_that_its_state_follows_from(project, monkeypatch):
    monkeypatch.setenv("AUDIONAS_TIME_LIMIT", "0")
    training = tiny.PARAMS["training"]
    changes = [
        {"iterations": 7},
        {"mixup_alpha": 1.0},
        {"learning_rate": 1e-2},
        {"seed": 1},
        {"objective": Another},
        {"widths": (4, 3, 6, 12)},
        {"input": "b"},
        {"sections": {"individual": {"iterations": 9}}},
        {"sections": {"training": {**training, "batch_size": 6}}},
    ]
    first = key()
    assert len({first, *(key(**change) for change in changes)}) == 1 + len(changes)
    assert key() == first
    assert key(sections={"training": {**training, "checkpoint_seconds": 9.0, "gpus": 2}}) == first
    assert key(sections={"search": {"tolerance": "1k"}}) == first  # not a section of this run


def test_a_run_holds_its_lock_until_it_ends_and_trains_once(project):
    lock = Path(".state/x-0.lock")
    with pytest.raises(ValueError, match="of the block"), opened(project, "models/x/0.pt"):
        assert lock.exists()
        raise ValueError("of the block")
    assert not lock.exists()
    with opened(project, "models/x/0.pt") as run:
        run.fit(Supervised(network(), run.task), iterations=6)
        with pytest.raises(RuntimeError, match="called twice on one TrainingRun"):
            run.fit(Supervised(network(), run.task), iterations=6)


def test_a_single_label_task_learns_from_waveforms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SimpleNamespace(
        training=Training(batch_size=6, threads=1, valid_every=40, learning_rate=1e-2, averaging="ema"),
        calibration=Calibration(batches=1),
        corpus=SimpleNamespace(name="made"),
    )
    options = {"stage": "teacher", "seed": 0, "task": SingleLabel(), "sections": ()}
    train, valid = waves.store(Path("train.h5"), 30), waves.store(Path("valid.h5"), 15, seed=1)
    with TrainingRun(config, Path("models/linear/0.pt"), train=train, valid=valid, **options) as run:
        trained = waves.Linear()
        assert run.measure(trained)["valid_accuracy"] < 0.9
        run.fit(Supervised(trained, run.task), iterations=80, mixup_alpha=0.2)
        run.calibrate(trained)
        measured = run.measure(trained)
        run.save(trained, measured)
    assert measured == {"valid_accuracy": 1.0, "valid_clips": 15, "valid_classes": 3}
    monkeypatch.setitem(MODELS, "linear", waves.ENTRY)
    loaded, about = load_model("models/linear/0.pt")
    assert about["task"] == "single-label" and torch.equal(loaded.fc.weight, trained.fc.weight)
    clip = valid.data[1]
    probabilities = Classifier("models/linear/0.pt")(clip, rate=waves.RATE)
    assert probabilities.argmax() == 1 and probabilities.sum() == pytest.approx(1)  # a softmax
    curve = Path("results/curves/linear/0/plots/metrics/valid_accuracy.tsv").read_text().split()
    assert float(curve[-1]) == 1.0
    labels = train.labels.copy()
    labels[7, 0] = labels[7, 1] = 1
    data, more = train.data[:], {"classes": train.classes, "settings": train.settings}
    write_store(Path("twice.h5"), train.clip_ids, labels, data, **more)
    with pytest.raises(UserError, match=r"twice\.h5: row 7 has 2 labels, .*exactly one; give each clip one"):
        TrainingRun(
            config, Path("models/linear/1.pt"), train=ClipStore("twice.h5"), valid=valid, **options
        ).__enter__()
    assert not list(Path(".state").iterdir())  # no lock is left
