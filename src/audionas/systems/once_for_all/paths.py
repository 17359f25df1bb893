"""Paths of the models and results of `once_for_all`, relative to the folder of `dvc.yaml`."""

from __future__ import annotations

from pathlib import Path

from audionas.runtime.artifacts import claim

MODELS, RESULTS = Path("models"), Path("results")


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
    """A uniform network, trained individually."""
    return MODELS / "individual" / f"{recipe}-{size}-{seed}.pt"


def init(constraint: str, seed: int) -> Path:
    """A found architecture, trained from random initialization."""
    return MODELS / "init" / f"{constraint}-{seed}.pt"


def ranked(index: int, seed: int) -> Path:
    """A sub-network, trained individually to compare it with its score in the supernet."""
    return MODELS / "ranked" / f"{index}-{seed}.pt"


def released(name: str) -> Path:
    """The released model of a budget, or of the name `supernet`.

    Its model card has the suffix .md; beside the supernet are its scores (.csv) and statistics (.npz).
    """
    return MODELS / "release" / f"{name}.pt"


def exported(constraint: str) -> Path:
    """The folder of a budget's network in all formats. Files have the name of the budget."""
    return MODELS / "exported" / constraint


def exported_result(constraint: str) -> Path:
    """The test results of a budget's exported files."""
    return RESULTS / "exported" / f"{constraint}.json"


def scores(space: str, seed: int) -> Path:
    """Validation mAP of every sub-network."""
    return RESULTS / "scores" / f"{space}-{seed}.csv"


def statistics(space: str, seed: int) -> Path:
    """BatchNorm statistics of every sub-network, as the scores used them."""
    return scores(space, seed).with_suffix(".npz")


def evaluation(model: Path) -> Path:
    """The test results of a model."""
    return RESULTS / "eval" / model.relative_to(MODELS).with_suffix(".json")


def predictions(model: Path) -> Path:
    """The probabilities of a model for every test clip, and the labels."""
    return evaluation(model).with_suffix(".npz")


def ranking(index: int, seed: int) -> Path:
    """Validation mAP of an individually trained sub-network."""
    return RESULTS / "scores" / "ranked" / f"{index}-{seed}.json"


#: Formats of exported files and the suffixes. The others are compared with the first.
FORMATS = {"pytorch": ".pt", "onnx": ".onnx", "onnx-int8": ".int8.onnx"}
METRICS, REPORT, LISTEN = RESULTS / "metrics.json", RESULTS / "report.html", RESULTS / "listen.html"
TABLES, FIGURES = RESULTS / "tables", RESULTS / "figures"

_KINDS = ("teacher", "supernet", "found", "within", "finetuned", "individual", "init", "ranked")
claim(*(MODELS / name for name in (*_KINDS, "exported", "release")), RESULTS)
