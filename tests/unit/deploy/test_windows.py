"""Windows of a classifier: blocks, batches and files of any length give what a single pass gives."""

import io
import itertools
import logging
import sys
import tracemalloc
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.audio import streaming
from audionas.deploy.events import merge
from audionas.inference import Classifier
from audionas.models.cnn10 import Cnn10
from audionas.models.files import save_model
from audionas.runtime.errors import UserError
from audionas.settings.audio import Audio, Features

RATE, CLIP = 16_000, 1.0
CLASSES = ["dog", "cat", "bell", "rain"]
NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, 10 * RATE).astype(np.float32)
NOISE *= np.repeat(np.random.default_rng(1).uniform(0, 1, 40), RATE // 4).astype(
    np.float32
)  # of changing level


def write(folder, name="model.pt", features=None, **more):
    audio = Audio(sample_rate=RATE, clip_seconds=CLIP).model_dump()
    features = features or Features(mels=16, fmax=8000.0)
    about = {"settings": {"audio": audio, "features": features.model_dump()}, "classes": CLASSES, **more}
    torch.manual_seed(0)
    network = Cnn10(4, 4, mels=16)
    torch.nn.init.normal_(network.fc2.weight, std=2.0)  # probabilities that differ
    save_model(folder / name, network, about)
    return folder / name


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    return Classifier(write(tmp_path_factory.mktemp("model")))


def single_pass(classify, wave, size, hop):
    """The windows of a waveform in memory, each made a clip and classified alone by `predict`."""
    starts = list(range(0, max(len(wave) - size, 0) + 1, hop))
    if starts[-1] + size < len(wave):
        starts.append(len(wave) - size)
    rows = []
    for start in starts:
        window = np.pad(wave[start : start + size], (0, max(0, size - len(wave))))
        rows.append(classify.predict(np.resize(window, int(RATE * CLIP)), RATE).probabilities)
    return np.array(starts) / RATE, np.stack(rows)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(RATE // 5, 4 * RATE),
    st.lists(st.integers(1, 3 * RATE), min_size=1, max_size=5),
    st.sampled_from([(1.0, 0.5), (1.0, 1.0), (1.0, 0.3), (0.37, 0.2), (0.8, 0.8)]),
)
def test_the_sizes_of_blocks_change_no_probability(classify, length, sizes, window_and_hop):
    wave, (window, hop) = NOISE[:length], window_and_hop
    cuts = itertools.takewhile(lambda at: at < length, itertools.accumulate(itertools.cycle(sizes)))
    blocks = np.split(wave, list(cuts))
    got = list(classify.windows(iter(blocks), RATE, window=window, hop=hop))
    starts, expected = single_pass(classify, wave, round(window * RATE), round(hop * RATE))
    assert [w.start for w in got] == pytest.approx(starts)
    assert got[-1].end == pytest.approx(length / RATE)
    np.testing.assert_allclose([w.probabilities for w in got], expected, atol=1e-6)
    assert np.std(expected, axis=0).max() > 1e-3 or len(expected) < 3


@pytest.mark.parametrize("block", [1000, 4096, 65_536])
@pytest.mark.parametrize(
    ("rate", "channels", "kind"), [(44_100, 2, "WAV"), (8000, 1, "FLAC"), (96_000, 8, "WAV")]
)
def test_a_file_gives_the_windows_of_a_single_pass(
    classify, tmp_path, monkeypatch, block, rate, channels, kind
):
    monkeypatch.setattr(streaming, "_BLOCK", block)
    samples = np.round(np.stack([NOISE[: 3 * rate + 77]] * channels, 1)[: 10 * RATE] * 20_000).astype(
        np.int16
    )
    soundfile.write(tmp_path / "a", samples, rate, format=kind)
    got = list(classify.windows(tmp_path / "a", window=1, hop=0.5))
    mono = samples.astype(np.float32).mean(axis=1) / 32_768
    wave = soxr.resample(mono, rate, RATE, "HQ").clip(-1, 1)
    starts, expected = single_pass(classify, wave, RATE, RATE // 2)
    assert [w.start for w in got] == pytest.approx(starts)
    np.testing.assert_allclose([w.probabilities for w in got], expected, atol=1e-6)


@pytest.mark.parametrize("seconds", [0.4, 1.0])
def test_the_only_window_of_a_clip_is_its_prediction(classify, seconds):
    clip = NOISE[: int(seconds * RATE)]
    (window,) = classify.windows(clip, RATE)
    assert (window.start, window.end) == (0, seconds)
    np.testing.assert_allclose(window.probabilities, classify(clip, RATE), atol=1e-6)


def test_paths_files_samples_and_blocks_give_the_same_events(classify, tmp_path):
    samples = np.round(NOISE * 32_767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    how = {"window": 0.8, "hop": 0.4, "thresholds": [0.3, "cat=0.6"], "smooth": 3}
    expected = list(classify.events(tmp_path / "a.wav", **how))
    assert len(expected) > 2
    data = (tmp_path / "a.wav").read_bytes()
    with (tmp_path / "a.wav").open("rb") as file:
        for given in ((str(tmp_path / "a.wav"),), (io.BytesIO(data),), (file,), (samples, RATE)):
            assert list(classify.events(*given, **how)) == expected
    live = list(classify.events(iter(np.split(samples, 8)), RATE, **how))
    assert [(e.start, e.end, e.name) for e in live] == [(e.start, e.end, e.name) for e in expected]


def test_thresholds_and_names_are_those_of_the_model_file(tmp_path):
    model = write(tmp_path, names=["Dog", "Cat", "Bell", "Rain"], thresholds=[0.9, 0.1, 1, 0.5])
    classify = Classifier(model)
    assert classify.names == ["Dog", "Cat", "Bell", "Rain"]
    assert classify.thresholds.tolist() == pytest.approx([0.9, 0.1, 1.0, 0.5])
    windows = list(classify.windows(NOISE, RATE))
    expected = list(merge(windows, classify.thresholds, CLASSES, classify.names))
    assert list(classify.events(NOISE, RATE)) == expected
    assert Classifier(write(tmp_path)).thresholds.tolist() == [0.5] * 4


def test_names_fall_back_to_the_list_beside_the_model_and_to_ids(tmp_path):
    model = write(tmp_path)
    assert Classifier(model).names == CLASSES
    (tmp_path / "classes.csv").write_text("index,mid,display_name\n0,cat,Felis catus\n")
    assert Classifier(model).names == ["dog", "Felis catus", "bell", "rain"]


@pytest.mark.parametrize(
    "bad",
    [
        {"names": ["a"]},
        {"names": [1, 2, 3, 4]},
        {"names": "abcd"},
        {"thresholds": [0.5] * 3},
        {"thresholds": [0.5, 0.5, 0.5, 2.0]},
        {"thresholds": [0.5, 0.5, 0.5, float("nan")]},
        {"thresholds": ["0.5"] * 4},
        {"thresholds": 0.5},
    ],
)
def test_names_and_thresholds_of_another_form_are_refused(tmp_path, bad):
    with pytest.raises(
        UserError, match=rf"model\.pt: about\.{next(iter(bad))} does not have a n\w+ .*per class"
    ):
        Classifier(write(tmp_path, **bad))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"window": 2}, "window 2: not a number of seconds from 0.1 to 1, the length of a training clip"),
        ({"window": 0}, "window 0"),
        ({"window": float("nan")}, "window nan"),
        ({"window": -1}, "window -1"),
        ({"hop": 0}, "hop 0: not a number of seconds from 0.01 to the window of 1"),
        ({"window": 0.5, "hop": 0.6}, "hop 0.6: .* so that all sound is in a window; give 0.25"),
        ({"hop": float("inf")}, "hop inf"),
        ({"smooth": 2}, "smooth 2: not an odd number"),
        ({"smooth": 0}, "smooth 0"),
        ({"thresholds": ["bird=0.1"]}, "no class bird"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(classify, how, said):
    with pytest.raises(UserError, match=said):
        classify.events(NOISE, RATE, **how)


@pytest.mark.parametrize(
    ("recording", "rate", "said"),
    [
        (NOISE, None, "samples have no rate"),
        (NOISE, 0, "a rate of 0 Hz"),
        (NOISE, 500, "sample rate below 1 kHz"),
        (NOISE[:0], RATE, "no samples"),
        (NOISE[:20], RATE, "too short"),
        (NOISE[:20_000].reshape(1, -1), RATE, "give"),
        (iter([NOISE, NOISE.reshape(1, -1)]), RATE, "give"),
        (np.where(np.arange(len(NOISE)) == 99_999, np.nan, NOISE), RATE, "non-finite"),
        (np.stack([NOISE, -NOISE], 1), RATE, "channels cancel; the channels are in antiphase"),
        (io.StringIO("text"), None, "open it in binary mode"),
        ("model.pt", 5, "a file states its own rate"),
        ("none.wav", None, "none.wav: no such file"),
        ("/dev/null", None, "not a regular file"),
    ],
)
def test_what_can_not_be_used_is_refused_with_the_fix(classify, recording, rate, said):
    with pytest.raises(UserError, match=said):
        list(classify.events(recording, rate))


def test_silence_is_an_answer(classify, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(5 * RATE), RATE)
    windows = list(classify.windows(tmp_path / "silent.wav"))
    assert len(windows) == 9 and not np.any([w.probabilities for w in windows])
    assert not list(classify.events(tmp_path / "silent.wav", thresholds=[0.0]))
    with pytest.raises(UserError, match="silent"):  # as before, for a single clip
        classify(tmp_path / "silent.wav")


def test_sound_after_minutes_of_silence_is_found(classify):
    wave = np.concatenate([np.zeros(100 * RATE, np.float32), NOISE[:RATE], np.zeros(20 * RATE, np.float32)])
    (label,) = np.flatnonzero(classify(NOISE[:RATE], RATE) == classify(NOISE[:RATE], RATE).max())
    found = [e for e in classify.events(wave, RATE, hop=1) if e.label == CLASSES[label]]
    assert [(e.start, e.end) for e in found] == [(100.0, 101.0)]


def test_damage_in_the_middle_is_told_after_the_windows_before_it(classify, tmp_path):
    soundfile.write(tmp_path / "a.flac", np.tile(NOISE, 3), RATE)
    data = (tmp_path / "a.flac").read_bytes()
    middle = len(data) // 2
    (tmp_path / "a.flac").write_bytes(data[:middle] + bytes(9000) + data[middle + 9000 :])
    got = []
    with pytest.raises(UserError, match=r"a\.flac: truncated after \d+\.\d s; record or copy it again"):
        for window in classify.windows(tmp_path / "a.flac"):
            got.append(window)
    assert 5 < got[-1].end < 20


def test_differences_from_the_training_clips_are_warned_of_once(tmp_path, caplog):
    heard = {"bandwidth": [1000.0, 2000.0, 4000.0], "level": [-60.0, -50.0, -40.0]}
    classify = Classifier(write(tmp_path, heard=heard))
    with caplog.at_level(logging.WARNING):
        list(classify.events(NOISE, RATE))
    assert len(caplog.messages) == 2
    assert "sound up to 8.0 kHz" in caplog.messages[0] and "dBFS" in caplog.messages[1]
    caplog.clear()
    tone = 0.01 * np.sin(2 * np.pi * 500 * np.arange(5 * RATE) / RATE)
    list(classify.events(tone, RATE))
    assert not caplog.messages


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [10])
def test_memory_does_not_grow_with_the_recording(classify, tmp_path, minutes):
    """A file of 10 minutes at 48 kHz, 58 MB of samples, takes a few megabytes."""
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 48_000, 1) as file:
        for _ in range(minutes * 6):
            file.write(np.resize(NOISE, 480_000))
    next(classify.windows(tmp_path / "long.wav", hop=1))
    tracemalloc.start()
    try:
        count = sum(1 for _ in classify.windows(tmp_path / "long.wav", hop=1))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == minutes * 60
    assert most < 12e6


def test_a_recording_that_is_left_early_is_closed(classify, tmp_path):
    soundfile.write(tmp_path / "a.wav", NOISE, RATE)
    windows = classify.windows(tmp_path / "a.wav")
    next(windows)
    windows.close()
    assert next(classify.windows(tmp_path / "a.wav")).start == 0


def test_few_frames_are_repeated_and_a_network_of_one_length_gets_a_clip(tmp_path, monkeypatch):
    """A network with few frames per clip, as the demo's, can't pool a short window."""
    coarse = Features(mels=16, fmax=8000.0, n_fft=2048, hop=800)  # 21 frames
    classify = Classifier(write(tmp_path, features=coarse))
    (window,) = classify.windows(NOISE[: RATE // 4], RATE, window=0.25)
    repeated = np.tile(NOISE[: RATE // 4], 4)
    np.testing.assert_allclose(window.probabilities, classify(repeated, RATE), atol=1e-6)

    fine = Classifier(write(tmp_path, features=Features(mels=16, fmax=8000.0, n_fft=512, hop=100)))
    assert fine._fed == 6300
    (window,) = fine.windows(NOISE[:8000], RATE, window=0.5)
    np.testing.assert_allclose(window.probabilities, fine._network(NOISE[None, :8000])[0], atol=1e-6)
    run = fine._network

    def of_one_length(waves):
        if waves.shape[1] != RATE:
            raise RuntimeError("size mismatch")
        return run(waves)

    other = Classifier(tmp_path / "model.pt")
    monkeypatch.setattr(other, "_network", of_one_length)
    assert other._fed == RATE


@pytest.fixture
def fake_onnx(classify, monkeypatch):
    """OnnxModel by its contract: about, input, and probabilities of waveforms or features."""
    made = []

    class OnnxModel:
        def __init__(self, path, threads=1):
            self.about = {
                "settings": {
                    "audio": Audio(sample_rate=RATE, clip_seconds=CLIP).model_dump(),
                    "features": Features(mels=16, fmax=8000.0).model_dump(),
                },
                "classes": CLASSES,
                "names": ["Dog", "Cat", "Bell", "Rain"],
            }
            self.input = path.stem
            made.append(self)

        def probabilities(self, x):
            assert x.dtype == np.float32 and x.flags.c_contiguous
            self.shape = x.shape
            return np.tile(np.array([0.1, 0.9, 0.2, 0.6], np.float32), (len(x), 1))

    module = ModuleType("audionas.deploy.onnx_files")
    module.OnnxModel = OnnxModel
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return SimpleNamespace(made=made)


@pytest.mark.parametrize(("kind", "shape"), [("waveform", (1, RATE)), ("features", (1, 51, 16))])
def test_an_onnx_file_is_given_what_it_takes(fake_onnx, tmp_path, kind, shape):
    classify = Classifier(tmp_path / f"{kind}.ONNX")
    assert classify(NOISE[:RATE], RATE) == pytest.approx([0.1, 0.9, 0.2, 0.6])
    assert fake_onnx.made[0].shape == shape
    assert [e.name for e in classify.events(NOISE, RATE)] == ["Cat", "Rain"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["waveform", "features"])
def test_a_real_onnx_file_gives_the_probabilities_of_the_network(classify, tmp_path, kind):
    onnx_files = pytest.importorskip("audionas.deploy.onnx_files")
    pytest.importorskip("onnxruntime")
    from audionas.models.files import load_model

    network, about = load_model(classify._path)
    onnx_files.export_onnx(network, about, tmp_path / "model.onnx", input=kind)
    exported = Classifier(tmp_path / "model.onnx")
    assert exported.classes == classify.classes and exported._fed == classify._fed
    for how in ({}, {"window": 0.5, "hop": 0.2}):
        got = [w.probabilities for w in exported.windows(NOISE, RATE, **how)]
        expected = [w.probabilities for w in classify.windows(NOISE, RATE, **how)]
        np.testing.assert_allclose(got, expected, atol=1e-4)
