"""Export targets without their environments: messages, refusals, and what is given to the scripts."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import CLASSES, RATE, about, logmel, network, sounds
from targets import answering, make_up
from torch import nn

from audionas.audio.logmel import LogMel
from audionas.deploy import parity
from audionas.deploy.fixed import FixedCnn10
from audionas.deploy.front_end import FrontEnd
from audionas.deploy.targets import environments, executorch, litert, registry, sherpa
from audionas.deploy.targets.front_end import FixedFrontEnd
from audionas.deploy.targets.programs import Source
from audionas.models.cnn10 import Cnn10
from audionas.runtime.errors import UserError

MODULES = [litert, executorch]
CED = dict(sherpa.FEATURES)


@pytest.fixture
def right() -> np.ndarray:
    """What PyTorch computes for the test signals."""
    return Source(network(), about()).probabilities(parity.test_signals(RATE, RATE))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_fft": 8192, "hop": 5000},
        {"n_fft": 1000, "hop": 300},
        {"n_fft": 513, "hop": 700, "mels": 20},
        {**CED, "sample_rate": 16_000},
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", [9_999, 16_000])
def test_the_front_ends_for_export_equal_logmel(settings, samples):
    waves = torch.from_numpy(sounds(2, 1.0))[:, :samples]
    of = LogMel(**settings)
    expected = of(waves)
    for front_end in (FixedFrontEnd(of), FrontEnd(of)):
        torch.testing.assert_close(front_end(waves), expected, atol=2e-3, rtol=0)


def test_a_loud_clip_has_a_floor_in_every_front_end_of_ced():
    wave = torch.zeros(2, 16_000)
    wave[0, 8_000:8_600] = torch.sin(torch.arange(600) * 1.0)
    of = LogMel(16_000, **CED)
    expected = of(wave)
    assert expected[0].min() == expected[0].max() - 120 > -100
    assert expected[1].unique() == -100
    for front_end in (FixedFrontEnd(of), FrontEnd(of)):
        torch.testing.assert_close(front_end(wave), expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize("frames", [16, 17, 40, 101])
def test_fixed_pools_compute_the_same_network(frames):
    original = network()
    x = logmel()(torch.from_numpy(sounds(3, 1.0)))[:, :1].repeat(1, frames, 1) + torch.randn(3, frames, 16)
    fixed = FixedCnn10(original, frames).eval()
    with torch.no_grad():
        torch.testing.assert_close(fixed(x), original(x), atol=1e-4, rtol=1e-4)


def test_a_clip_too_short_for_the_pools_is_refused():
    with pytest.raises(ValueError, match="15 frames of 16 mels"):
        FixedCnn10(network(), 15)


def test_the_exported_program_pools_with_constant_sizes(tmp_path):
    source = Source(network(), about(), "features")
    source.save(tmp_path / "program.pt2")
    program = torch.export.load(tmp_path / "program.pt2")
    used = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {"aten.max_pool2d.default", "aten.avg_pool2d.default"} <= used
    assert not any(name.startswith(("aten.mean", "aten.amax", "aten.batch_norm")) for name in used)
    (found,) = program.module()(features=torch.zeros(source.shape)).values()
    assert found.shape == (1, len(CLASSES))


@pytest.mark.parametrize("name", ["litert", "executorch", "sherpa"])
def test_a_target_that_is_not_set_up_names_the_command(tmp_path, monkeypatch, name):
    monkeypatch.setenv("AUDIONAS_DEPLOY", str(tmp_path))
    of = {**about(), "settings": {**about()["settings"], "features": CED}} if name == "sherpa" else about()
    net = Cnn10(len(CLASSES), 4, mels=64).eval() if name == "sherpa" else network()
    for _ in range(2):
        with pytest.raises(UserError, match=f"{name} is not installed.*run `make deploy-{name}`"):
            registry.exporter(name)(net, of, tmp_path / "out")
        (tmp_path / name / "bin").mkdir(parents=True, exist_ok=True)  # a set-up that was killed
    assert files(tmp_path) == [name]


def test_a_failed_script_shows_its_error(tmp_path, monkeypatch):
    script = "print('converting', file=sys.stderr); raise NotImplementedError('aten.grid_sampler_2d')"
    monkeypatch.setenv("AUDIONAS_DEPLOY", str(make_up(tmp_path / "env", "litert", script)))
    with pytest.raises(UserError, match=r"(?s)litert: the script failed.*aten\.grid_sampler_2d"):
        litert.export(network(), about(), tmp_path / "out.tflite")
    assert files(tmp_path) == ["env"]


def test_a_script_that_hangs_is_stopped_with_its_children(tmp_path, monkeypatch):
    script = "import subprocess; subprocess.run(['sh', '-c', 'sleep 60; touch ' + str(folder / 'late')])"
    monkeypatch.setenv("AUDIONAS_DEPLOY", str(make_up(tmp_path / "env", "litert", script)))
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"took more than 0\.5 s and was stopped"):
        environments.run_driver("litert", tmp_path, {}, seconds=0.5)
    assert time.monotonic() - begun < 30


def test_scripts_are_isolated_from_this_environment(tmp_path, monkeypatch):
    script = """
report = {"flags": sys.argv[1:], "python": [k for k in os.environ if k.startswith("PYTHONP")],
          "path": os.environ["PATH"].split(os.pathsep)[0]}
(folder / "report.json").write_text(json.dumps(report))
"""
    made = make_up(tmp_path / "env", "litert", script)
    monkeypatch.setenv("AUDIONAS_DEPLOY", str(made))
    monkeypatch.setenv("PYTHONPATH", "/nonexistent")
    report = environments.run_driver("litert", tmp_path, {"a": 1})
    assert report["flags"][0] == "-I" and Path(report["flags"][1]).name == "litert.py"
    assert report["python"] == [] and report["path"] == str(made / "litert" / "bin")
    assert json.loads((tmp_path / "job.json").read_text()) == {"a": 1}


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch, right, module):
    wrong = right.copy()
    wrong[-1, -1] += 2e-4
    for i, (answer, message) in enumerate(
        [
            (wrong, "largest difference .* above"),
            (right[:, 1:], r"\(6, 3\) values"),
            (right * np.nan, "finite"),
        ]
    ):
        made = answering(tmp_path / f"env{i}", module.NAME, answer)
        monkeypatch.setenv("AUDIONAS_DEPLOY", str(made))
        with pytest.raises(UserError, match=f"not written.*{message}"):
            module.export(network(), about(), tmp_path / "out")
    assert not [name for name in files(tmp_path) if not name.startswith("env")]


@pytest.mark.parametrize("module", MODULES)
def test_labels_and_metadata_lie_beside_the_file(tmp_path, monkeypatch, right, module):
    made = answering(tmp_path / "env", module.NAME, right)
    monkeypatch.setenv("AUDIONAS_DEPLOY", str(made))
    of = about(names=["Dog", "Cat\nand\x1b", "Rain", "Wind"], thresholds=[0.1, 0.2, 0.3, 0.4])
    report = module.export(network(), of, tmp_path / "out.bin", source_sha256="00")
    assert files(tmp_path) == ["env", "out.bin", "out.bin.json", "out.bin.labels.txt"]
    assert (tmp_path / "out.bin.labels.txt").read_text().splitlines() == [
        "Dog",
        r"Cat and\x1b",
        "Rain",
        "Wind",
    ]
    metadata = json.loads((tmp_path / "out.bin.json").read_text())
    assert metadata["about"] == of and metadata["from_sha256"] == "00" and metadata["input"] == "waveform"
    assert metadata["samples"] == RATE and metadata["parity"]["largest"] < 1e-6
    assert "out.bin: 5 bytes" in report["text"]


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (None, "--calibration"),
        (np.zeros((0, RATE), np.float32), "--calibration"),
        (np.zeros((3, RATE), np.float32), "silent"),
        (np.full((3, 101, 16), -100, np.float32), "silent"),
        (np.ones((3, 7), np.float32), r"shape \(7,\), but the network takes \(101, 16\)"),
    ],
)
def test_clips_that_int8_cannot_be_calibrated_on(tmp_path, monkeypatch, right, clips, message):
    monkeypatch.setenv("AUDIONAS_DEPLOY", str(answering(tmp_path / "env", "litert", right)))
    with pytest.raises(UserError, match=message):
        litert.export(network(), about(), tmp_path / "out", quantized=True, calibration=clips)
    assert files(tmp_path) == ["env"]


def test_what_a_target_does_not_support_is_refused(tmp_path, monkeypatch, right):
    monkeypatch.setenv("AUDIONAS_DEPLOY", str(answering(tmp_path / "env", "executorch", right)))
    for module, message in ((executorch, "--format litert-int8"), (sherpa, "--format onnx-int8")):
        with pytest.raises(UserError, match=message):
            module.export(network(), about(), tmp_path / "out", quantized=True)
    with pytest.raises(UserError, match="input 'mfcc'"):
        executorch.export(network(), about(), tmp_path / "out", input="mfcc")
    of_waveforms = {**about(), "settings": {"audio": about()["settings"]["audio"]}}
    with pytest.raises(UserError, match="input 'features'"):
        executorch.export(network(), of_waveforms, tmp_path / "out", input="features")


class Unexportable(nn.Module):
    """A network whose graph depends on values."""

    def forward(self, x):
        return x[:, :4, 0] if x.mean() > 0 else x[:, 1:5, 0]


def test_a_network_that_cannot_be_exported_is_named(tmp_path, monkeypatch, right):
    monkeypatch.setenv("AUDIONAS_DEPLOY", str(answering(tmp_path / "env", "executorch", right)))
    with pytest.raises(UserError, match="out: the network cannot be exported: "):
        executorch.export(Unexportable(), about(), tmp_path / "out")


def test_sherpa_refuses_other_front_ends_and_folders(tmp_path):
    with pytest.raises(
        UserError, match=r"mels 16 instead of 64.*front_end panns instead of ced.*profiles/sherpa"
    ):
        sherpa.export(network(), about(), tmp_path / "out")
    of_waveforms = {**about(), "settings": {"audio": about()["settings"]["audio"]}}
    with pytest.raises(UserError, match="takes waveforms"):
        sherpa.export(network(), of_waveforms, tmp_path / "out")
    of = {**about(), "settings": {**about()["settings"], "features": CED}}
    (tmp_path / "out").mkdir()
    for there in (["model.onnx"], ["model.onnx", "thesis.txt"]):  # a model of another program has this name
        (tmp_path / "out" / there[-1]).touch()
        with pytest.raises(UserError, match="is not an exported folder"):
            sherpa.export(Cnn10(4, 4, mels=64).eval(), of, tmp_path / "out")
        assert files(tmp_path / "out") == there


@pytest.mark.slow
def test_the_file_for_sherpa_takes_mels_first_and_short_clips(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    of = {**about(), "settings": {**about()["settings"], "features": CED}}
    torch.manual_seed(0)
    net = Cnn10(4, 4, mels=64).eval()
    session = onnxruntime.InferenceSession(sherpa._onnx(net, of, tmp_path))
    (given,), (got,) = session.get_inputs(), session.get_outputs()
    assert given.shape[1] == 64 and got.shape[1] == 4
    x = LogMel(16_000, **CED)(torch.from_numpy(sounds(1, 1.0)))
    for frames in (100, 16, 5, 1):
        (found,) = session.run(None, {given.name: x[:, :frames].transpose(1, 2).numpy()})
        padded = torch.full((1, max(frames, 16), 64), -100.0)
        padded[:, :frames] = x[:, :frames]
        with torch.no_grad():
            np.testing.assert_allclose(found, net(padded).sigmoid().numpy(), atol=1e-5)


def test_labels_for_sherpa_keep_the_name_between_quotes():
    text = sherpa._labels(["/m/1", "a,b"], ['Dog "big"', "Cat, small"])
    assert text.splitlines() == ["index,mid,display_name", '0,/m/1,"Dog "big""', '1,a b,"Cat, small"']


def test_the_environment_is_also_found_beside_the_repository(monkeypatch, tmp_path):
    monkeypatch.delenv("AUDIONAS_DEPLOY", raising=False)
    monkeypatch.chdir(tmp_path)
    made = make_up(tmp_path / ".deploy", "litert", "")
    assert environments.python_of("litert") == made / "litert" / "bin" / "python"
    monkeypatch.setattr(environments, "_ROOT", tmp_path)
    (tmp_path / "pipelines").mkdir()
    monkeypatch.chdir(tmp_path / "pipelines")
    assert environments.python_of("litert").samefile(made / "litert" / "bin" / "python")
