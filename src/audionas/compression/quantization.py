"""Static quantization of ONNX graphs to int8, per channel (Krishnamoorthi, 2018), by ONNX Runtime.

Weights are int8 and symmetric, with one scale per output channel. Activations are uint8, with one range per
tensor: the smallest and largest value on the calibration clips. Products are integers. Outputs of linear
layers, global pooling, normalisation and the output activation stay in float32: they are small, and 256
levels of a probability are too few for thresholds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audionas.runtime.errors import UserError
from audionas.runtime.extras import optional

if TYPE_CHECKING:
    import onnx

#: Layers with integer products, and the pooling between them.
PRODUCTS = ("Conv", "Gemm", "MatMul")
POOLS = ("AveragePool", "MaxPool")
_CONSTANT = 1e-4  # of a waveform or in dB: a smaller range holds no sound


def quantize(
    model: onnx.ModelProto, batches: Iterable[np.ndarray], where: object = "model"
) -> onnx.ModelProto:
    """Return a graph with int8 weights and quantized activations, in ONNX's QDQ form.

    Args:
        model: a graph with one input; BatchNorm is part of the convolutions.
        batches: calibration clips, float32 inputs of the graph; training clips, never test clips.
        where: name of the model in messages.

    Raises:
        UserError: there is no calibration clip, all are silent, a value is not finite, or the graph has no
            layer to quantize.
    """
    with optional(str(where)):
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if not any(node.op_type in PRODUCTS for node in model.graph.node):
        raise UserError(f"{where}: no layer of {', '.join(PRODUCTS)} to quantize; export it in float32")
    reader = _Reader(model.graph.input[0].name, batches, where)
    with tempfile.TemporaryDirectory(prefix="audionas-") as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        marked = onnx.ModelProto.FromString(model.SerializeToString())
        onnx.helper.set_model_props(marked, {"onnx.quant.pre_process": "onnxruntime.quant"})  # no advice
        onnx.save(marked, source)
        quantize_static(
            source,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*PRODUCTS, *POOLS, "Relu", "Clip"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )
        reader.require_sound()
        quantized = onnx.load(target)
    del quantized.metadata_props[:], quantized.graph.value_info[:]
    return quantized


class _Reader:
    """Calibration clips, as ONNX Runtime reads them; checks them on the way."""

    def __init__(self, name: str, batches: Iterable[np.ndarray], where: object):
        self._name, self._where = name, where
        self._batches: Iterator[np.ndarray] = iter(batches)
        self._low, self._high = np.inf, -np.inf

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None."""
        batch = next(self._batches, None)
        if batch is None:
            self.require_sound()
            return None
        batch = np.ascontiguousarray(batch, np.float32)
        if not np.isfinite(batch).all():
            raise UserError(
                f"{self._where}: a calibration clip holds values that are not finite; leave it out"
            )
        self._low, self._high = min(self._low, float(batch.min())), max(self._high, float(batch.max()))
        return {self._name: batch}

    def require_sound(self) -> None:
        """Raise UserError unless the clips hold sound: a constant waveform or spectrogram is silence."""
        if self._high == -np.inf:
            raise UserError(f"{self._where}: no calibration clip; give training clips with --calibration")
        if self._high - self._low < _CONSTANT:
            raise UserError(
                f"{self._where}: all calibration clips are silent, so the ranges of int8 would be wrong; "
                "give training clips with sound"
            )
