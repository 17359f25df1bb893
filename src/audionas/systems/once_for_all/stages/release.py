"""`release`: what there is to ship, a file and a model card each."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from audionas.audio.measure import spread
from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, RESAMPLE, iter_ledger, read_rows
from audionas.models.files import load_model, read_model, save_model
from audionas.reporting.captions import basis, budget
from audionas.reporting.captions import title as corpus_title
from audionas.reporting.table_files import read_csv
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write, copy, new_folder
from audionas.runtime.leftovers import remove_leftovers
from audionas.settings.values import parse_constraint
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.cards import network_card, supernet_card
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.results import keeps, model_files, read_result

_SHIP = paths.TABLES / "ship.csv"


def run(config: Config) -> None:
    """What the table `ship` names, and the best supernet of the chosen space, to models/release.

    Raises:
        UserError: a table or a result is missing or damaged, a file is none of this study's, or a network
            does not keep its budget.
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
    validated = basis(int(teacher["valid_classes"]), len(names), int(teacher["valid_clips"]))
    known, tolerance = list(model_files(study)), config.search.released_tolerance
    for constraint in study.constraints:
        row = _shipped(constraint)
        model = _named(row.File, known)
        tested = read_result(paths.evaluation(model), "params", "macs", "test_clips")
        if not keeps(parse_constraint(constraint), tested, tolerance):
            raise UserError(
                f"{_SHIP}: File: {model} does not keep the budget, {budget(constraint, tolerance)}; run `dvc "
                "repro tables`"
            )
        digest, about = _described(model, target := folder / paths.released(constraint).name)
        _write(
            target, network_card(target.name, digest, row, about, tested, validated, names, title, tolerance)
        )

    networks = read_csv(paths.TABLES / "networks.csv", ["space", "params"])
    networks = networks[networks.space == study.chosen_space]
    seed = max(study.seeds, key=lambda seed: networks[f"valid mAP {seed}"].mean())
    networks = networks.assign(**{"valid mAP": networks[f"valid mAP {seed}"]})
    target = folder / paths.released("supernet").name
    digest, about = _copied(paths.supernet(study.chosen_space, seed), target)
    _write(target, supernet_card(digest, networks, validated, about, title))


def _shipped(constraint: str) -> pd.Series:
    """The row of the table `ship` for a budget."""
    table = read_csv(_SHIP, ["Budget", "File"])
    rows = table[table.Budget == constraint]
    if len(rows) != 1:
        raise UserError(f"{_SHIP}: Budget: {len(rows)} rows of {constraint}; run `dvc repro tables`")
    return rows.iloc[0]


def _named(name: str, known: list[Path]) -> Path:
    """The one of these files that the table names: a path from data is compared, not opened."""
    for path in known:
        if path.as_posix() == name:
            return path
    raise UserError(f"{_SHIP}: File: {name!r} is none of this study's networks; run `dvc repro tables`")


def _copied(model: Path, target: Path) -> tuple[str, dict]:
    about = read_model(model)["about"]
    copy(model, target)
    return _digest(target), about


def _described(model: Path, target: Path) -> tuple[str, dict]:
    """A network's file with what its training clips sound like, to warn where a recording does not."""
    ledger = data_paths.audio_ledger("train")
    if not ledger.exists():  # a study of spectrograms from elsewhere
        return _copied(model, target)
    network, about = load_model(model)
    save_model(target, network, about | {"heard": spread(iter_ledger(ledger, RESAMPLE))})
    return _digest(target), read_model(target)["about"]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(target: Path, card: str) -> None:
    with atomic_write(target.with_suffix(".md")) as temporary:
        temporary.write_text(card, encoding="utf-8")
