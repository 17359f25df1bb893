"""Damaged results and scores: each reader reports the file and the fix, without a traceback."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import made
import numpy as np
import pytest

from audionas.runtime.errors import UserError
from audionas.supernet.scores import read_scores
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.networks import Scores, ranked
from audionas.systems.once_for_all.page import page
from audionas.systems.once_for_all.results import collect, compare
from audionas.systems.once_for_all.stages import tables

MODEL = paths.teacher(0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("study"))
        yield made.make(Path())


def evaluations(config: Config) -> None:
    compare(collect(config.study).iloc[:1], 3)


def scores(config: Config) -> None:
    read_scores(paths.scores("2-2-x", 0), space_of(config, "2-2-x"))


def rankings(config: Config) -> None:
    ranked(Scores(config))


#: A file and its reader.
READ: dict[str, tuple[Path, Callable[[Config], None]]] = {
    "evaluation": (paths.evaluation(MODEL), evaluations),
    "predictions": (paths.predictions(MODEL), evaluations),
    "scores": (paths.scores("2-2-x", 0), scores),
    "ranking": (paths.ranking(0, 0), rankings),
}
TOKENS = [b"", b"nan", b"NaN", b"-1", b"1e999", b"9" * 400, b"null", b"true"]
TOKENS += [b"[", b'"', b",", b"\n", b"\0", b"\xff"]


def mutated(content: bytes, chance: np.random.Generator) -> bytes:
    """Truncate, flip, insert or delete bytes, or replace a number by a word."""
    at = int(chance.integers(len(content)))
    length = int(chance.integers(1, 40))
    token = TOKENS[chance.integers(len(TOKENS))]
    match chance.integers(6):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + bytes([content[at] ^ 1 << chance.integers(8)]) + content[at + 1 :]
        case 2:
            return content[:at] + chance.bytes(length) + content[at:]
        case 3:
            return content[:at] + content[at + length :]
        case 4:
            return content[:at] + token + content[at + length :]
        case _:
            words = content.split(b",")
            words[chance.integers(len(words))] = token
            return b",".join(words)


def tried(config: Config, path: Path, content: bytes, read: Callable[[Config], None]) -> str:
    """Return the error message for a changed file, or "" if it is accepted. Other errors are failures."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        read(config)
    except UserError as error:
        return str(error)
    finally:
        path.write_bytes(before)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", READ)
def test_whatever_is_damaged_is_named_or_of_no_weight(study: Config, kind: str) -> None:
    path, read = READ[kind]
    read(study)
    chance, refused = np.random.default_rng(0), 0
    whole = path.read_bytes()
    for _ in range(120):
        said = tried(study, path, mutated(whole, chance), read)
        assert not said or path.as_posix() in said
        refused += bool(said)
    assert refused > 60


@pytest.mark.slow
def test_a_damaged_table_of_the_page_is_named(study: Config) -> None:
    tables.run(study)
    chance = np.random.default_rng(1)
    release = paths.released("").parent
    found = sorted(path for folder in (paths.TABLES, release) for path in folder.glob("*.[cm]*"))

    def drawn(config: Config) -> None:
        page(paths.TABLES, release, "made", config.study, config.search)

    cut = [(paths.TABLES / "classes.csv", "high OFA - KD"), (paths.TABLES / "ship.csv", "mean over seeds")]
    changes = [(path, path.read_bytes().replace(name.encode(), b"other")) for path, name in cut]
    for _ in range(40):
        path = found[chance.integers(len(found))]
        changes.append((path, mutated(path.read_bytes(), chance)))
    for number, (path, content) in enumerate(changes):
        said = tried(study, path, content, drawn)
        assert path.parent.as_posix() in said if said else number >= len(cut)


@pytest.mark.parametrize(
    "name, value",
    [
        *(("mAP", value) for value in (None, "x", True, [], 2, -0.1, float("inf"), 10**400)),
        *(("seed", value) for value in ("0", -1, 0.5, [0], 1 << 70)),
        *(("params", value) for value in ("many", {}, -5, True)),
        *(("ratios", value) for value in (1, "x", [[1]], ["x"])),
        *(("space", value) for value in (1, ["2-2-x"])),
        *(("AP", value) for value in ([], {"a": 7}, {"a": "x"})),
        *(("model", value) for value in (None, "models/found/2-2-x-5k-0.pt", "/etc/passwd", "../x.pt", 5)),
    ],
)
def test_a_field_of_another_kind_is_named(study: Config, name: str, value: object) -> None:
    path = paths.evaluation(MODEL)
    result = json.loads(path.read_bytes()) | {name: value}
    said = tried(study, path, json.dumps(result).encode(), evaluations)
    assert said.startswith(f"{path}: damaged ({name}: ") and said.endswith("; delete it and run `dvc repro`")


@pytest.mark.parametrize(
    "text", ["", "[]", "5", "null", "[" * 100_000, '{"mAP": ' * 50_000, "{}", "\ufeff{}"]
)
def test_a_result_that_is_no_object_is_named(study: Config, text: str) -> None:
    path = paths.evaluation(MODEL)
    assert tried(study, path, text.encode(), evaluations).startswith(f"{path}: damaged (")


@pytest.mark.parametrize(
    "name, change",
    [
        ("probabilities", lambda values: values.astype(np.float64)),
        ("probabilities", lambda values: values * np.nan),
        ("probabilities", lambda values: values + 1),
        ("probabilities", lambda values: values[:-1]),
        ("labels", lambda values: values + 2),
        ("labels", lambda values: values.astype(bool)),
        ("labels", lambda values: values[0]),
        ("clips", lambda values: values[:-1]),
        ("sources", lambda values: np.arange(len(values))),
    ],
)
def test_predictions_of_another_kind_are_refused(study: Config, name: str, change: Callable) -> None:
    path, buffer = paths.predictions(MODEL), io.BytesIO()
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(buffer, **{**arrays, name: change(arrays[name])})
    assert tried(study, path, buffer.getvalue(), evaluations).startswith(f"{path}: damaged (")


def test_predictions_that_unpack_to_much_are_refused_before(study: Config) -> None:
    path, buffer = paths.predictions(MODEL), io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name) + bytes(10 << 20))
    said = tried(study, path, buffer.getvalue(), evaluations)
    assert "the content is larger than the file" in said


@pytest.mark.parametrize("name", ["evaluation", "predictions", "scores", "ranking"])
def test_a_file_that_is_not_there_is_told_with_what_makes_it(study: Config, name: str) -> None:
    path, read = READ[name]
    path.rename(path.with_suffix(".away"))
    try:
        with pytest.raises(UserError, match=rf"^{path}: no such file; make it with `dvc repro`$"):
            read(study)
        path.mkdir()
        with pytest.raises(UserError, match=rf"^{path}: Is a directory; fix the path"):
            read(study)
        path.rmdir()
    finally:
        path.with_suffix(".away").rename(path)
