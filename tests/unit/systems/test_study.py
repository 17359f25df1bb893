"""`audionas check` reports errors before a run that would otherwise appear after hours."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from dag import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.audio import LogMel
from audionas.cli import main
from audionas.runtime.errors import UserError
from audionas.settings.audio import Features
from audionas.systems.common.checks import notes
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.study import check
from audionas.systems.registry import load_config


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """A project's folder."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


def folder(lists: str, audio: str, **changes: dict) -> Config:
    split = {"train": 0.6, "valid": 0.2, "test": 0.2}
    corpus = {"name": "folder", "lists": lists, "audio": audio, "split": split}
    return Config.model_validate({**tiny.PARAMS, "corpus": corpus, **changes})


def written(**changes: dict) -> Path:
    values = {name: {**section, **changes.get(name, {})} for name, section in tiny.PARAMS.items()}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return Path("params.yaml")


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    n_fft=st.integers(6, 4_096),
    mels=st.integers(16, 128),
    rate=st.sampled_from([8_000, 16_000, 22_050, 32_000, 44_100, 48_000]),
    fmin=st.floats(0, 2_000),
    width=st.floats(100, 2_000),
)
def test_empty_filters_are_those_of_the_front_end(n_fft, mels, rate, fmin, width):
    fmax = min(rate / 2, fmin + width)
    features = Features(n_fft=n_fft, mels=mels, fmin=fmin, fmax=fmax)
    found = features.empty_filters(rate)
    if found:
        with pytest.raises(UserError, match=f"features: {found} of {mels} mel filters"):
            LogMel(rate, n_fft, 320, mels, fmin, fmax)
    else:
        assert LogMel(rate, n_fft, 320, mels, fmin, fmax).filters.shape == (n_fft // 2 + 1, mels)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    n_fft=st.sampled_from([64, 256, 512, 2_048]),
    mels=st.integers(16, 128),
    fmin=st.floats(0, 2_000),
    width=st.floats(100, 6_000),
)
def test_empty_filters_of_ced_are_those_of_the_front_end(n_fft, mels, fmin, width):
    options = {"n_fft": n_fft, "hop": 32, "mels": mels, "fmin": fmin, "fmax": fmin + width}
    found = Features(**options, front_end="ced").empty_filters(16_000)
    if found:
        with pytest.raises(UserError, match=f"features: {found} of {mels} mel filters"):
            LogMel(16_000, **options, front_end="ced")
    else:
        assert LogMel(16_000, **options, front_end="ced").filters.shape == (n_fft // 2 + 1, mels)


def test_settings_of_panns_are_the_same_with_and_without_the_key():
    assert "front_end" not in Features().model_dump()
    assert Features(**Features().model_dump()).model_fields_set >= {"front_end"}
    assert Features(front_end="ced").model_dump()["front_end"] == "ced"


@pytest.mark.parametrize("wrong", [{"n_fft": 1000}, {"hop": 600, "n_fft": 512}])
def test_a_transform_that_ced_cannot_use_is_refused(wrong, capsys):
    written(features={"front_end": "ced", **wrong})
    assert main(["check"]) == 1
    assert "features.front_end ced needs" in capsys.readouterr().err


def test_empty_filters_are_refused_by_check(capsys):
    written(features={"n_fft": 256, "mels": 64})
    assert main(["check"]) == 1
    assert "features.mels: " in (said := capsys.readouterr().err) and "raise features.n_fft" in said


@pytest.mark.parametrize(
    "given, own",
    [
        *(
            ("data/mine", "data"),
            ("data", "data"),
            ("data/raw/train", "data"),
            ("./models/../data/x", "data"),
        ),
        *((".", "data"), ("..", "data"), ("/", "data"), ("results/x", "results"), ("logs", "logs")),
        *(
            (".dvc/x", ".dvc"),
            (".git", ".git"),
            (".state", ".state"),
            ("link", "data"),
            ("data/away", "data"),
        ),
    ],
)
def test_a_corpus_that_overlaps_what_stages_write_is_refused(given, own, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Path("data/mine").mkdir(parents=True)
    Path("link").symlink_to("data/mine")
    Path("data/away").symlink_to(tmp_path / "elsewhere")
    for key, config in (("lists", folder(given, "sounds")), ("audio", folder("clips.csv", given))):
        with pytest.raises(UserError, match=rf"params\.yaml: corpus\.{key}: .* overlaps {own}/.*recordings/"):
            check(config)


def test_a_corpus_elsewhere_is_taken(tmp_path):
    for place in ("recordings", "../recordings", str(tmp_path / "recordings"), "datasets", "my/data"):
        check(folder(f"{place}/clips.csv", place))


@pytest.mark.parametrize(
    "section, values, message",
    [
        ("study", {"seeds": [2**32]}, r"study\.seeds\.0: .*less than 4294967296"),
        ("corpus", {"seed": 2**64}, r"corpus\.seed: .*less than 4294967296"),
        ("network", {"num_classes": 10**12}, r"network\.num_classes"),
        ("network", {"base_channels": 10**9}, r"network\.base_channels"),
        ("audio", {"sample_rate": 10**12}, r"audio\.sample_rate"),
        ("audio", {"clip_seconds": 1e300}, r"audio\.clip_seconds"),
        ("audio", {"clip_seconds": 9e6}, r"288,000,000,000 samples .* too large"),
        ("features", {"hop": 1, "mels": 4_096}, r" 4,096 mels is too large"),
        ("features", {"n_fft": 2**40}, r"features\.n_fft"),
        ("training", {"batch_size": 10**9}, r"training\.batch_size"),
        ("training", {"threads": 10**9}, r"training\.threads"),
        ("training", {"checkpoint_seconds": 1e300}, r"training\.checkpoint_seconds"),
        ("teacher", {"iterations": 10**18}, r"teacher\.iterations"),
        ("calibration", {"batches": 10**12}, r"calibration\.batches"),
        ("search", {"population": 10**12}, r"search\.population"),
        ("search", {"tolerance": [1]}, r"search\.tolerance: .*string"),
        ("study", {"draws": 10**9}, r"study\.draws"),
        ("study", {"seeds": list(range(1_001))}, r"study\.seeds: .*at most 1000"),
        (
            "study",
            {"seeds": list(range(1_000)), "ranked": list(range(99))},
            r"models, more than the limit of 20,000",
        ),
        ("study", {"constraints": ["٢٦k"]}, r"study\.constraints\.0: .* is not a budget"),
        ("study", {"constraints": ["26k\n"]}, r"study\.constraints\.0: .* is not a budget"),
        ("study", {"constraints": [True]}, r"study\.constraints\.0: .*string"),
        ("study", {"sizes": ["0.٦x1"]}, r"study\.sizes\.0: .* is not a uniform network"),
        ("corpus", {"lists": "s3://bucket/clips.csv"}, r"corpus\.lists: an address"),
        ("corpus", {"lists": ""}, r"corpus\.lists: empty"),
        ("corpus", {"audio": "a\nb"}, r"corpus\.audio: .*control characters"),
    ],
)
def test_values_out_of_range_are_refused(section, values, message):
    with pytest.raises(UserError, match=message):
        load_config(written(**{section: values}))


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("youtube", {"address": "https://host/{ytid.__class__}"}, r"corpus\.youtube\.address: .*ytid"),
        ("youtube", {"address": "https://host/"}, r"corpus\.youtube\.address"),
        ("hub", {"endpoint": "file:///etc/passwd"}, r"corpus\.hub\.endpoint: .*https://host/path"),
        ("download", {"workers": 10**6}, r"corpus\.download\.workers"),
        ("youtube", {"client": {"youtube": {"a": ["b\x1b"]}}}, r"corpus\.youtube\.client"),
    ],
)
def test_the_sources_settings_are_checked_too(key, value, message):
    whole = yaml.safe_load((ROOT / "profiles/audioset.yaml").read_text())
    whole["corpus"][key] |= value
    Path("params.yaml").write_text(yaml.safe_dump(whole))
    with pytest.raises(UserError, match=message):
        load_config()


@pytest.mark.parametrize(
    "split, message",
    [
        ({"train": [1, 2], "valid": [2], "test": [3]}, r"corpus\.split: an entry appears twice"),
        ({"train": 0.5, "valid": 0.2, "test": 0.2}, r"corpus\.split: the fractions add up to 0\.9"),
        ({"train": [1], "valid": 2.0, "test": [3]}, r"corpus\.split\.valid: .*less than 1"),
        ({"train": [1], "valid": [2]}, r"corpus\.split\.test: missing"),
        (5, r"corpus\.split: .*dictionary"),
    ],
)
def test_one_form_of_a_split_is_judged_and_its_keys_are_named(split, message):
    values = {**tiny.PARAMS, "corpus": {"name": "folder", "lists": "l", "audio": "a", "split": split}}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=message) as caught:
        load_config()
    assert str(caught.value).count("\n  ") == 1  # no line has another form


def test_absent_files_are_a_note_for_stages_may_run_elsewhere(capsys, tmp_path):
    written(training={"device": "cuda"})
    assert main(["check"]) == 0
    assert "note: params.yaml: corpus.lists: -: no such file" in capsys.readouterr().err


def test_check_by_itself_checks_the_parameters_of_every_pipeline(capsys):
    """Each pipeline is checked in its own folder, to which its paths are relative."""
    folder = Path("pipelines/extra")
    folder.mkdir(parents=True)
    written()
    Path("params.yaml").rename(folder / "params.yaml")
    written()
    (folder / "dvc.yaml").write_text("stages:\n  teacher:\n    cmd: audionas teacher --seed 0\n")
    (folder / "-").touch()
    other = Path("pipelines/other")  # of another program, with parameters of its own
    other.mkdir()
    (other / "dvc.yaml").write_text("stages:\n  step:\n    cmd: python step.py\n")
    (other / "params.yaml").write_text("sign: +\n")
    assert main(["check"]) == 0
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.out.splitlines()] == [
        "params.yaml",
        f"{folder}/params.yaml",
    ]
    assert said.err.count("corpus.lists: -: no such file") == 1  # only for the first list
    (folder / "params.yaml").write_text("corpus: {}\n")
    assert main(["check", "params.yaml"]) == 0
    assert main(["check"]) == 1
    assert f"{folder}/params.yaml: " in capsys.readouterr().err


def test_a_path_that_an_experiments_copy_of_the_project_lacks_is_noted(tmp_path):
    subprocess.run(["git", "init", "-q"], check=True)
    Path(".gitignore").write_text("/corpora/\n")
    for place in ("corpora", "recordings", "untracked", "../away"):
        Path(place).mkdir()
        Path(place, "list.csv").touch()
        if place == "recordings":
            subprocess.run(["git", "add", place], check=True)
        told = list(notes(folder(f"{place}/list.csv", str(tmp_path))))
        if place == "recordings":
            assert not told
        else:
            path = Path(place, "list.csv").resolve()
            assert len(told) == 1 and "--temp or --queue" in told[0] and str(path) in told[0]


def test_seeds_at_the_ends_of_their_range_are_taken():
    import torch

    for seed in (0, 2**32 - 1):
        assert load_config(written(study={"seeds": [seed]})).study.seeds == [seed]
        torch.manual_seed(seed)
        np.random.RandomState(seed)


def test_a_path_that_no_file_system_takes_is_noted(capsys):
    long = "[" * 4_000
    written(corpus={"lists": long, "audio": long})
    assert main(["check"]) == 0
    assert capsys.readouterr().err.count("File name too long; fix the path") == 2
