"""Full or read-only disks: each command reports the file and the fix, and keeps existing files."""

import errno
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import limits
import numpy as np
import pytest
import soundfile
import tiny
import yaml

from audionas import cli
from audionas.deploy.devices.table import write_measurements
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import atomic_write
from audionas.systems.once_for_all.commands import STAGES
from audionas.training.checkpoint import Checkpoint

#: The commands of all stages, in the order of the DAG.
TYPED = {
    "segments": "segments",
    "download": "download --split train",
    "resample": "resample --split train",
    "coverage": "coverage --to-results",
    "logmel": "logmel --split train",
    "teacher": "teacher --seed 0",
    "supernet": "supernet --space 2-2-x --seed 0",
    "score": "score --space 2-2-x --seed 0",
    "search": "search --space 2-2-x --constraint 5k --seed 0",
    "finetune": "finetune --space 2-2-x --constraint 5k --iterations 3 --seed 0",
    "individual": "individual --recipe kd --size 0.6x1 --seed 0",
    "init": "init --space 2-2-x --constraint 5k --seed 0",
    "ranked": "ranked --space 2-2-x --index 0 --seed 0",
    "evaluate": "evaluate models/teacher/0.pt",
    "tables": "tables",
    "export-budget": "export-budget --constraint 5k",
    "evaluate-exported": "evaluate-exported --constraint 5k",
    "release": "release",
    "report": "report",
    "listen": "listen",
}


def run_all() -> None:
    """Run each stage of the study once."""
    done = [text.split() for text in TYPED.values()]
    for split in ("valid", "test"):
        for stage in ("download", "resample", "logmel"):
            done.insert(4, [stage, "--split", split])
    done = sorted(done, key=lambda typed: list(TYPED).index(typed[0]))
    at = next(i for i, typed in enumerate(done) if typed[0] == "evaluate")
    baseline = ["individual", "--recipe", "baseline", "--size", "0.6x1", "--seed", "0"]
    models = ("individual/baseline-0.6x1-0", "individual/kd-0.6x1-0", "found/2-2-x-5k-0", "within/2-2-x-5k-0")
    models += ("finetuned/5k-3-0", "init/5k-0")
    done[at:at] = [baseline, *(["evaluate", f"models/{model}.pt"] for model in models)]
    for typed in done:
        assert cli.main(typed) == 0, typed


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A completed study of noise recordings."""
    folder, chance = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    rows = ["file,positive_labels,fold"]
    (folder / "audio").mkdir()
    for i in range(36):
        soundfile.write(folder / "audio" / f"{i}.wav", chance.normal(0, 0.1, 32_000), 32_000)
        rows.append(f"{i}.wav,{tiny.CLASSES[i % 4]},{1 + i // 12}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    corpus = {"name": "folder", "lists": "list.csv", "audio": "audio", "least_coverage": 0.0, "seed": 0}
    corpus |= {"labels_column": "positive_labels", "title": None}
    corpus["split"] = {"train": [1], "valid": [2], "test": [3]}
    small = {"spaces": ["2-2-x"], "constraints": ["5k"], "sizes": ["0.6x1"], "finetune_iterations": [3]}
    values = tiny.PARAMS | {"corpus": corpus, "study": tiny.PARAMS["study"] | small | {"ranked": [0]}}
    values["training"] = values["training"] | {"checkpoint_seconds": 60.0}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    write_measurements(folder / "devices.csv", [])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("AUDIONAS_WORKERS", "1")
        run_all()
        yield folder


def outputs(folder: Path) -> dict[Path, bytes]:
    """Return all files of the study except state and curves, which a training rewrites."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != ".state" and "curves" not in path.parts
    }


def test_every_stage_is_tried() -> None:
    assert set(TYPED) == set(STAGES)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 300])
@pytest.mark.parametrize("stage", TYPED)
def test_a_full_disk_is_told_with_file_and_remedy_and_costs_nothing(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, stage: str, size: int
) -> None:
    monkeypatch.chdir(study)
    monkeypatch.setenv("AUDIONAS_WORKERS", "1")
    before = outputs(study)
    with limits.largest_file(size):
        code = cli.main(TYPED[stage].split())
    said = capsys.readouterr().err
    assert code == 1, said
    told = said.splitlines()[-1]
    assert re.search(rf"audionas {stage}: \S+: .*File too large", told), said
    assert re.search(r"raise the limit on the size of a file|make room", told), said
    assert "Traceback" not in said
    assert outputs(study) == before
    assert not [path for path in study.rglob(".*.tmp") if ".state" not in path.parts]


@pytest.mark.slow
def test_all_goes_on_when_there_is_room_again(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    monkeypatch.setenv("AUDIONAS_WORKERS", "1")
    before = outputs(study)
    with limits.largest_file(300):
        assert cli.main(TYPED["teacher"].split()) == 1
        assert cli.main(TYPED["resample"].split()) == 1
    for stage in ("resample", "teacher"):
        assert cli.main(TYPED[stage].split()) == 0
    after = outputs(study)
    changed = {path.name for path in after if after[path] != before[path]}
    assert changed <= {"0.txt"}  # the duration


@pytest.mark.parametrize(
    "number, remedy",
    [
        (errno.ENOSPC, "make room on its disk"),
        (errno.EDQUOT, "ask for a larger quota"),
        (errno.EROFS, "mount it for writing"),
        (errno.EACCES, "have its owner give you the right"),
        (errno.EIO, "its disk fails"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ECONNRESET, "check the network"),
        (errno.EXDEV, "remove the cause"),
    ],
)
@pytest.mark.parametrize("stage", ["segments", "tables"])
def test_what_the_system_refuses_is_told_in_words(
    tmp_path: Path, monkeypatch, capsys, number: int, remedy: str, stage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    for error in (OSError(number, "?"), OSError(number, "?", "results/.x.csv.a1b2.tmp")):

        def refused(*_, error: OSError = error, **__) -> None:
            with atomic_write("results/x.csv"):
                raise error

        monkeypatch.setattr(f"audionas.systems.{STAGES[stage].module}.run", refused)
        assert cli.main([stage]) == 1
        (told,) = capsys.readouterr().err.splitlines()
        start = f"audionas {stage}: results/x.csv: {os.strerror(number)}; "
        assert told.startswith(start) and remedy in told
        assert not list(Path("results").iterdir())


def raised(error: BaseException) -> Callable:
    def stage(*_, **__) -> None:
        raise error

    return stage


def test_other_refusals_have_words_too(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    for error, said in (
        (sqlite3.OperationalError("database or disk is full"), "database or disk is full; free space"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "Broken pipe; check the network"),
        (OSError("no number\nand more lines"), "no number; remove the cause"),
        (TimeoutError(), "TimeoutError; check the network"),
    ):
        monkeypatch.setattr("audionas.systems.once_for_all.stages.tables.run", raised(error))
        assert cli.main(["tables"]) == 1
        (told,) = capsys.readouterr().err.splitlines()
        assert said in told
    monkeypatch.setenv("AUDIONAS_DEBUG", "1")
    monkeypatch.setattr("audionas.systems.once_for_all.stages.tables.run", raised(OSError(errno.EIO, "?")))
    with pytest.raises(UserError, match="its disk fails"):
        cli.main(["tables"])


def test_bytes_and_temporary_names_are_told_as_what_they_were_to_become() -> None:
    error = OSError(errno.EACCES, "?", b"data/.x.h5.tmp1.tmp")
    assert str(os_error(error)).startswith("data/x.h5: Permission")
    error = OSError(errno.ENOSPC, "?", "data/classes.csv", None, "models/.classes.csv.tmp1.tmp")
    assert str(os_error(error)).startswith("models/classes.csv: No space left")


def audionas(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "audionas", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_to_a_full_disk_is_told_in_words(unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = audionas("completion", "bash", stdout=full, env=environment)
    told = "audionas completion: standard output: No space left on device; make room on its disk"
    assert done.returncode == 1 and done.stderr.startswith(told) and done.stderr.count("\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_to_its_end_is_no_error(unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        done = audionas("completion", "bash", stdout=gone, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint("run", "key", folder=tmp_path)
    checkpoint.save({"iteration": 1})
    with limits.largest_file(100), pytest.raises(UserError, match=r"run-key\.pt: the checkpoint could not"):
        checkpoint.save({"iteration": 2})
    assert checkpoint.load() == {"iteration": 1}
    assert not list(tmp_path.glob(".*.tmp"))
