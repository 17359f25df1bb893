"""Classifying: from paths, files and samples alike; what fails is told and the rest is done."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audionas.cli import main
from audionas.inference import Classifier
from audionas.models.cnn10 import Cnn10
from audionas.models.files import save_model
from audionas.runtime.errors import UserError
from audionas.settings.audio import Audio, Features

RATE = 16_000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
HEARD = {"bandwidth": [1000.0, 2000.0, 4000.0], "level": [-60.0, -50.0, -40.0]}
SUBTYPES = {"int16": "PCM_16", "int32": "PCM_32", "float32": "FLOAT"}
CLASSES = ["dog", "\x1b[31mcat", "007", "rain"]


def write(folder, **more):
    audio = Audio(sample_rate=RATE, clip_seconds=1.0).model_dump()
    features = Features(mels=16, fmax=8000.0).model_dump()
    about = {"settings": {"audio": audio, "features": features}, "classes": CLASSES, **more}
    torch.manual_seed(0)
    save_model(folder / "model.pt", Cnn10(4, 4, mels=16), about)
    return folder / "model.pt"


@pytest.fixture
def model(tmp_path):
    """A model file of four classes."""
    return write(tmp_path)


@pytest.fixture
def recordings(tmp_path):
    """A good file, and one of each kind that can't be used."""
    files = {"good.wav": NOISE, "anti.wav": np.stack([NOISE, -NOISE], 1), "long.wav": np.tile(NOISE, 3)}
    files["late.wav"] = np.concatenate([0 * NOISE, 0 * NOISE, NOISE])
    for name, samples in files.items():
        soundfile.write(tmp_path / name, samples, RATE)
    (tmp_path / "page.wav").write_text("<html></html>" * 99)
    os.mkfifo(tmp_path / "pipe.wav")
    return tmp_path


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "subtype"), [("int16", "PCM_16"), ("int32", "PCM_32"), ("float32", "FLOAT")]
)
def test_samples_give_what_a_wav_file_of_them_gives(model, tmp_path, rate, channels, kind, subtype):
    samples = np.random.default_rng(rate + channels).uniform(-0.9, 0.9, (rate * 2, channels))
    if kind.startswith("int"):
        samples = np.round(samples * np.iinfo(kind).max)
    samples = samples.astype(kind)
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype=SUBTYPES[kind])
    classify = Classifier(model)
    expected = classify(tmp_path / "a.wav")
    assert np.array_equal(classify(samples, rate=rate), expected)
    if channels == 1:
        assert np.array_equal(classify(samples[:, 0], rate=rate), expected)
    assert np.array_equal(classify(io.BytesIO((tmp_path / "a.wav").read_bytes())), expected)
    with (tmp_path / "a.wav").open("rb") as file:
        assert np.array_equal(classify(file), expected)


def test_bytes_of_eight_bits_and_floats_of_64(model, tmp_path):
    samples = np.random.default_rng(0).integers(0, 256, RATE).astype(np.uint8)
    wave = ((samples.astype(np.int16) - 128) * 256).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="PCM_U8")
    classify = Classifier(model)
    assert np.array_equal(classify(samples, rate=RATE), classify(tmp_path / "a.wav"))
    assert np.array_equal(classify(NOISE.astype(np.float64), rate=RATE), classify(NOISE, rate=RATE))


@pytest.mark.parametrize(
    ("samples", "rate", "said"),
    [
        (NOISE, None, "samples have no rate"),
        (NOISE, 0, "a rate of 0 Hz"),
        (NOISE, -16_000, "a rate of -16000 Hz"),
        (NOISE, 500, "sample rate below 1 kHz"),
        (NOISE * 32_767, RATE, "full scale is 1"),
        (NOISE.astype(np.int64), RATE, "of type int64"),
        (NOISE.astype(complex), RATE, "of type complex128"),
        (np.array(["a"]), RATE, "of type <U1"),
        (NOISE.reshape(1, -1), RATE, r"shape \(1, 16000\); give \[n\] or \[n, channels\]"),
        (NOISE.reshape(1, 2, -1), RATE, "give"),
        (np.float32(1), RATE, r"shape \(\)"),
        (NOISE[:0], RATE, "no samples"),
        (NOISE[:20], RATE, "too short"),
        (np.where(np.arange(RATE) == 7, np.nan, NOISE), RATE, "non-finite"),
        (np.where(np.arange(RATE) == 7, np.inf, NOISE), RATE, "full scale|non-finite"),
        (0 * NOISE, RATE, "silent"),
        (np.stack([NOISE, -NOISE], 1), RATE, "channels cancel; the channels are in antiphase"),
        (io.StringIO("text"), None, "open it in binary mode"),
        ("model.pt", 5, "a file states its own rate"),
    ],
)
def test_what_can_not_be_used_is_refused_with_the_fix(model, samples, rate, said):
    with pytest.raises(UserError, match=said):
        Classifier(model)(samples, rate)


def test_a_bad_file_is_reported_and_the_others_are_classified(model, recordings, capsys):
    names = ["page.wav", "good.wav", "anti.wav", "pipe.wav", "late.wav", "none\x1b[2J.wav", "long.wav"]
    assert main(["classify", str(model), *(str(recordings / name) for name in names), "--top", "1"]) == 1
    out, err = capsys.readouterr()
    assert [line.split("/")[-1] for line in out.splitlines() if not line.startswith("  ")] == [
        "good.wav",
        "long.wav (first 1 s of 3.0 s)",
    ]
    for name, reason in {
        "page.wav": "not audio; give WAV, FLAC",
        "anti.wav": "channels cancel",
        "pipe.wav": "not a regular file (a pipe)",
        "late.wav": "silent in its first 1 s; cut it",
        "none\\x1b[2J.wav": "no such file",
    }.items():
        assert f"{name}: {reason}" in err
    assert "5 of 7 recordings not classified" in err
    assert "\x1b" not in out + err


def test_all_good_is_no_failure_and_names_are_text(model, recordings, capsys):
    assert main(["classify", str(model), str(recordings / "good.wav")]) == 0
    out, err = capsys.readouterr()
    assert err == "" and len(out.splitlines()) == 5
    assert "\\x1b[31mcat" in out and "\x1b" not in out


@pytest.mark.parametrize("more", [[], ["b.wav", "c.wav", "d.wav"]])
def test_a_recording_in_the_place_of_the_model_is_told(recordings, more, capsys):
    good = str(recordings / "good.wav")
    assert main(["classify", good, good, *more]) == 1
    err = capsys.readouterr().err
    assert "a recording, not a model file" in err and "models/release/26k.pt" in err
    assert "delete" not in err and Path(good).exists()


def test_what_differs_from_the_training_clips_is_warned_of(tmp_path, recordings, capsys):
    model = write(tmp_path, heard=HEARD)
    heard = Classifier(model).predict(tmp_path / "good.wav")
    assert len(heard.warnings) == 2
    assert (
        "sound up to 8.0 kHz" in heard.warnings[0] and "clips have sound up to 4.0 kHz" in heard.warnings[0]
    )
    assert "a level of -11 dBFS" in heard.warnings[1] and "-60 to -40 dBFS" in heard.warnings[1]
    tone = 0.01 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    assert Classifier(model).predict(tone, RATE).warnings == ()
    assert main(["classify", str(model), str(tmp_path / "good.wav")]) == 0
    assert capsys.readouterr().err.count("good.wav: warning: ") == 2
    same = write(tmp_path)  # an older file, which does not say it
    assert Classifier(same).predict(tmp_path / "good.wav").warnings == ()


@pytest.mark.parametrize(
    "bad", [1, [], "x", {"bandwidth": 1}, *({**HEARD, "level": x} for x in ([1.0], ["a"] * 3))]
)
def test_a_range_of_another_form_is_refused(tmp_path, bad):
    with pytest.raises(UserError, match=r"model\.pt: about\.heard"):
        Classifier(write(tmp_path, heard=bad))


def test_a_log_mel_network_without_the_settings_of_its_features_is_refused(tmp_path):
    about = {"classes": ["a", "b"], "settings": {"audio": Audio().model_dump()}}
    save_model(tmp_path / "a.pt", Cnn10(2, 4), about)
    with pytest.raises(UserError, match=r"a\.pt: .*features\.mels is None"):
        Classifier(tmp_path / "a.pt")
