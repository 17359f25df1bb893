"""`audionas classify` with events: formats, folders, resuming, processes and sound as it arrives."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from audionas.cli import main
from audionas.inference import Classifier
from audionas.models.cnn10 import Cnn10
from audionas.models.files import save_model
from audionas.settings.audio import Audio, Features

RATE = 16_000
CLASSES = ["dog", "cat", "bell", "rain"]
NAMES = ["Dog", "\x1b[31mCat", "Bell", "Rain"]
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE).astype(np.float32)
NOISE[RATE : 2 * RATE] = 0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file whose classes 2 and 4 are heard in noise."""
    settings = {
        "audio": Audio(sample_rate=RATE, clip_seconds=1.0).model_dump(),
        "features": Features(mels=16, fmax=8000.0).model_dump(),
    }
    torch.manual_seed(0)
    network = Cnn10(4, 4, mels=16)
    with torch.no_grad():
        network.fc2.weight.zero_()
        network.fc2.bias.copy_(torch.tensor([-2.0, 1.0, -2.0, 2.0]))
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_model(path, network, {"settings": settings, "classes": CLASSES, "names": NAMES})
    return path


@pytest.fixture
def recordings(tmp_path):
    """A folder with three good files, and one of each kind that cannot be used."""
    folder = tmp_path / "recordings"
    (folder / "sub").mkdir(parents=True)
    soundfile.write(folder / "b.wav", NOISE, RATE)
    soundfile.write(folder / "sub" / "a.flac", NOISE, RATE)
    soundfile.write(folder / "silent.wav", 0 * NOISE, RATE)
    data = (folder / "b.wav").read_bytes()
    (folder / "half.wav").write_bytes(data[: len(data) // 2])
    soundfile.write(folder / "nothing.wav", NOISE[:0], RATE)
    return folder


def run(capsys, *arguments, code=0):
    """Run the command, check its exit code, and return its output and messages."""
    assert main(["classify", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    return out, err


def test_events_of_a_folder_as_text(model, recordings, capsys):
    out, err = run(capsys, model, recordings, "--window", 1, "--hop", 0.5, code=1)
    texts = out.replace(f"{recordings}/", "").split("\n")
    assert texts[0] == "b.wav (0:00:04.0)"
    events = [text.split() for text in texts[1:5]]
    # Only the window from 1 to 2 s is silent.
    spans = [("0:00:00.0", "0:00:01.5"), ("0:00:01.5", "0:00:04.0")]
    classes = [("0.731", "\\x1b[31mCat"), ("0.881", "Rain")]
    assert events == [[*span, *of] for span in spans for of in classes]
    assert texts[5] == "silent.wav (0:00:04.0): no events"
    assert texts[6] == "sub/a.flac (0:00:04.0)"
    assert "half.wav: truncated; record or copy it again" in err and "nothing.wav: no samples" in err
    assert "2 of 5 recordings not classified" in err


def test_events_as_csv_json_and_audacity(model, recordings, capsys):
    good, other = recordings / "b.wav", recordings / "sub" / "a.flac"
    how = (
        "--window",
        0.5,
        "--hop",
        0.25,
        "--threshold",
        0.6,
        "--threshold",
        "rain=0.9",
        "--threshold",
        "Dog=0.1",
    )
    expected = [
        (round(e.start, 3), round(e.end, 3), e.label, e.name, round(e.probability, 4))
        for e in Classifier(model).events(good, window=0.5, hop=0.25, thresholds=[0.6, "rain=0.9", "Dog=0.1"])
    ]
    assert {label for _, _, label, _, _ in expected} == {"dog", "cat"}
    out, _ = run(capsys, model, good, other, *how, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 2 * len(expected) and {row["recording"] for row in rows} == {str(good), str(other)}
    got = {(float(r["start"]), float(r["end"]), r["class"], float(r["probability"])) for r in rows}
    assert got == {(start, end, label, p) for start, end, label, _, p in expected}
    out, _ = run(capsys, model, good, *how, "--format", "json")
    items = [json.loads(text) for text in out.splitlines()]
    assert sorted(tuple(item.values())[:5] for item in items) == sorted(expected)
    assert {item["recording"] for item in items} == {str(good)}
    out, _ = run(capsys, model, good, *how, "--format", "audacity")
    assert len(out.splitlines()) == len(expected)
    assert all(len(text.split("\t")) == 3 for text in out.splitlines())


def test_finished_recordings_are_skipped_and_changed_ones_are_not(model, recordings, tmp_path, capsys):
    out = tmp_path / "events"
    how = (model, recordings, "--window", 1, "--format", "csv", "--output", out)
    said, err = run(capsys, *how, code=1)
    assert said == "" and "skipped" not in err
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == [".classify.json", "b.wav.csv", "silent.wav.csv", "sub/a.flac.csv"]
    before = {name: (out / name).read_text() for name in files}
    assert before["silent.wav.csv"] == "start,end,class,name,probability,recording\n"
    shutil.copy(recordings / "b.wav", recordings / "half.wav")  # it is whole now
    os.utime(recordings / "b.wav", (2e9, 2e9))
    (out / "b.wav.csv").write_text("old")
    _, err = run(capsys, *how, code=1)
    assert "2 of 5 recordings are finished" in err and "1 of 5 recordings not classified" in err
    assert (out / "half.wav.csv").exists()
    assert {name: (out / name).read_text() for name in files} == before
    _, err = run(capsys, model, recordings, "--window", 0.5, "--format", "csv", "--output", out, code=1)
    assert "events of other settings (window 1.0, not 0.5; hop 0.5, not 0.25)" in err


@pytest.mark.slow
def test_several_processes_give_the_same(model, recordings, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    run(capsys, model, recordings, "--events", "--output", one, code=1)
    _, err = run(capsys, model, recordings, "--events", "--output", two, "--jobs", 2, code=1)
    assert "half.wav: truncated" in err and "2 of 5 recordings not classified" in err
    texts = [
        {path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.is_file()}
        for folder in (one, two)
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 4


PAUSED = """
import sys, time
from audionas import inference
from audionas.cli import main

scan = inference.Scan.__iter__
def slow(self):
    for number, window in enumerate(scan(self)):
        yield window
        if number and self.name.endswith("c.wav"):
            print("half of c.wav", flush=True)
            time.sleep(999)
inference.Scan.__iter__ = slow
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_goes_on(model, tmp_path, capsys, sent):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in "abcd":
        soundfile.write(folder / f"{name}.wav", NOISE, RATE)
    how = ["classify", str(model), str(folder), "--events", "--output", str(out)]
    with subprocess.Popen(
        [sys.executable, "-c", PAUSED, *how], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"half of c.wav\n"
        process.send_signal(sent)
        process.wait()
        assert (b"interrupted; run it again to resume" in process.stderr.read()) == (sent == signal.SIGINT)
    assert sorted(path.name for path in out.iterdir()) == [".classify.json", "a.wav.txt", "b.wav.txt"]
    _, err = run(capsys, *how[1:])
    assert "2 of 4 recordings are finished" in err
    whole = {path.name: path.read_text().split("\n", 1)[1] for path in out.glob("*.txt")}
    assert set(whole) == {f"{name}.wav.txt" for name in "abcd"} and len(set(whole.values())) == 1


def test_two_recordings_of_one_name_are_told(model, recordings, tmp_path, capsys):
    shutil.copy(recordings / "b.wav", recordings / "sub" / "b.wav")
    both = (recordings / "b.wav", recordings / "sub" / "b.wav")
    _, err = run(capsys, model, *both, "--events", "--output", tmp_path / "out", code=1)
    assert "in the same file as those of" in err and not (tmp_path / "out").exists()
    run(capsys, model, both[0], both[0], "--events", "--output", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["b.wav", "--top", "2", "--window", "1"], "--top: not for events (--window)"),
        (["b.wav", "--channels", "2"], "give --rate too"),
        (["b.wav", "--rate", "16000"], "give - as the only recording"),
        (["-", "b.wav"], "standard input is read alone"),
        (["-", "--events", "--output", "out"], "not with --output"),
        (["--microphone", "--output", "out"], "redirect standard output"),
        (["b.wav", "--microphone"], "not together with recordings"),
        (["b.wav", "sub/a.flac", "--format", "audacity"], "2 recordings in one label track; give --output"),
        (["b.wav", "--window", "2"], "window 2: not a number of seconds from 0.1 to 1"),
        (["b.wav", "--threshold", "bird=0.5"], "the model has no class bird"),
        (["b.wav", "--smooth", "2"], "smooth 2: not an odd number"),
    ],
)
def test_options_that_do_not_fit_are_refused(model, recordings, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(recordings)
    out, err = run(capsys, model, *arguments, code=1)
    assert said in err and out == "" and not (recordings / "out").exists()


@pytest.mark.parametrize("place", [0, 1, 3])
def test_options_may_stand_anywhere(model, recordings, capsys, place):
    arguments = [model, recordings / "b.wav", recordings / "silent.wav"]
    arguments[place:place] = ["--window", "1"]
    assert run(capsys, *arguments)[0].endswith("silent.wav (0:00:04.0): no events\n")


def test_no_recordings_is_a_usage_error(model, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["classify", str(model), "--window", "1"])
    assert "required: RECORDING" in capsys.readouterr().err


def test_a_folder_without_audio_is_reported_and_the_rest_is_classified(model, recordings, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    out, err = run(capsys, model, tmp_path / "empty", recordings / "b.wav", "--top", 1, code=1)
    assert "empty: no audio file in this folder" in err and "1 of 2 recordings not classified" in err
    assert out.splitlines()[-1].split() == ["0.881", "Rain"]


@contextmanager
def standard_input(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    yield


def test_standard_input_is_an_encoded_file_or_raw_samples(model, recordings, capsys, monkeypatch):
    data = (recordings / "sub" / "a.flac").read_bytes()
    with standard_input(monkeypatch, data):
        encoded, _ = run(capsys, model, "-", "--window", 1, "--format", "csv")
    with standard_input(monkeypatch, data):
        out, _ = run(capsys, model, "-", "--top", 1)
    assert out == "- (first 1 s of 4.0 s)\n  0.881  Rain\n"
    samples = soundfile.read(recordings / "b.wav", dtype="int16")[0]
    with standard_input(monkeypatch, np.repeat(samples, 2).tobytes()):
        raw, _ = run(capsys, model, "-", "--rate", RATE, "--channels", 2, "--window", 1, "--format", "csv")
    assert sorted(raw.splitlines()) == sorted(encoded.splitlines()) and len(raw.splitlines()) == 5
    with standard_input(monkeypatch, data):
        _, err = run(capsys, model, "-", "--rate", RATE, code=1)
    assert "an encoded file (flac), not raw samples; omit the rate" in err
    with standard_input(monkeypatch, b""):
        assert "empty" in run(capsys, model, "-", "--events", code=1)[1]
    with standard_input(monkeypatch, b""):
        assert "no samples" in run(capsys, model, "-", "--rate", RATE, code=1)[1]


@pytest.mark.slow
def test_raw_samples_are_classified_as_they_arrive(model):
    """The first event is printed while the pipe is open."""
    command = [
        sys.executable,
        "-m",
        "audionas",
        "classify",
        str(model),
        "-",
        "--rate",
        str(RATE),
        "--hop",
        "1",
    ]
    noise = (NOISE[:RATE] * 32_767).astype("<i2").tobytes()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(noise + bytes(6 * RATE))
        process.stdin.flush()
        first = process.stdout.readline().split()
        assert first[:2] == [b"0:00:00.0", b"0:00:01.0"]
        process.send_signal(signal.SIGINT)  # as Ctrl-C, which ends the other program of the pipe too
        process.stdin.close()
        assert len(process.stdout.read().splitlines()) == 1
    assert process.returncode == 0


@pytest.fixture
def sounddevice(monkeypatch):
    """A module in place of sounddevice, with a microphone that says two seconds of noise and then Ctrl-C."""
    module = ModuleType("sounddevice")
    module.asked = []

    class PortAudioError(Exception):
        pass

    class InputStream:
        def __init__(self, *, samplerate, channels, dtype, device, blocksize, callback):
            assert (samplerate, channels, dtype) == (48_000, 1, "float32")
            self.size, self.callback = blocksize, callback
            module.asked.append(device)

        def _record(self):
            noise = np.random.default_rng(0).uniform(-0.5, 0.5, (96_000, 1)).astype(np.float32)
            for at in range(0, len(noise), self.size):
                buffer = noise[at : at + self.size].copy()
                self.callback(buffer, len(buffer), None, None)
                buffer[:] = 0  # PortAudio uses it again
            module.waiting.wait(30)
            signal.raise_signal(signal.SIGINT)

        def __enter__(self):
            self.thread = threading.Thread(target=self._record)
            self.thread.start()
            return self

        def __exit__(self, *_):
            self.thread.join()

    def query_devices(device, kind):
        assert kind == "input"
        if device == "none":
            raise ValueError("No input device matching 'none'")
        if device == 9:
            raise PortAudioError("Invalid device")
        return {"default_samplerate": 48_000.0}

    module.PortAudioError, module.InputStream, module.query_devices = (
        PortAudioError,
        InputStream,
        query_devices,
    )
    module.waiting = threading.Event()
    module.waiting.set()
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


@pytest.mark.parametrize(("arguments", "device"), [([], None), (["3"], 3), (["USB mic"], "USB mic")])
def test_the_microphone_is_heard_until_ctrl_c(model, sounddevice, capsys, arguments, device):
    before = signal.getsignal(signal.SIGINT)
    out, err = run(capsys, model, "--microphone", *arguments, "--window", 1)
    assert sounddevice.asked == [device] and "listening at 48000 Hz; Ctrl-C ends it" in err
    events = [text.split() for text in out.splitlines()]
    assert {event[3] for event in events} == {"\\x1b[31mCat", "Rain"}
    assert {event[0] for event in events} == {"0:00:00.0"}
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("device", ["none", "9"])
def test_a_microphone_that_there_is_not_is_told(model, sounddevice, capsys, device):
    _, err = run(capsys, model, "--microphone", device, code=1)
    assert f"the microphone {device}: " in err and "`python -m sounddevice` lists them" in err


def test_a_missing_package_is_named(model, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    _, err = run(capsys, model, "--microphone", code=1)
    assert (
        "the microphone: the package sounddevice is not installed; run pip install 'audionas[microphone]'"
        in err
    )


def test_a_missing_library_of_the_microphone_is_named(model, monkeypatch, tmp_path, capsys):
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    _, err = run(capsys, model, "--microphone", code=1)
    assert "PortAudio library not found; install it, on Debian: apt install libportaudio2" in err


def test_a_long_name_does_not_end_the_run(model, tmp_path, capsys):
    folder, out = tmp_path / "recordings", tmp_path / "events"
    folder.mkdir()
    for name in ("a" * 251, "b" * 230, "\u65e5" * 80, "c"):
        soundfile.write(folder / f"{name}.wav"[-255:], NOISE, RATE)
    _, err = run(capsys, model, folder, "--output", out, code=1)
    assert "File name too long; rename the recording" in err and "1 of 4 recordings not classified" in err
    assert len([path for path in out.iterdir() if path.suffix == ".txt"]) == 3
    assert not [path for path in out.iterdir() if path.suffix == ".tmp"]


@pytest.mark.parametrize("arguments", [(), ("--rate", 16000), ("--events",)])
def test_a_closed_standard_input_is_told(model, capsys, monkeypatch, arguments):
    monkeypatch.setattr(sys, "stdin", None)
    _, err = run(capsys, model, "-", *arguments, code=1)
    assert "standard input is closed" in err


def test_a_rate_of_raw_samples_has_a_limit(model, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(bytes(1000))))
    _, err = run(capsys, model, "-", "--rate", 10**21, code=1)
    assert "give at most 10000000" in err


def test_a_threshold_of_an_empty_class_is_not_one_of_all(model, recordings, capsys):
    _, err = run(capsys, model, recordings / "b.wav", "--threshold", "=0.5", code=1)
    assert "no class before the =" in err
