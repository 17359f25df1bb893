"""ONNX files: equal to PyTorch at any length and batch, the same bytes each time, and refusals."""

import json
import sys

import numpy as np
import onnx
import pytest
import torch
from exported import CLASSES, RATE, about, logmel, network, sounds
from onnx import TensorProto, helper
from small import randomise
from torch import nn

from audionas.audio.logmel import LogMel
from audionas.deploy.onnx_files import OnnxModel, export_onnx, network_graph
from audionas.models.cnn10 import Cnn10
from audionas.runtime.errors import UserError
from audionas.tasks import MULTI_LABEL

pytestmark = pytest.mark.slow  # each exports a network

EXTRA = {"names": ["Dog", "Cat", "Rain", "Wind; loud"], "thresholds": [0.5, 0.25, 0.5, 0.75]}
NOT_A_NUMBER = {"valid_mAP": float("nan")}  # JSON lacks it


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network, and the path of its ONNX file."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(network(), about(**EXTRA, **NOT_A_NUMBER), path, source_sha256="ab" * 32)
    return network(), path


def in_pytorch(of: nn.Module, waveforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and probabilities by LogMel and the network."""
    with torch.inference_mode():
        logits = of(logmel()(torch.from_numpy(waveforms)))
    return logits.numpy(), MULTI_LABEL.activation(logits).numpy()


@pytest.mark.parametrize("seconds", [0.2, 1, 3, 10, 20])
@pytest.mark.parametrize("batch", [1, 3])
def test_probabilities_equal_pytorch_at_every_length_and_batch(exported, seconds, batch):
    of, path = exported
    waveforms = sounds(batch, seconds)
    logits, expected = in_pytorch(of, waveforms)
    found = OnnxModel(path).probabilities(waveforms)
    assert found.shape == expected.shape and found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert batch == 1 or np.ptp(expected, axis=0).max() > 0.1  # the sounds differ
    assert np.abs(np.log(found / (1 - found)) - logits).max() < 1e-3


def test_the_shortest_input_is_that_of_pytorch(exported):
    of, path = exported
    model = OnnxModel(path)
    in_pytorch(of, sounds(1, 1)[:, : model.shortest])
    assert np.isfinite(model.probabilities(sounds(1, 1)[:, : model.shortest])).all()
    with pytest.raises(RuntimeError):
        in_pytorch(of, sounds(1, 1)[:, : model.shortest - 1])
    with pytest.raises(UserError, match="at least 2400"):
        model.probabilities(sounds(1, 1)[:, : model.shortest - 1])
    for wrong in (sounds(1, 1)[0], sounds(1, 1)[:0], sounds(1, 1)[None]):
        with pytest.raises(ValueError, match="give \\[batch, samples\\]"):
            model.probabilities(wrong)


def test_metadata_are_those_of_the_model_file(exported):
    model = OnnxModel(exported[1])
    assert model.about == about(**EXTRA, valid_mAP=None)
    assert (model.input, model.quantized) == ("waveform", False)
    assert model.metadata["made"]["from_sha256"] == "ab" * 32
    assert model.metadata["made"]["opset"] == 18
    properties = {p.key: p.value for p in onnx.load(exported[1]).metadata_props}
    assert json.loads(properties["classes"]) == CLASSES
    assert json.loads(properties["names"]) == EXTRA["names"]
    assert json.loads(properties["thresholds"]) == EXTRA["thresholds"]
    assert b"NaN" not in exported[1].read_bytes() and model.about["valid_mAP"] is None
    assert (properties["sample_rate"], properties["clip_seconds"]) == (str(RATE), "1")


def test_weights_and_biases_of_wide_layers_are_constants():
    torch.manual_seed(0)
    wide = Cnn10(4, 16, mels=16)  # up to 128 channels
    randomise(wide)
    graph, _ = network_graph(wide, about())
    constants = {one.name for one in graph.graph.initializer}
    layers = [node for node in graph.graph.node if node.op_type == "Conv"]
    assert len(layers) == 8 and all(len(node.input) == 3 for node in layers)
    assert all(set(node.input[1:]) <= constants for node in layers)


def test_file_is_small_and_holds_no_path_of_this_machine(exported):
    content = exported[1].read_bytes()
    weights = sum(p.numel() * p.element_size() for p in exported[0].parameters())
    assert len(content) < weights + 60_000  # matrices of the front end are computed when it is loaded
    assert b".py" not in content and b"site-packages" not in content


class Waveforms(nn.Module):
    """A network of waveforms."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(1, 6, 64, stride=32), nn.Linear(6, 4)

    def forward(self, x):
        return 10 * self.head(self.conv(x[:, None]).relu().mean(dim=2))


def test_single_label_network_of_waveforms(tmp_path):
    torch.manual_seed(0)
    of = Waveforms().eval()
    settings = {"audio": about()["settings"]["audio"], "features": None}
    export_onnx(of, about(settings=settings, task="single-label"), tmp_path / "a.onnx")
    model = OnnxModel(tmp_path / "a.onnx")
    assert model.shortest == 64
    for seconds in (0.01, 1, 3):
        waveforms = sounds(3, seconds)
        with torch.inference_mode():
            expected = torch.softmax(of(torch.from_numpy(waveforms)), 1).numpy()
        assert np.abs(model.probabilities(waveforms) - expected).max() < 1e-6
    with pytest.raises(UserError, match="input 'features'"):
        export_onnx(of, about(settings=settings), tmp_path / "b.onnx", input="features")
    assert not (tmp_path / "b.onnx").exists()


class Odd(nn.Module):
    """A network with an operator that ONNX lacks."""

    def forward(self, x):
        return torch.kthvalue(x.mean(dim=1), 2, dim=1).values[:, None].expand(-1, 4)


class Looping(nn.Module):
    """A network whose Python code depends on the length, as LogMel's does."""

    def __init__(self):
        super().__init__()
        self.logmel = LogMel(RATE, mels=4, fmax=8000.0)

    def forward(self, x):
        return self.logmel(x[:, :, 0]).mean(dim=1)


@pytest.mark.parametrize(
    ("of", "said"),
    [(Odd(), "operator aten.kthvalue cannot be exported"), (Looping(), "fixes the number of frames")],
)
def test_what_cannot_be_exported_is_named_and_nothing_is_written(of, said, tmp_path):
    with pytest.raises(UserError, match=said):
        export_onnx(of, about(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def foreign(path, metadata=None):
    """Write an ONNX file that is not ours."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)


def test_files_that_cannot_be_used_are_refused(exported, tmp_path):
    content = exported[1].read_bytes()
    path = tmp_path / "a.onnx"

    def refused(said):
        with pytest.raises(UserError, match=said):
            OnnxModel(path)

    refused("no such file")
    for wrong in (b"", content[: len(content) // 2], b"<html></html>" * 9):
        path.write_bytes(wrong)
        refused("damaged or not an ONNX file")
    foreign(path)
    refused("another program")
    foreign(path, {"audionas": "{"})
    refused("metadata are damaged")
    foreign(path, {"audionas": '{"format": 9}'})
    refused("of format 9")
    foreign(path, {"audionas": json.dumps(OnnxModel(exported[1]).metadata)})
    refused("do not fit the graph")
    path.unlink()
    path.mkdir()
    refused("not a regular file")


def test_a_missing_package_is_named(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        UserError, match=r"onnxruntime is not installed; run pip install 'audionas\[deploy\]'"
    ):
        OnnxModel(exported[1])


def test_metadata_without_settings_are_refused(tmp_path):
    with pytest.raises(UserError, match="settings, classes or task are missing"):
        export_onnx(network(), {"classes": CLASSES}, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "changed",
    [
        {"sample_rate": "x"},
        {"sample_rate": 0},
        {"sample_rate": 10**12},
        {"clip_seconds": None},
        {"clip_seconds": 1e9},
        {"min_seconds": -5},
    ],
)
def test_settings_out_of_range_are_refused(exported, tmp_path, changed):
    model = onnx.load(exported[1])
    for entry in model.metadata_props:
        if entry.key == "audionas":
            content = json.loads(entry.value)
            content["about"]["settings"]["audio"] |= changed
            entry.value = json.dumps(content)
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(UserError, match=r"changed\.onnx: the settings of the audio .*audionas export"):
        OnnxModel(tmp_path / "changed.onnx")


@pytest.mark.parametrize(
    "operator, said", [("Div", "no probability"), ("Add", "no probability"), ("Reshape", "cannot run it")]
)
def test_a_graph_that_fails_or_gives_no_probabilities_is_refused(exported, tmp_path, operator, said):
    cut = [
        helper.make_tensor(name, TensorProto.INT64, [1], [of])
        for name, of in zip("sea", (0, 4, 1), strict=True)
    ]
    values = {
        "Div": helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0]),
        "Add": helper.make_tensor("v", TensorProto.FLOAT, [1], [9.0]),
        "Reshape": helper.make_tensor("v", TensorProto.INT64, [2], [7, 4]),
    }
    nodes = [
        helper.make_node("Slice", ["waveform", "s", "e", "a"], ["k"]),
        helper.make_node(operator, ["k", "v"], ["probabilities"]),
    ]
    shape = ["batch", len(CLASSES)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape)],
        [*cut, values[operator]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model.metadata_props.extend(onnx.load(exported[1]).metadata_props)
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=rf"odd\.onnx: .*{said}"):
        OnnxModel(tmp_path / "odd.onnx").probabilities(np.zeros((2, RATE), np.float32))
