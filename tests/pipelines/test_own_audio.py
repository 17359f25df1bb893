"""docs/own-audio.md works as written; clips without a label reach the scores."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import yaml

from audionas.cli import main
from audionas.data import paths as data_paths
from audionas.data.corpora.folder import Folder
from audionas.data.ledger import DOWNLOAD, RESAMPLE, SEGMENTS, read_rows
from audionas.data.store import ClipStore
from audionas.settings.corpora import FolderCorpus, SplitFractions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-audio.md").read_text(encoding="utf-8")


def tone(pitch: int, seconds: float = 2.0, seed: int = 0) -> bytes:
    time = np.arange(round(16_000 * seconds)) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * 150 * 1.3**pitch * time)
    file = io.BytesIO()
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    soundfile.write(file, wave + noise, 16_000, format="FLAC")
    return file.getvalue()


def merge(values: dict, other: dict) -> dict:
    return {**values, **{k: merge(values[k], v) if isinstance(v, dict) else v for k, v in other.items()}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIONAS_WORKERS", "1")
    (tmp_path / "audio").mkdir()
    return tmp_path


def run(*command: str) -> None:
    assert main([*command]) == 0, command


def write(num_classes: int, split: dict | None = None, **sections: dict) -> None:
    """params.yaml of a tiny experiment on list.csv."""
    corpus = {
        "name": "folder",
        "lists": "list.csv",
        "audio": "audio",
        "labels_column": "labels",
        "title": None,
        "split": split or {"train": 0.6, "valid": 0.2, "test": 0.2},
        "seed": 0,
        "least_coverage": 1.0,
    }
    network = tiny.PARAMS["network"] | {"num_classes": num_classes}
    values = tiny.PARAMS | {"corpus": corpus, "network": network, **sections}
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def test_the_example_works_as_it_is_pasted(project, capsys, caplog):
    example, lines = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1] for kind in ("", "yaml"))
    header = example.splitlines()[0]
    rows = []
    for i in range(12 * 6):
        name = f"kitchen/{i:04d}.flac"
        (project / "audio" / "kitchen").mkdir(exist_ok=True)
        (project / "audio" / name).write_bytes(tone(i % 12, 4.0 if i % 12 else 9.0, i))
        rows.append(
            f"{name},class {i % 12},tape{i // 2},,\n" if i % 5 else f"{name},class {i % 12},,0.5,3.5\n"
        )
    (project / "clips.csv").write_text(f"{header}\n" + "".join(rows))
    assert "cp profiles/own-audio.yaml params.yaml" in PAGE
    profile = yaml.safe_load((ROOT / "profiles" / "own-audio.yaml").read_text(encoding="utf-8"))
    told = yaml.safe_load(lines)
    (project / "params.yaml").write_text(
        yaml.safe_dump(merge(profile, told)).replace("/home/me", str(project)), encoding="utf-8"
    )
    assert sum(len(section) for section in told.values()) == 5
    run("check")
    run("segments")
    said = capsys.readouterr().out
    assert re.search(r"train: [45]\d clips of \d+ recordings", said) and "class 11" in said
    for split in ("train", "valid", "test"):
        run("download", "--split", split)
        run("resample", "--split", split)
    run("coverage", "--to-results")
    report = Path("results/coverage/coverage.md").read_text(encoding="utf-8")
    assert "recordings are longer than audio.clip_seconds" in report
    assert "recordings are longer than audio.clip_seconds" in caplog.text
    clips = [row for s in ("train", "valid", "test") for row in read_rows(data_paths.segments(s), SEGMENTS)]
    assert len(clips) == 72 and sum(row["start"] == "0.5" for row in clips) == 15


def test_the_list_is_read_as_the_page_says(project):
    example = re.search(r"```\n(.*?)```", PAGE, re.DOTALL)[1]
    (project / "audio" / "kitchen").mkdir()
    for name in ("0001", "0002"):
        wave = soundfile.read(io.BytesIO(tone(3, 50.0)))[0]
        soundfile.write(project / "audio" / "kitchen" / f"{name}.wav", wave, 16_000)
    (project / "clips.csv").write_text(example + "kitchen/0001.wav,speech,tape12,1,2\n")
    corpus = Folder(
        FolderCorpus(
            name="folder",
            lists="clips.csv",
            audio="audio",
            labels_column="labels",
            split=SplitFractions(train=0.6, valid=0.2, test=0.2),
        )
    )
    clips = [clip for clip, _ in corpus._clips()]
    assert [clip.labels for clip in clips] == [("kettle", "speech"), ("kettle",), (), ("speech",)]
    assert [clip.source for clip in clips] == ["tape12", "tape13", "tape13", "tape12"]
    assert len(soundfile.read(io.BytesIO(corpus.fetch(clips[1])))[0]) == 4 * 16_000
    assert corpus.fetch(clips[0]) == (project / "audio/kitchen/0001.wav").read_bytes()


def test_clips_without_a_label_are_trained_on_and_count_in_the_scores(project):
    rows = []
    for i in range(36):
        (project / "audio" / f"{i}.flac").write_bytes(tone(4 * (i % 3), 1.0, i))
        rows.append(f"{i}.flac,{('low', 'high', '')[i % 3]}\n")
    (project / "list.csv").write_text("file,labels\n" + "".join(rows))
    write(2, training=tiny.PARAMS["training"] | {"sampler": "balanced"})
    run("segments")
    for split in ("train", "valid", "test"):
        for stage in ("download", "resample", "logmel"):
            run(stage, "--split", split)
    for split, clips in (("train", 21), ("valid", 7), ("test", 8)):
        store = ClipStore(data_paths.logmel(split))
        none = np.asarray(store.labels).sum(axis=1) == 0
        assert abs(len(store) - clips) <= 1 and 2 <= none.sum() <= 8
    run("teacher", "--seed", "0")
    run("evaluate", "models/teacher/0.pt")
    with np.load("results/eval/teacher/0.npz") as found:
        assert (found["labels"].sum(axis=1) == 0).any() and len(found["labels"]) == len(store)
    run("coverage")
    assert {row["status"] for row in read_rows(data_paths.audio_ledger("test"), RESAMPLE)} == {"ok"}
    assert {row["status"] for row in read_rows(data_paths.raw("test") / "ledger.csv", DOWNLOAD)} == {"ok"}


# -- what `segments` says


FOLDS = {"train": [1, 2], "valid": [3], "test": [4]}


def listed(rows: list[str], head: str = "file,labels,fold") -> None:
    Path("list.csv").write_text(head + "\n" + "".join(f"{i}.flac,{row}\n" for i, row in enumerate(rows)))


def test_clips_and_recordings_of_every_class_and_split_are_said(project, capsys, caplog):
    listed(["a,1", "b,2", ",1", "a,3", "b,3", "a,4", '"a,b",4'] + ["a,1"] * 4 + ["b,2"] * 4)
    write(2, FOLDS)
    run("segments")
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "train: 11 clips of 11 recordings, 1 without a label",
        "valid: 2 clips of 2 recordings",
        "test: 2 clips of 2 recordings",
        "clips/recordings of each class:",
        "a train 5/5 valid 1/1 test 2/2",
        "b train 5/5 valid 1/1 test 1/1",
    ]
    assert "valid: fewer than 5 recordings of a (1, 1 clips), b (1, 1 clips)" in caplog.text
    assert "train: fewer" not in caplog.text
    (warning,) = data_paths.WARNINGS.read_text().splitlines()
    assert "clips without a label: 1 (line 4)" in warning
    listed(["a,1", "b,2", "a,3", "b,3", "a,4", '"a,b",4'])
    run("segments")
    assert not data_paths.WARNINGS.exists()  # nothing is left of another list


def test_a_class_that_is_absent_from_a_split_is_named(project, caplog):
    listed(["a,1", "b,1", "c,2", "a,3", "b,3", "a,4", "c,4"])
    write(3, FOLDS)
    run("segments")
    assert "valid: no clip of c; " in caplog.text and "test: no clip of b; " in caplog.text


@pytest.mark.parametrize(
    ("rows", "classes", "words"),
    [
        (["a,1", "b,2", "a,3", "b,3", "a,4"], 3, "has 2 (a, b); set network.num_classes to 2"),
        (["a,1", "a,2", "b,3", "a,4"], 2, "list.csv: no training clip for b; add a fold with them"),
        (["a,1", "a,2", "a,3", "a,4"], 1, "every training clip has every class (a)"),
    ],
)
def test_lists_that_cannot_be_learned_from_are_refused(project, capsys, rows, classes, words):
    listed(rows)
    write(classes, FOLDS)
    assert main(["segments"]) == 1
    assert words in capsys.readouterr().err
    assert not Path("data/segments").exists()


def test_one_class_and_clips_without_it_can_be_told_apart(project):
    listed(["a,1", ",2", "a,3", ",3", "a,4", ",4"])
    write(1, FOLDS)
    run("segments")
