"""`audionas export`: files, reports, and messages for what cannot be exported."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from exported import CLASSES, RATE, about, logmel, network, sounds
from small import small_supernet

from audionas.cli import main
from audionas.data.store import write_store
from audionas.deploy.onnx_files import OnnxModel
from audionas.deploy.targets import registry
from audionas.models.files import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model file, a store of waveforms and one of log-mel, and recordings."""
    folder = tmp_path_factory.mktemp("export")
    save_model(folder / "model.pt", network(), about())
    waves = sounds(200, 1.0)
    x = logmel()(torch.from_numpy(waves))
    with torch.no_grad():
        logits = network()(x)
    clear = logits.abs().amin(dim=1).argsort(descending=True)[:24]  # the same labels in int8
    waves, x, labels = waves[clear.numpy()], x[clear], (logits[clear] > 0).numpy().astype(np.uint8)
    ids, settings = [f"clip{i}" for i in range(24)], about()["settings"]
    for name, data, of in (
        ("waves", np.rint(waves * 32_767).astype(np.int16), {"audio": settings["audio"]}),
        ("logmel", x.half().numpy(), settings),
        ("silence", np.full(x.shape, -100, np.float16), settings),
        ("other", x.half().numpy(), {**settings, "audio": {**settings["audio"], "clip_seconds": 2.0}}),
    ):
        write_store(folder / f"{name}.h5", ids, labels, data, classes=CLASSES, settings=of)
    (folder / "recordings" / "inner").mkdir(parents=True)
    for i, wave in enumerate(sounds(3, 1.5, seed=5)):
        soundfile.write(folder / "recordings" / "inner" / f"{i}.wav", wave, RATE)
    (folder / "recordings" / "notes.txt").write_text("not audio")
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Return a function that runs the command in `folder`, and returns its code, output and errors."""
    monkeypatch.chdir(folder)

    def command(*arguments, model="model.pt"):
        code = main(["export", model, *map(str, arguments)])
        return code, *capsys.readouterr()

    return command


def test_onnx_is_written_with_a_report_and_the_same_in_another_process(run, folder, tmp_path):
    code, said, _ = run("--format", "onnx", "--output", "out.onnx", "--recordings", "recordings")
    assert code == 0
    assert "difference from PyTorch on 3 recordings; tolerance 0.0001" in said
    assert "written: out.onnx: onnx, input waveform" in said
    model = OnnxModel("out.onnx")
    assert model.metadata["parity"]["seconds"] == [1, 3, 10, 20]
    assert model.metadata["parity"]["below"] <= 1e-4
    x = sounds(2, 1.0)
    with torch.inference_mode():
        expected = torch.sigmoid(network()(logmel()(torch.from_numpy(x)))).numpy()
    assert np.abs(model.probabilities(x) - expected).max() < 1e-5

    digest = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    assert model.metadata["made"]["from_sha256"] == digest

    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    values: dict = {}
    exec(program.replace("26k.onnx", "out.onnx"), values)  # noqa: S102
    assert values["classes"] == CLASSES
    # Its session has several threads.
    np.testing.assert_allclose(values["probabilities"], model.probabilities(values["waveform"]), atol=1e-5)

    line = ["export", "model.pt", "--format", "onnx", "--recordings", "recordings", "--output"]
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    again = [sys.executable, "-m", "audionas", *line, str(tmp_path / "again.onnx")]
    subprocess.run(again, check=True, env=environment, capture_output=True)
    assert (tmp_path / "again.onnx").read_bytes() == (folder / "out.onnx").read_bytes()


def test_int8_is_calibrated_and_compared_on_labelled_clips(run):
    code, said, errors = run(
        *("--format", "onnx-int8", "--output", "int8.onnx", "--input", "features"),
        *("--calibration", "waves.h5", "--labelled", "logmel.h5", "--recordings", "recordings"),
    )
    assert code == 0, errors
    assert "mean difference in exact arithmetic" in said
    assert "mAP on logmel.h5: PyTorch 100.00, exported " in said
    model = OnnxModel("int8.onnx")
    assert (model.quantized, model.input) == (True, "features")
    weights = {i.data_type for i in onnx.load("int8.onnx").graph.initializer if len(i.dims) == 4}
    assert weights == {onnx.TensorProto.INT8}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--calibration", "silence.h5"], "all calibration clips are silent"),
        (["--calibration", "other.h5"], "other.h5: other settings than those of the model"),
        (["--calibration", "silent.wav"], "silent.wav: silent; give a recording with sound"),
        (["--calibration", "nowhere"], "nowhere: no such file"),
        (["--calibration", "nowhere.h5"], "nowhere.h5: no such file"),
        ([], "this folder has no data/logmel/train.h5 or data/audio/train.h5; give a store or a folder"),
    ],
)
def test_calibration_that_cannot_be_used_is_refused(run, folder, arguments, said):
    code, _, errors = run("--format", "onnx-int8", "--output", "no.onnx", "--input", "features", *arguments)
    assert code == 1 and said in errors
    assert not [path for path in folder.iterdir() if "no.onnx" in path.name]


def test_a_file_that_differs_is_not_written(run, folder, monkeypatch):
    real = OnnxModel.probabilities
    monkeypatch.setattr(OnnxModel, "probabilities", lambda self, x: real(self, x) + np.float32(2e-4))
    code, _, errors = run("--format", "onnx", "--output", "no.onnx", "--input", "features")
    assert code == 1 and "no.onnx: not written: the largest difference" in errors
    assert not [path for path in folder.iterdir() if "no.onnx" in path.name]


def test_models_that_cannot_be_exported_are_refused(run, folder):
    save_model("supernet.pt", small_supernet(), {})
    save_model("bare.pt", network(), {"classes": CLASSES})
    newer = dict(torch.load("model.pt", weights_only=True))
    torch.save(newer | {"format": 99}, "newer.pt")
    for model, said in (
        ("supernet.pt", "a supernet"),
        ("bare.pt", "settings, classes or task are missing"),
        ("newer.pt", "not of format 2"),
        ("nothing.pt", "no such file"),
        ("recordings/inner/0.wav", "damaged or not a model file"),
        ("some.onnx", "exported already"),
    ):
        code, _, errors = run("--format", "onnx", "--output", "no.onnx", model=model)
        assert code == 1 and said in errors, model
    code, _, errors = run("--format", "onnx", "--output", "model.pt")
    assert code == 1 and "--output is the model file" in errors
    Path("folder.onnx").mkdir()
    code, _, errors = run("--format", "onnx", "--output", "folder.onnx", "--input", "features")
    assert code == 1 and "folder.onnx: " in errors and not list(Path("folder.onnx").iterdir())
    code, _, errors = run("--format", "onnx", "--output", "notes.md")
    assert code == 1 and "a file of --format onnx has a name that ends in .onnx" in errors
    code, _, errors = run("--format", "onnx", "--output", "no.onnx", "--calibration", "recordings")
    assert code == 1 and "only int8 is calibrated" in errors
    assert not (folder / "no.onnx").exists()


def test_a_target_that_is_not_installed_names_the_command_that_installs_it(run, monkeypatch):
    missing = registry.TARGETS["sherpa"]._replace(module="audionas.deploy.targets.absent")
    monkeypatch.setitem(registry.TARGETS, "sherpa", missing)
    code, _, errors = run("--format", "sherpa", "--output", "out")
    assert code == 1 and "the target is not installed; run `make deploy-sherpa`" in errors
