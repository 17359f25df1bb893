"""Stages from lists to audio stores: sources, faults, later runs, and low coverage."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from loopback import Loopback, Reply

from audionas.cli import main
from audionas.data.ledger import DOWNLOAD, read_rows
from audionas.data.store import ClipStore
from audionas.systems.common import coverage, download, resample, segments
from audionas.systems.once_for_all.config import Config
from audionas.systems.registry import load_config

ROOT = Path(__file__).parents[2]
RATE, SECONDS = 8000, 10


def sound(seed: int) -> bytes:
    file = io.BytesIO()
    wave = np.random.default_rng(seed).normal(0, 0.1, RATE * SECONDS)
    soundfile.write(file, wave, RATE, format="FLAC")
    return file.getvalue()


def ytid(split: str, i: int) -> str:
    return f"--{split:_<6}{i:03d}"[:11]


@pytest.fixture
def server():
    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def project(tmp_path, monkeypatch, server):
    """Six clips per split: clip 0 in the local copy, all others on the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIONAS_WORKERS", "1")
    monkeypatch.setenv("no_proxy", "*")
    lists, audio = tmp_path / "lists", tmp_path / "audio"
    lists.mkdir()
    audio.mkdir()
    names = {"train": "balanced_train_segments.csv", "valid": "own.csv", "test": "eval_segments.csv"}
    (lists / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/1,Cat\n1,/m/2,Dog\n")
    for number, (split, name) in enumerate(names.items()):
        rows = [f'{ytid(split, i)}, 0.000, 10.000, "/m/{1 + i % 2}"' for i in range(6)]
        (lists / name).write_text(
            "# YTID, start_seconds, end_seconds, positive_labels\n" + "\n".join(rows) + "\n"
        )
        (audio / f"Y{ytid(split, 0)}.flac").write_bytes(sound(100 * number))
        for i in range(1, 6):
            server.serve(f"/{ytid(split, i)}.flac", Reply(sound(100 * number + i), "audio/flac"))
    write_params(server)
    segments.run(load_config())
    return tmp_path


def write_params(server, least_coverage=0.0, **changes) -> Config:
    params = yaml.safe_load((ROOT / "profiles/audioset.yaml").read_text())
    params["corpus"] |= {"lists": "lists", "audio": "audio", "valid_list": "own.csv", "only_classes": None}
    params["corpus"] |= {"sources": ["local", "youtube"], "least_coverage": least_coverage, **changes}
    params["corpus"]["youtube"] |= {"address": server.url("/{ytid}.flac"), "pause_seconds": 0.0}
    params["corpus"]["youtube"] |= {"socket_seconds": 2.0, "total_seconds": 10.0}
    params["corpus"]["download"] |= {"pause_seconds": 0.05, "longest_pause_seconds": 0.1, "attempts": 2}
    params["audio"]["sample_rate"], params["features"]["fmax"] = RATE, 4000.0
    params["network"]["num_classes"] = 2
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return load_config()


def ledger(split: str) -> list[dict]:
    return read_rows(f"data/raw/{split}/ledger.csv", DOWNLOAD)


def test_every_clip_comes_from_the_first_source_that_has_it_or_says_why_not(project, server, capsys):
    server.serve(f"/{ytid('train', 2)}.flac", Reply(status=404))
    server.serve(f"/{ytid('train', 3)}.flac", Reply(b"<html>sign in</html>" * 100, "text/html"))
    server.serve(
        f"/{ytid('train', 4)}.flac",
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(sound(4), "audio/flac"),
    )
    server.serve(f"/{ytid('train', 5)}.flac", Reply(sound(5), "audio/flac", cut=5000))
    config = load_config()
    download.run(config, "train")
    rows = ledger("train")
    assert [row["reason"] for row in rows] == ["", "", "removed", "decode", "", "network"]
    assert [row["source"].split(" (ffmpeg ")[0] for row in rows] == [
        "local",
        "youtube",
        "",
        "",
        "youtube",
        "",
    ]
    assert [row["rate"] for row in rows if row["status"] == "ok"] == [str(RATE)] * 3
    assert rows[2]["answers"] == "local:not there;youtube:removed"
    resample.run(config, "train")
    store = ClipStore("data/audio/train.h5")
    assert store.clip_ids == [rows[i]["clip_id"] for i in (0, 1, 4)]
    for row, seed in zip(store.data, (0, 1, 4), strict=True):
        wanted, _ = soundfile.read(io.BytesIO(sound(seed)), dtype="int16")
        assert np.abs(row.astype(int) - wanted).max() <= 2

    capsys.readouterr()
    coverage.run(config)
    report = capsys.readouterr().out
    assert "removed" in report and "not asked yet" in report


def test_another_day_asks_only_for_what_failed_in_passing_and_loses_nothing(project, server):
    config = load_config()
    failing = f"/{ytid('train', 5)}.flac"
    server.serve(failing, Reply(status=500))
    server.serve(f"/{ytid('train', 3)}.flac", Reply(status=410))
    download.run(config, "train")
    before = ledger("train")
    assert [row["reason"] for row in before] == ["", "", "", "removed", "", "network"]
    for i in (1, 2, 4):
        server.serve(f"/{ytid('train', i)}.flac", Reply(status=410))  # removed since the first run
    server.serve(failing, Reply(sound(5), "audio/flac"))
    server.seen.clear()
    config = write_params(server, download=config.corpus.download.model_dump() | {"round": 2})
    download.run(config, "train")
    assert set(server.paths()) == {failing}
    after = ledger("train")
    assert after[:5] == before[:5] and after[5]["status"] == "ok" and int(after[5]["attempts"]) >= 2


def test_a_run_that_is_stopped_goes_on_where_it_was_and_with_another_list(project, server):
    config = write_params(
        server, download=load_config().corpus.download.model_dump() | {"pauses": 1, "workers": 1}
    )
    server.serve(f"/{ytid('train', 4)}.flac", Reply(status=429))
    assert main(["download", "--split", "train"]) == 1
    assert not Path("data/raw/train").exists()
    server.serve(f"/{ytid('train', 4)}.flac", Reply(sound(4), "audio/flac"))
    server.seen.clear()
    path = Path("data/segments/train.csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[:0:-1]))  # another order of the clips is another list
    download.run(config, "train")
    assert all(row["status"] == "ok" for row in ledger("train"))
    assert not set(server.paths()) & {f"/{ytid('train', i)}.flac" for i in (1, 2, 3)}
    assert not Path(".state/download/train").exists()


def test_a_trial_of_a_few_clips_serves_the_real_run(project, server, capsys):
    assert main(["download", "--split", "valid", "--limit", "3"]) == 0
    assert capsys.readouterr().out.count("ok, from") == 3
    assert not Path("data/raw/valid").exists()
    asked = list(server.paths())
    assert main(["download", "--split", "valid"]) == 0
    assert not set(server.paths()[len(asked) :]) & set(asked)
    assert [row["status"] for row in ledger("valid")] == ["ok"] * 6


def test_too_little_coverage_stops_with_the_reasons_and_a_lower_one_goes_on(project, server, capsys):
    for i in (2, 3):
        server.serve(f"/{ytid('test', i)}.flac", Reply(status=404))
    write_params(server, least_coverage=0.8)
    assert main(["download", "--split", "test"]) == 0
    assert main(["resample", "--split", "test"]) == 1
    message = capsys.readouterr().err
    assert "test: 4 of 6 clips" in message and "2 removed" in message and "least_coverage" in message
    assert not Path("data/audio/test.h5").exists()
    write_params(server, least_coverage=0.6)
    assert main(["resample", "--split", "test"]) == 0
    assert len(ClipStore("data/audio/test.h5")) == 4


def test_the_report_of_all_splits_is_written(project, server):
    config = load_config()
    for split in ("train", "valid", "test"):
        download.run(config, split)
        resample.run(config, split)
    coverage.run(config, to_results=True)
    names = {path.name for path in Path("results/coverage").iterdir()}
    assert {"coverage.md", "coverage.csv", "coverage.png", "coverage.svg"} <= names
    summary = pd.read_csv("results/coverage/coverage.csv")
    assert summary.listed.tolist() == summary.got.tolist() == [6, 6, 6]
