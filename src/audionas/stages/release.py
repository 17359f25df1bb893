"""`release`: what there is to ship, a file and a model card each."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from audionas import paths
from audionas.config import Config
from audionas.errors import UserError
from audionas.files import atomic_write, copy, new_folder
from audionas.ledger import CLASSES, read_rows
from audionas.models.modelfile import read_model
from audionas.reporting.card import network_card, supernet_card
from audionas.reporting.results import read_result
from audionas.reporting.titles import title as corpus_title

_SHIP = paths.TABLES / "ship.csv"


def run(config: Config) -> None:
    """What the table `ship` names, and the best supernet of the chosen space, to models/release."""
    with new_folder(paths.released("").parent) as folder:
        _write_all(config, folder)


def _write_all(config: Config, folder: Path) -> None:
    study, title = config.study, corpus_title(config.corpus)
    names = {row["mid"]: row["display_name"] for row in read_rows(paths.CLASSES, CLASSES)}
    copy(paths.CLASSES, folder / paths.CLASSES.name)
    for constraint in study.constraints:
        row = _shipped(constraint)
        spaces, seeds = study.spaces, study.seeds
        model = _named(row.File, [paths.found(space, constraint, seed) for space in spaces for seed in seeds])
        ap = pd.Series(read_result(paths.evaluation(model), "mAP").get("AP"), dtype=float)
        per_class = pd.DataFrame({"Class": ap.index, "Name": ap.index.map(names), "AP": 100 * ap.to_numpy()})
        digest, about = _copied(model, target := folder / paths.released(constraint).name)
        _write(target, network_card(target.name, digest, row, about, per_class, title))

    networks = pd.read_csv(paths.TABLES / "networks.csv")
    networks = networks[networks.space == study.chosen_space]
    seed = max(study.seeds, key=lambda seed: networks[f"valid mAP {seed}"].mean())
    networks = networks.assign(**{"valid mAP": networks[f"valid mAP {seed}"]})
    target = folder / paths.released("supernet").name
    digest, about = _copied(paths.supernet(study.chosen_space, seed), target)
    _write(target, supernet_card(digest, networks, about, title))


def _shipped(constraint: str) -> pd.Series:
    """The row of the table `ship` for a budget."""
    table = pd.read_csv(_SHIP, dtype={"Budget": str})
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
    return hashlib.sha256(target.read_bytes()).hexdigest(), about


def _write(target: Path, card: str) -> None:
    with atomic_write(target.with_suffix(".md")) as temporary:
        temporary.write_text(card, encoding="utf-8")
