"""Stage `release`: the released models, each with a model card."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from audionas.audio.measure import spread
from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, RESAMPLE, iter_ledger, iter_rows, read_rows
from audionas.models.files import load_model, read_model, save_model
from audionas.reporting.captions import budget_text, corpus_title, measured_on
from audionas.reporting.table_files import read_csv
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write, copy, new_folder
from audionas.runtime.leftovers import remove_leftovers
from audionas.runtime.npz import read_npz
from audionas.settings.values import parse_constraint
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.cards import network_card, supernet_card
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.results import model_files, read_result, within_budget

_SHIP = paths.TABLES / "ship.csv"
_FINGERPRINT = 12  # digits of a digest that scores and statistics name their supernet by


def run(config: Config) -> None:
    """Write the networks of the table `ship`, and the best supernet of the chosen space, to models/release.

    Beside the supernet are its scores and BatchNorm statistics, so that `audionas specialize` can cut a
    network for any budget from it.

    Raises:
        UserError: a table or a result is missing or damaged, a file does not belong to this study, a network
            exceeds its budget, or the scores or statistics belong to another supernet.
    """
    study = config.study
    supernets = [paths.supernet(space, seed) for space in study.spaces for seed in study.seeds]
    named = [*model_files(study), *supernets]
    for folder in sorted({path.parent for path in named}):
        remove_leftovers(folder, named)
    with new_folder(paths.released("").parent) as folder:
        _write_all(config, folder)


def _write_all(config: Config, folder: Path) -> None:
    study, title = config.study, corpus_title(config.corpus)
    names = {row["mid"]: row["display_name"] for row in read_rows(data_paths.CLASSES, CLASSES)}
    copy(data_paths.CLASSES, folder / data_paths.CLASSES.name)
    teacher = read_result(paths.evaluation(paths.teacher(study.seeds[0])), "valid_classes", "valid_clips")
    validated = measured_on(int(teacher["valid_classes"]), len(names), int(teacher["valid_clips"]))
    known, tolerance = list(model_files(study)), config.search.released_tolerance
    for constraint in study.constraints:
        row = _ship_row(constraint)
        model = _known_model(row.File, known)
        tested = read_result(paths.evaluation(model), "params", "macs", "test_clips")
        if not within_budget(parse_constraint(constraint), tested, tolerance):
            raise UserError(
                f"{_SHIP}: File: {model} is not within the budget, "
                f"{budget_text(constraint, tolerance)}; run `dvc repro tables`"
            )
        digest, about = _copy_with_statistics(model, target := folder / paths.released(constraint).name)
        _write(
            target, network_card(target.name, digest, row, about, tested, validated, names, title, tolerance)
        )

    networks = read_csv(paths.TABLES / "networks.csv", ["space", "params"])
    networks = networks[networks.space == study.chosen_space]
    seed = max(study.seeds, key=lambda seed: networks[f"valid mAP {seed}"].mean())
    networks = networks.assign(**{"valid mAP": networks[f"valid mAP {seed}"]})
    target = folder / paths.released("supernet").name
    digest, about = _copy(paths.supernet(study.chosen_space, seed), target)
    _copy_scores(study.chosen_space, seed, digest, target)
    _write(target, supernet_card(digest, networks, validated, about, title))


def _ship_row(constraint: str) -> pd.Series:
    """Return the row of the table `ship` for a budget."""
    table = read_csv(_SHIP, ["Budget", "File"])
    rows = table[table.Budget == constraint]
    if len(rows) != 1:
        raise UserError(f"{_SHIP}: Budget: {len(rows)} rows of {constraint}; run `dvc repro tables`")
    return rows.iloc[0]


def _known_model(name: str, known: list[Path]) -> Path:
    """Return the model file of this name. A name from a table is compared with known files, never opened."""
    for path in known:
        if path.as_posix() == name:
            return path
    raise UserError(f"{_SHIP}: File: {name!r} is not a network of this study; run `dvc repro tables`")


def _copy(model: Path, target: Path) -> tuple[str, dict]:
    about = read_model(model)["about"]
    copy(model, target)
    return _digest(target), about


def _copy_scores(space: str, seed: int, digest: str, target: Path) -> None:
    """Copy scores and statistics beside the released supernet, and check that they belong to it."""
    scores, statistics = paths.scores(space, seed), paths.statistics(space, seed)
    named = {scores: {row["supernet"] for row in iter_rows(scores, ["supernet"])}}
    try:
        named[statistics] = {str(read_npz(statistics, ["supernet"])["supernet"])}
    except Exception as error:  # a flipped bit may raise any error of zlib or NumPy
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{statistics}: missing or damaged ({why}); run `dvc repro`") from None
    for path, names in named.items():
        if names != {digest[:_FINGERPRINT]}:
            raise UserError(f"{path}: of another supernet than {space}-{seed}; delete it and run `dvc repro`")
        copy(path, target.with_suffix(path.suffix))


def _copy_with_statistics(model: Path, target: Path) -> tuple[str, dict]:
    """Write a model file with the bandwidth and level of its training clips, for warnings at inference."""
    ledger = data_paths.audio_ledger("train")
    if not ledger.exists():  # the study started from spectrograms
        return _copy(model, target)
    network, about = load_model(model)
    save_model(target, network, about | {"heard": spread(iter_ledger(ledger, RESAMPLE))})
    return _digest(target), read_model(target)["about"]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(target: Path, card: str) -> None:
    with atomic_write(target.with_suffix(".md")) as temporary:
        temporary.write_text(card, encoding="utf-8")
