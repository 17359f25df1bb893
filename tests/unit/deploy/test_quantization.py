"""int8 ONNX: integer layers, close to float32, in exact arithmetic and with the kernels of the machine."""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import saturation
import torch
from exported import about, logmel, network, sounds
from onnx import TensorProto, helper, numpy_helper

from audionas.compression.quantization import quantize
from audionas.deploy import onnx_files
from audionas.deploy.onnx_files import OnnxModel
from audionas.runtime.errors import UserError

pytestmark = pytest.mark.slow  # each exports a network


@pytest.fixture(scope="module")
def graphs():
    """The float32 graph of features, its int8 form, and the shortest input."""
    graph, shortest = onnx_files.network_graph(network(), about())
    return graph, quantize(graph, features(8)), shortest


def features(batches, seed=0):
    """Yield log-mel of noise at several levels."""
    for number in range(batches):
        yield logmel()(torch.from_numpy(sounds(4, 1.0, seed + number))).numpy()


def model_of(graph, shortest, quantized, exact=False, kind="features"):
    complete = onnx_files.completed(graph, about(), shortest, kind, quantized=quantized)
    return OnnxModel("test", content=onnx_files.encoded(complete), exact=exact)


def test_int8_is_close_to_float32_in_exact_arithmetic_and_on_this_machine(graphs):
    graph, int8, shortest = graphs
    whole = model_of(graph, shortest, False)
    for x in features(4, seed=100):
        expected = whole.probabilities(x)
        for exact in (True, False):
            found = model_of(int8, shortest, True, exact).probabilities(x)
            assert 0 < np.abs(found - expected).mean() < 0.02
            assert np.abs(found - expected).max() < 0.2


def test_the_front_end_of_int8_stays_in_float32_and_any_length_works(graphs):
    _, int8, shortest = graphs
    complete = onnx_files.completed(int8, about(), shortest, "waveform", quantized=True)
    heard = OnnxModel("test", content=onnx_files.encoded(complete))
    assert heard.quantized
    for seconds in (0.2, 3):
        waveforms = sounds(3, seconds)
        x = logmel()(torch.from_numpy(waveforms)).numpy()
        found = heard.probabilities(waveforms)
        # A difference of 1e-5 dB may round to another level of the input.
        assert np.abs(found - model_of(int8, shortest, True).probabilities(x)).max() < 0.02
    quantizers = ("QuantizeLinear", "DequantizeLinear")
    assert not [
        n.name for n in complete.graph.node if n.name.startswith("front_end/") and n.op_type in quantizers
    ]


def test_weights_are_int8_with_a_scale_for_each_channel(graphs):
    _, int8, _ = graphs
    values = {one.name: numpy_helper.to_array(one) for one in int8.graph.initializer}
    makers = {node.output[0]: node for node in int8.graph.node}
    layers = [node for node in int8.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 10  # eight convolutions and the head
    for layer in layers:
        weight, scale = (values[name] for name in makers[layer.input[1]].input[:2])
        assert weight.dtype == np.int8 and scale.shape == (weight.shape[0],)
        assert makers[layer.input[0]].op_type == "DequantizeLinear"
        assert (np.abs(weight.astype(int)).reshape(len(weight), -1).max(axis=1) == 127).all()


def test_equal_clips_give_equal_bytes(graphs):
    graph, int8, _ = graphs
    assert onnx_files.encoded(quantize(graph, features(8))) == onnx_files.encoded(int8)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "no calibration clip"),
        ([np.full((2, 101, 16), -100.0)] * 3, "all calibration clips are silent"),
        ([np.full((2, 101, 16), np.nan)], "not finite"),
    ],
)
def test_calibration_clips_that_cannot_be_used_are_refused(graphs, batches, said):
    with pytest.raises(UserError, match=said):
        quantize(graphs[0], batches)


def test_one_silent_clip_among_others_is_accepted(graphs):
    quantize(graphs[0], [np.full((1, 101, 16), -100.0), *features(1)])


def test_a_graph_without_layers_is_refused():
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    with pytest.raises(UserError, match="no layer of Conv, Gemm, MatMul"):
        quantize(helper.make_model(graph), [np.ones((1, 4))])


def without_vnni() -> list[str] | None:
    """Return a command for Python on an x86 processor without VNNI: this one, or an emulated Haswell."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    information = Path("/proc/cpuinfo")
    if information.exists() and "vnni" not in information.read_text():
        return [sys.executable]
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    return [emulator, "-cpu", "Haswell", str(Path(sys.executable).resolve())] if emulator else None


def test_default_session_saturates_without_vnni_and_ours_does_not():
    command = without_vnni()
    if command is None:
        pytest.skip("this processor has VNNI (or is no x86), and qemu-user is not installed")
    environment = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [*command, saturation.__file__],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=True,
    )
    for kind, found in json.loads(ran.stdout).items():
        assert found["default"] < 0.6 * found["expected"], kind
        assert found["ours"] == found["exact"] == pytest.approx(found["expected"], rel=0.01), kind


def test_largest_products_are_exact_in_our_session_on_this_machine():
    for kind, found in saturation.measure().items():
        assert found["ours"] == found["exact"] == pytest.approx(found["expected"], rel=0.01), kind
