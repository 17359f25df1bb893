"""Model files that are damaged, or made to harm: refused by name, in little memory, and nothing runs."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.inference import Classifier
from audionas.models.cnn10 import Cnn10
from audionas.models.files import read_model, save_model
from audionas.runtime.errors import UserError
from audionas.training.checkpoint import Checkpoint

AUDIO = {"sample_rate": 32_000, "clip_seconds": 1.0, "min_seconds": 0.1}
FEATURES = {"n_fft": 1024, "hop": 1000, "mels": 16, "fmin": 50.0, "fmax": 14_000.0}
ABOUT = {
    "kind": "found",
    "classes": ["a", "b", "c", "d"],
    "settings": {"audio": AUDIO, "features": FEATURES},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "whole.pt"
    save_model(path, Cnn10(4, 4, mels=16), ABOUT)
    return path


def saved(content: object, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def records(whole: Path, change: Callable[[str, bytes], bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with its records changed; what is changed is whole as a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(buffer, "w", how) as copy:
        for name in archive.namelist():
            copy.writestr(name, change(name, archive.read(name)))
    return buffer.getvalue()


def pickled(whole: Path, content: bytes) -> bytes:
    return records(whole, lambda name, data: content if name.endswith("data.pkl") else data)


class Runs:
    def __reduce__(self):
        return os.mkdir, ("it-ran",)


def repeated_tuples(inside: bytes) -> bytes:
    """A tuple of ten tuples of ten tuples, and so on: a few bytes that take years to walk or to hash."""
    steps = [
        b"(" + b"h" + bytes([i - 1]) + (b"h" + bytes([i - 1])) * 9 + b"tq" + bytes([i]) for i in range(1, 30)
    ]
    return b"\x80\x02}X\x03\x00\x00\x00lolq\x00" + b"".join(steps) + inside


def hostile(whole: Path) -> dict[str, bytes]:
    good = torch.load(whole, weights_only=True)
    state, bias = good["state"], "fc2.bias"
    found = {
        "no bytes": b"",
        "text": b"not a model" * 100,
        "half": whole.read_bytes()[: whole.stat().st_size // 2],
        "old format": saved(good, _use_new_zipfile_serialization=False),
        "a pickle that runs": saved({"format": 1, "x": Runs()}),
        "a bare pickle that runs": pickle.dumps(Runs()),
        "a list": saved([good]),
        "another format": saved({**good, "format": 3}),
        "a model that nobody knows": saved({**good, "model": "resnet50"}),
        "deflated": records(whole, lambda _, data: data, zipfile.ZIP_DEFLATED),
        "a bomb of data": records(
            whole,
            lambda name, data: bytes(1 << 30) if name.endswith("/data/0") else data,
            zipfile.ZIP_DEFLATED,
        ),
        "short data": records(whole, lambda name, data: data[:4] if name.endswith("/data/0") else data),
        "long data": records(whole, lambda name, data: data + b"x" if name.endswith("/data/0") else data),
        "byte order": records(whole, lambda name, data: b"big" if name.endswith("order") else data),
        "a long name": pickled(whole, b"\x80\x02X\xff\xff\xff\xff"),
        "a long number": pickled(whole, b"\x80\x02\x8b\xff\xff\xff\x7f."),
        "a far memo": pickled(whole, b"\x80\x02]r\xff\xff\xff\xff."),
        "a deep list": pickled(whole, b"\x80\x02" + b"]" * 3_000_000 + b"a" * 2_999_999 + b"."),
        "repeated tuples": pickled(whole, repeated_tuples(b"0.")),
        "repeated tuples as a key": pickled(whole, repeated_tuples(b"Ns.")),
        "more after its end": records(whole, lambda name, data: data + b"." * 9 if "pkl" in name else data),
        "a state of nothing": saved({**good, "state": None}),
        "a name less": saved({**good, "state": dict(list(state.items())[1:])}),
        "several tensors in one": saved({**good, "state": {**state, bias: torch.zeros(8)[:4]}}),
    }
    parts = ("model", "spec", "about", "state")
    found |= {f"no {part}": saved({k: v for k, v in good.items() if k != part}) for part in parts}
    found |= {f"{part} of text": saved({**good, part: "x"}) for part in parts}
    for name, value in {
        "shape": torch.zeros(5),
        "float64": torch.zeros(4).double(),
        "int8": torch.zeros(4).to(torch.int8),
        "complex": torch.zeros(4).to(torch.complex64),
        "nan": torch.full((4,), float("nan")),
        "expanded": torch.zeros(1).expand(4),
        "sparse": torch.zeros(4).to_sparse(),
        "meta": torch.zeros(4, device="meta"),
        "text": "x",
        "quantised": torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8),
    }.items():
        found[f"state: {name}"] = saved({**good, "state": {**state, bias: value}})
    for key, value in (
        *(("base_channels", n) for n in (10**9, -4, 0, 4.5, "4", True)),
        *(("widths", n) for n in ([10**9] * 4, [4, 30_000, 30_000, 30_000], [-4, 4, 4, 4], [4, 8], None)),
        *(("num_classes", n) for n in (10**12, 0, 5)),
        *(("depths", n) for n in ([3, 3, 3, 3], [1, 1, 1, 1])),
        *(("hidden", 10**9), ("mels", 0), ("block_dropout", float("nan")), ("more", 1)),
    ):
        found[f"spec: {key} {value}"] = saved({**good, "spec": {**good["spec"], key: value}})
    largest = {"num_classes": 4, "base_channels": 4, "mels": 16, "width_rounding": "floor"}
    dropouts = {"block_dropout": 0.2, "head_dropout": 0.5}
    before = {**{key: value for key, value in good.items() if key != "model"}, "format": 1}
    for key, value in (("base_channels", 10**9), ("base_channels", 8), ("width_rounding", "up"), ("more", 1)):
        spec = {**largest, **dropouts, key: value}
        found[f"supernet: {key} {value}"] = saved({**good, "model": "cnn10-supernet", "spec": spec})
        found[f"format 1: {key} {value}"] = saved({**before, "architecture": {**largest, key: value}})
    for part, value in (("architecture", 1), ("spec", None), ("model", "cnn10")):
        found[f"format 1: {part} {value}"] = saved({**before, "architecture": None, part: value})
    for key, value in (
        *(("classes", n) for n in (4, ["a"], ["a", "a", "b", "c"], ["", "a", "b", "c"], [1, 2, 3, 4])),
        *(("settings", n) for n in (None, {}, {"features": {}}, {"audio": [1], "features": [2]})),
        ("settings", {"audio": {}, "features": {"mels": 16}}),
        *(("more", n) for n in (torch.zeros(1), {1: 2}, [[[[[[[[[1]]]]]]]]])),
    ):
        found[f"about: {key} {value}"] = saved({**good, "about": {**ABOUT, key: value}})
    for section, key, value in (
        *(("audio", "sample_rate", n) for n in (10**9, 0, -1, "32000", 1)),
        *(("audio", "clip_seconds", n) for n in (1e9, float("inf"), float("nan"), 0.0, 1e4)),
        *(("features", "n_fft", n) for n in (10**10, 0, 131_072)),
        *(("features", "hop", n) for n in (0, -1)),
        *(("features", "mels", n) for n in (10**9, 64)),
        *(("features", "fmin", n) for n in (float("nan"), 15_000.0)),
        *(("features", "fmax", 17_000.0), ("features", "more", 1), ("audio", "min_seconds", "x")),
    ):
        parts = {"audio": AUDIO, "features": FEATURES}
        changed = {**parts, section: {**parts[section], key: value}}
        found[f"{section}: {key} {value}"] = saved({**good, "about": {**ABOUT, "settings": changed}})
    return found


#: Reads every file given and says what came of it, one a line; in a process of its own with little memory.
READ = """
import resource, sys
from audionas.runtime.errors import UserError
from audionas.models.files import read_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        read_model(path)
        print(path, "opened")
    except UserError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_hostile_model_file_is_refused_by_name_in_little_memory(tmp_path: Path, whole: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    with (tmp_path / "sparse.pt").open("wb") as file:
        file.truncate(200 << 30)
    paths, names = (
        [tmp_path / f"{name}.pt" for name in ("pipe", "folder", "sparse")],
        ["pipe", "folder", "sparse"],
    )
    for number, (name, content) in enumerate(hostile(whole).items()):
        names.append(name)
        paths.append(tmp_path / f"{number}.pt")
        paths[-1].write_bytes(content)
    said = subprocess.run(
        [sys.executable, "-c", READ, *paths], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    *lines, kilobytes = said.stdout.splitlines()
    assert said.returncode == 0 and len(lines) == len(paths), (said.stderr[-2_000:], lines[-1])
    for name, path, line in zip(names, paths, lines, strict=True):
        assert line.startswith(f"{path}: ") and "opened" not in line, (name, line)
        assert "delete" not in line, (name, line)  # for the file may be the user's own
    assert not (tmp_path / "it-ran").exists()
    assert int(kilobytes) < 300_000


def test_only_what_is_the_projects_is_said_to_be_deleted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place, remedy in (
        ("models/teacher/0.pt", r"delete it and run `dvc repro`"),
        ("models/mine/0.pt", r"give a file that `dvc repro` made"),
        ("data/recording.flac", r"give a file that `dvc repro` made"),
        ("../recording.flac", r"give a file that `dvc repro` made"),
    ):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_bytes(b"fLaC")
        with pytest.raises(UserError, match=rf"damaged or not a model file .*; {remedy}$"):
            Classifier(place)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_changes_nothing_or_is_noticed(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, at: float, bit: int
) -> None:
    content = bytearray(whole.read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "x.pt"
    path.write_bytes(content)
    good = read_model(whole)
    try:
        read = read_model(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        state, expected = read.pop("state"), good.pop("state")
        assert read == good and all(torch.equal(state[name], expected[name]) for name in expected)


def test_reading_draws_no_random_number(whole: Path) -> None:
    before = torch.get_rng_state()
    read_model(whole)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_with_a_flipped_bit_is_not_gone_on_with(tmp_path: Path, caplog) -> None:
    checkpoint = Checkpoint("run", "key", folder=tmp_path)
    weights = torch.arange(1_000.0)
    for iteration in (1, 2):
        checkpoint.save({"network": {"weights": weights + iteration}, "iteration": iteration})
    content = bytearray(checkpoint.path.read_bytes())
    content[content.index((weights + 2).numpy().tobytes()) + 2_000] ^= 4
    checkpoint.path.write_bytes(content)
    state = checkpoint.load()
    assert state["iteration"] == 1 and torch.equal(state["network"]["weights"], weights + 1)
    assert f"{checkpoint.path}: damaged" in caplog.text
    for path in (checkpoint.path, checkpoint.previous):
        torch.save([1, 2], path)
    assert checkpoint.load() is None
