"""The largest products of uint8 and int8: two of them exceed 16 bits. Run as a script, it prints JSON."""

import json

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from audionas.deploy.onnx_files import session_options

CHANNELS = 16


def graph(kind: str) -> bytes:
    """Return a layer in QDQ form with all activations 255 and all weights 127, and so all outputs alike."""
    shape = (CHANNELS, CHANNELS, 3, 3) if kind == "Conv" else (CHANNELS, CHANNELS)
    total = np.prod(shape[1:])
    values = {
        "x_scale": np.float32(1 / 255),
        "zero": np.uint8(0),
        "weight": np.full(shape, 127, np.int8),
        "weight_scale": np.full(CHANNELS, 1 / 127, np.float32),
        "weight_zero": np.zeros(CHANNELS, np.int8),
        "y_scale": np.float32(total / 255),
    }
    layer = helper.make_node(kind, ["x_", "w_"], ["y"], **({} if kind == "Conv" else {"transB": 1}))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "zero"], ["x_"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w_"], axis=0),
        layer,
        helper.make_node("QuantizeLinear", ["y", "y_scale", "zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "y_scale", "zero"], ["out"]),
    ]
    inside = [1, CHANNELS, 8, 8] if kind == "Conv" else [4, CHANNELS]
    outside = [1, CHANNELS, 6, 6] if kind == "Conv" else [4, CHANNELS]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, of)
        for name, of in (("x", inside), ("out", outside))
    ]
    arrays = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    whole = helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


def measure() -> dict[str, dict[str, float]]:
    """Return the output of each kind of layer in a default session, in ours, and in exact arithmetic."""
    found = {}
    for kind, total in (("Conv", CHANNELS * 9), ("Gemm", CHANNELS)):
        default = onnxruntime.SessionOptions()
        default.log_severity_level = 4
        sessions = {"default": default, "ours": session_options(), "exact": session_options(optimize=False)}
        found[kind] = {"expected": float(total)}
        for name, options in sessions.items():
            session = onnxruntime.InferenceSession(graph(kind), options, providers=["CPUExecutionProvider"])
            ones = np.ones(session.get_inputs()[0].shape, np.float32)
            found[kind][name] = float(session.run(None, {"x": ones})[0].min())
    return found


if __name__ == "__main__":
    print(json.dumps(measure()))
