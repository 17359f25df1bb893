"""Stage `release`: the released models, each with a model card."""

from __future__ import annotations

from pathlib import Path

from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, iter_rows, read_rows
from audionas.models.files import read_model
from audionas.reporting.captions import corpus_title, measured_on
from audionas.reporting.table_files import read_csv, write
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write, copy, new_folder, sha256
from audionas.runtime.leftovers import remove_leftovers
from audionas.runtime.npz import read_npz
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.cards import network_card, supernet_card
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.exported import CAPTION, files_table, latency_caption, released_networks
from audionas.systems.once_for_all.results import read_result

_FINGERPRINT = 12  # digits of a digest that scores and statistics name their supernet by


def run(config: Config) -> None:
    """Write the networks of the table `ship` and the best supernet of the chosen space to models/release.

    The networks are copied from models/exported in every format; the table `files` compares the formats.
    Beside the supernet are its scores and BatchNorm statistics, so that `audionas specialize` can cut a
    network for any budget from it.

    Raises:
        UserError: a table or a result is missing or damaged, a file does not belong to this study, a network
            exceeds its budget, or the scores or statistics belong to another supernet.
    """
    study = config.study
    supernets = [paths.supernet(space, seed) for space in study.spaces for seed in study.seeds]
    results = [paths.exported_result(constraint) for constraint in study.constraints]
    exported = [
        paths.exported(constraint) / f"{constraint}{suffix}"
        for constraint in study.constraints
        for suffix in paths.FORMATS.values()
    ]
    remove_leftovers(supernets[0].parent, supernets)
    remove_leftovers(paths.MODELS / "exported", exported)
    remove_leftovers(results[0].parent, [*results, *(path.with_suffix(".npz") for path in results)])
    with new_folder(paths.released("").parent) as folder:
        _write_all(config, folder)


def _write_all(config: Config, folder: Path) -> None:
    study, title = config.study, corpus_title(config.corpus)
    classes = read_rows(data_paths.CLASSES, CLASSES)
    copy(data_paths.CLASSES, folder / data_paths.CLASSES.name)
    teacher = read_result(paths.evaluation(paths.teacher(study.seeds[0])), "valid_classes", "valid_clips")
    validated = measured_on(int(teacher["valid_classes"]), len(classes), int(teacher["valid_clips"]))
    files, latency = files_table(config), latency_caption(config)
    for row in released_networks(config):
        source, target = paths.exported(row.Budget), folder / paths.released(row.Budget).name
        rows = files[files.Budget == row.Budget]
        for name, digest in zip(rows["File"], rows["SHA-256"], strict=True):
            _copy(source / name, folder / name, digest)
        tested = read_result(paths.evaluation(Path(row.File)), "test_clips")
        about, tolerance = read_model(target)["about"], config.search.released_tolerance
        _write(
            target,
            network_card(sha256(target), row, about, tested, validated, title, rows, latency, tolerance),
        )
    write(files, folder, "files", f"Released files by format: {CAPTION}{latency}", latex=False)

    networks = read_csv(paths.TABLES / "networks.csv", ["space", "params"])
    networks = networks[networks.space == study.chosen_space]
    seed = max(study.seeds, key=lambda seed: networks[f"valid mAP {seed}"].mean())
    networks = networks.assign(**{"valid mAP": networks[f"valid mAP {seed}"]})
    target = folder / paths.released("supernet").name
    copy(paths.supernet(study.chosen_space, seed), target)
    _copy_scores(study.chosen_space, seed, digest := sha256(target), target)
    _write(target, supernet_card(digest, networks, validated, read_model(target)["about"], title))


def _copy(source: Path, target: Path, digest: str) -> None:
    """Copy an exported file. Raises UserError unless it is the evaluated one."""
    try:
        copy(source, target)
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; make it with `dvc repro`") from None
    if sha256(target) != digest:
        raise UserError(f"{source}: changed since its evaluation; delete it and run `dvc repro`")


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


def _write(target: Path, card: str) -> None:
    with atomic_write(target.with_suffix(".md")) as temporary:
        temporary.write_text(card, encoding="utf-8")
