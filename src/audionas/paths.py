"""Where every artifact of the DAG lies, relative to the project's folder; `dvc.yaml` names the same."""

from __future__ import annotations

import os
from pathlib import Path

from audionas.state import STATE

DOWNLOADS = STATE / "download"  # under way
DATA, MODELS, RESULTS = Path("data"), Path("models"), Path("results")
CLASSES = DATA / "segments" / "classes.csv"
WARNINGS = DATA / "segments" / "warnings.txt"  # of the corpus; there only where it has any


def segments(split: str) -> Path:
    """Clips of a split and their labels."""
    return DATA / "segments" / f"{split}.csv"


def raw(split: str) -> Path:
    """Folder of shards of original audio, with its ledger."""
    return DATA / "raw" / split


def audio(split: str) -> Path:
    """Waveforms of a split."""
    return DATA / "audio" / f"{split}.h5"


def audio_ledger(split: str) -> Path:
    """What became of every clip of a split in decoding."""
    return DATA / "audio" / f"{split}.ledger.csv"


def logmel(split: str) -> Path:
    """Log-mel spectrograms of a split."""
    return DATA / "logmel" / f"{split}.h5"


def teacher(seed: int) -> Path:
    """The teacher of one seed."""
    return MODELS / "teacher" / f"{seed}.pt"


def supernet(space: str, seed: int) -> Path:
    """The supernet of one search space and seed."""
    return MODELS / "supernet" / f"{space}-{seed}.pt"


def found(space: str, constraint: str, seed: int) -> Path:
    """The best sub-network near a constraint."""
    return MODELS / "found" / f"{space}-{constraint}-{seed}.pt"


def within(space: str, constraint: str, seed: int) -> Path:
    """The best sub-network at or under a constraint."""
    return MODELS / "within" / f"{space}-{constraint}-{seed}.pt"


def finetuned(constraint: str, iterations: int, seed: int) -> Path:
    """A found sub-network after continual fine-tuning."""
    return MODELS / "finetuned" / f"{constraint}-{iterations}-{seed}.pt"


def individual(recipe: str, size: str, seed: int) -> Path:
    """A uniform network trained on its own."""
    return MODELS / "individual" / f"{recipe}-{size}-{seed}.pt"


def init(constraint: str, seed: int) -> Path:
    """A found architecture trained from fresh weights."""
    return MODELS / "init" / f"{constraint}-{seed}.pt"


def ranked(index: int, seed: int) -> Path:
    """A sub-network trained on its own, to compare with what the supernet says of it."""
    return MODELS / "ranked" / f"{index}-{seed}.pt"


def released(name: str) -> Path:
    """What is shipped under a name: a budget, or `supernet`; its model card has the suffix .md."""
    return MODELS / "release" / f"{name}.pt"


def scores(space: str, seed: int) -> Path:
    """Validation mAP of every sub-network."""
    return RESULTS / "scores" / f"{space}-{seed}.csv"


def curves(model: Path) -> Path:
    """DVCLive's folder for a model's training."""
    return RESULTS / "curves" / model.relative_to(MODELS).with_suffix("")


def seconds(model: Path) -> Path:
    """How long a model's training took; a log, since no two runs take as long."""
    return Path("logs") / "seconds" / model.relative_to(MODELS).with_suffix(".txt")


def evaluation(model: Path) -> Path:
    """Test results of a model."""
    return RESULTS / "eval" / model.relative_to(MODELS).with_suffix(".json")


def predictions(model: Path) -> Path:
    """A model's probabilities for every test clip, and the labels."""
    return evaluation(model).with_suffix(".npz")


def ranking(index: int, seed: int) -> Path:
    """Validation mAP of a sub-network trained on its own."""
    return RESULTS / "scores" / "ranked" / f"{index}-{seed}.json"


METRICS, REPORT = RESULTS / "metrics.json", RESULTS / "report.html"
TABLES, FIGURES, COVERAGE = RESULTS / "tables", RESULTS / "figures", RESULTS / "coverage"

#: Folders that only stages write to.
_OWN = (
    *(DATA / name for name in ("segments", "raw", "audio", "logmel")),
    *(
        MODELS / name
        for name in ("teacher", "supernet", "found", "within", "finetuned", "individual", "init", "ranked")
    ),
    *(MODELS / "release", RESULTS, STATE),
)


def remedy(path: str | Path) -> str:
    """What to do about a damaged file: what stages make may be deleted, what is the user's own may not."""
    place = os.path.relpath(path)  # as it is written: DVC may have put a link to its cache there
    if any(Path(place).is_relative_to(folder) for folder in _OWN):
        return "delete it and run `dvc repro`"
    return "give a file that `dvc repro` made"
