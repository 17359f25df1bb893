"""Export targets in their environments (`make deploy-NAME`): parity, int8, microcontrollers and NPUs."""

import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import CLASSES, RATE, about, logmel, network, sounds
from targets import require

from audionas.audio.logmel import LogMel
from audionas.cli import main
from audionas.deploy.targets import executorch, litert, programs, sherpa
from audionas.deploy.targets.environments import python_of, run_driver, run_model
from audionas.models.calibration import calibrate
from audionas.models.cnn10 import Cnn10
from audionas.models.files import save_model
from audionas.runtime.errors import UserError

pytestmark = pytest.mark.slow

CED = {**about()["settings"], "features": dict(sherpa.FEATURES)}


def expected(waves: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return torch.sigmoid(network()(logmel()(torch.from_numpy(waves)))).numpy()


@pytest.mark.parametrize("input", ["waveform", "features"])
@pytest.mark.parametrize("module", [litert, executorch])
def test_float_files_equal_pytorch(tmp_path, module, input):
    require(module.NAME)
    report = module.export(network(), about(), tmp_path / "model", input=input)
    waves = sounds(6, 1.0, seed=3)
    inputs = waves if input == "waveform" else logmel()(torch.from_numpy(waves)).numpy()
    found, _ = run_model(module.NAME, tmp_path / "model", inputs)
    np.testing.assert_allclose(found, expected(waves), atol=1e-4)
    assert report["parity"]["largest"] <= 1e-4
    if module is litert and input == "features":
        assert report["micro"]["largest_difference_from_litert"] < 1e-5
        assert 10_000 < report["micro"]["arena_bytes"] < 1_000_000


@pytest.mark.parametrize("input", ["waveform", "features"])
def test_int8_is_near_pytorch_and_runs_on_the_npu(tmp_path, input):
    require("litert")
    training = logmel()(torch.from_numpy(sounds(64, 1.0))).numpy()
    report = litert.export(
        network(), about(), tmp_path / "model", input=input, quantized=True, calibration=training
    )
    waves = sounds(32, 1.0, seed=3)
    inputs = waves if input == "waveform" else logmel()(torch.from_numpy(waves)).numpy()
    found, _ = run_model("litert", tmp_path / "model", inputs)
    assert 0 < np.abs(found - expected(waves)).mean() < 0.03
    types = {report["tensors"][kind]["dtype"] for kind in ("input", "output")}
    if input == "waveform":
        assert types == {"float32"} and "QUANTIZE" in report["operators"] and "micro" not in report
        return
    scale = report["tensors"]["input"]["scale"]
    assert scale == pytest.approx(np.ptp(training) / 255, rel=0.01)  # all clips, not an average
    assert types == {"int8"} and not {"QUANTIZE", "DEQUANTIZE"} & set(report["operators"])
    assert report["micro"]["largest_difference_from_litert"] <= 2 / 256  # steps of the output
    for npu in report["npu"].values():
        assert npu["operators"]["cpu"] == 0 and npu["cpu_operators"] == []
        assert npu["latency_ms"] > 0 and npu["sram_bytes"] > 0


def test_global_pools_would_run_on_the_cpu(tmp_path, monkeypatch):
    require("litert")
    monkeypatch.setattr(programs, "with_fixed_shapes", lambda network, frames: network)
    training = sounds(16, 1.0)
    report = litert.export(
        network(), about(), tmp_path / "model", input="features", quantized=True, calibration=training
    )
    npu = report["npu"]["ethos-u55-128"]
    assert npu["operators"]["cpu"] > 0 and "REDUCE_MAX" in npu["cpu_operators"]


class Sorted(torch.nn.Module):
    """A network with an operator that LiteRT lacks."""

    def forward(self, x):
        return torch.linalg.eigvals(x[:, :16, :16]).real[:, :4]


@pytest.mark.parametrize("module", [litert, executorch])
def test_an_operator_that_a_target_lacks_is_named(tmp_path, module):
    require(module.NAME)
    with pytest.raises(UserError, match="linalg_eig"):
        module.export(Sorted(), about(), tmp_path / "model", input="features")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def of_ced() -> Cnn10:
    torch.manual_seed(0)
    net = Cnn10(len(CLASSES), 4, mels=64)
    calibrate(net, [LogMel(RATE, **sherpa.FEATURES)(torch.from_numpy(sounds(16, 1.0)))])
    return net


def test_sherpa_onnx_runs_the_folder(tmp_path, of_ced):
    require("sherpa")
    names = ["Dog", 'Cat "big"', "Rain, heavy", "Wind"]
    of = {**about(names=names), "settings": CED}
    save_model(tmp_path / "model.pt", of_ced, of)
    folder = tmp_path / "tagging"
    assert main(["export", str(tmp_path / "model.pt"), "--format", "sherpa", "--output", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {sherpa.MODEL, sherpa.LABELS, sherpa.METADATA}
    page = (Path(__file__).parents[3] / "docs" / "targets.md").read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    command = [python_of("sherpa"), "-I", "-c", f"{program}\nprint(tagging)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "AudioTagging" in done.stdout, done.stderr
    front_end = LogMel(RATE, **sherpa.FEATURES)
    for seconds in (0.5, 1.0, 3.21):
        waves = sounds(4, seconds, seed=9)
        with tempfile.TemporaryDirectory() as temporary:
            np.savez(Path(temporary) / "inputs.npz", inputs=waves)
            job = {"model": str(folder), "file": sherpa.MODEL, "labels": sherpa.LABELS, "names": names}
            run_driver("sherpa", Path(temporary), {**job, "rate": RATE})
            with np.load(Path(temporary) / "outputs.npz") as arrays:
                found = arrays["probabilities"]
        with torch.no_grad():
            own = torch.sigmoid(of_ced(front_end(torch.from_numpy(waves)))).numpy()
        assert own.std() > 0.005
        np.testing.assert_allclose(found, own, atol=1e-4)


def test_a_folder_that_sherpa_onnx_computes_differently_is_refused(tmp_path, of_ced, monkeypatch):
    require("sherpa")
    monkeypatch.setattr(sherpa, "_SILENCE", 0.0)
    monkeypatch.setattr(LogMel, "FLOOR", 1e-3)  # another front end than that of sherpa-onnx
    with pytest.raises(UserError, match="not written: the largest difference"):
        sherpa.export(of_ced, {**about(), "settings": CED}, tmp_path / "folder")
    assert not list(tmp_path.iterdir())
