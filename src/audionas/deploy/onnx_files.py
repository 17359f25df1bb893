"""ONNX files: export of a network with its front end, and their use through ONNX Runtime.

A file maps `waveform` float32 [batch, samples], at the rate of the model and in -1..1, to `probabilities`
float32 [batch, classes]; batch and length are dynamic. With `input="features"` it maps `features` [batch,
frames, mels], log-mel in dB. The metadata `audionas` are JSON; `classes`, `names`, `thresholds`,
`sample_rate`, `clip_seconds` and `version` are there again for other readers.
"""

from __future__ import annotations

import json
import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import audionas
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.extras import optional
from audionas.runtime.files import UnfitFileError, atomic_write, read_bounded
from audionas.runtime.text import line
from audionas.settings.audio import Audio, Features, check_front_end

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from audionas.deploy.waveform import Described

FORMAT = 1
OPSET = 18  # the least that PyTorch's exporter writes
_IR = 8  # the version of the file format that came with this opset, in ONNX 1.13 (2022)
INPUTS = ("waveform", "features")
OUTPUT = "probabilities"
KEY = "audionas"
_LARGEST = 2 << 30  # bytes; protobuf's limit
_ALL = 1 << 40
_LONGEST = 100_000_000  # samples of a clip, as in params.yaml
_ROUNDING = 1e-5  # above 1
_FEW = (
    64  # values of a constant that the exporter computes for the front end; ONNX Runtime computes larger ones
)

#: Serialized front ends by their settings.
_FRONT_ENDS: dict[str, bytes] = {}


def export_onnx(
    network: nn.Module,
    about: dict[str, Any],
    path: str | Path,
    input: str = "waveform",
    source_sha256: str | None = None,
) -> None:
    """Write a network in eval mode to an ONNX file. Equal arguments give equal bytes.

    `audionas.deploy.parity` compares such a file with the network; `audionas export` does both.

    Args:
        network: maps features (or waveforms, if `about` has no features) to logits.
        about: metadata of the model file.
        path: the file.
        input: `waveform`, with the front end inside, or `features`.
        source_sha256: digest of the model file, recorded in the metadata.

    Raises:
        UserError: the metadata are incomplete, or an operator cannot be exported.
    """
    write(build(network, about, input, source_sha256, where=path), path)


def build(
    network: nn.Module,
    about: dict[str, Any],
    input: str = "waveform",
    source_sha256: str | None = None,
    where: object = "model",
) -> onnx.ModelProto:
    """Return the ONNX model that `export_onnx` writes.

    Args:
        network, about, input, source_sha256: as `export_onnx`.
        where: name of the model in messages.
    """
    model, shortest = network_graph(network, about, where)
    return completed(model, about, shortest, input, source_sha256, where=where)


def network_graph(
    network: nn.Module, about: dict[str, Any], where: object = "model"
) -> tuple[onnx.ModelProto, int]:
    """Return the graph of network and activation, and the shortest input: frames, or samples.

    BatchNorm is part of the convolutions before it. The graph of a network without features has the input
    `waveform`, any other `features`.
    """
    from audionas.deploy.waveform import Described, Probabilities, shortest_input

    described = Described.of(about, where)
    network = network.eval()
    shortest = shortest_input(network, described)
    kind, dimension = ("waveform", "samples") if described.features is None else ("features", "frames")
    module = Probabilities(network, described.task)
    shape = described.features_of(2 * shortest + 3, batch=2)
    graph = _graph(module, shape, (kind, OUTPUT), {0: ("batch", 1), 1: (dimension, shortest)}, where)
    return graph, shortest


def front_end_graph(described: Described, where: object = "model") -> onnx.ModelProto:
    """Return the graph of a front end: `waveform` to `features`. Equal settings are exported once."""
    key = described.audio.model_dump_json() + described.features.model_dump_json()
    import onnx

    if key not in _FRONT_ENDS:
        _FRONT_ENDS[key] = _front_end_graph(described, where).SerializeToString()
    return onnx.ModelProto.FromString(_FRONT_ENDS[key])


def _front_end_graph(described: Described, where: object) -> onnx.ModelProto:
    reach, hop = described.features.n_fft // 2, described.features.hop
    dynamic = {0: ("batch", 1), 1: ("samples", reach + 1)}
    shape = (2, 2 * reach + 3 * hop + 1)
    return _graph(described.front_end(compact=True), shape, ("waveform", "features"), dynamic, where, _FEW)


def completed(
    model: onnx.ModelProto,
    about: dict[str, Any],
    shortest: int,
    input: str = "waveform",
    source_sha256: str | None = None,
    quantized: bool = False,
    where: object = "model",
) -> onnx.ModelProto:
    """Return the graph of a network with metadata, and with the front end if the input is to be `waveform`.

    Args:
        model, shortest: as from `network_graph`; the graph may be quantized.
        about, input, source_sha256, where: as `export_onnx`.
        quantized: whether it is, for the metadata.
    """
    import onnx

    from audionas.deploy.waveform import Described

    described = Described.of(about, where)
    if input not in INPUTS or (input == "features" and described.features is None):
        raise UserError(f"{where}: input {input!r}: the input of this network is one of waveform, features")
    if input == "waveform" and described.features is not None:
        before = front_end_graph(described, where)
        model = onnx.compose.merge_models(
            onnx.compose.add_prefix(before, "front_end/", rename_inputs=False, rename_outputs=False),
            model,
            io_map=[("features", "features")],
            outputs=[OUTPUT],
        )
        shortest = described.samples_of(shortest)
    else:
        model = onnx.ModelProto.FromString(model.SerializeToString())
    model.ir_version, model.producer_name, model.producer_version = _IR, KEY, audionas.__version__
    model.graph.name = KEY
    onnx.helper.set_model_props(model, _metadata(about, described, input, quantized, shortest, source_sha256))
    onnx.checker.check_model(model, full_check=True)
    return model


def encoded(model: onnx.ModelProto) -> bytes:
    """Return the bytes of an ONNX file."""
    return model.SerializeToString(deterministic=True)


def write(model: onnx.ModelProto, path: str | Path) -> None:
    """Write an ONNX model. Raises UserError if the file cannot be written."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(encoded(model))
    except OSError as error:
        raise os_error(error, path) from None


def annotate(model: onnx.ModelProto, **values: Any) -> None:
    """Add plain values to the JSON of a model's metadata."""
    for entry in model.metadata_props:
        if entry.key == KEY:
            entry.value = _json(json.loads(entry.value) | values)


def _metadata(about, described, input, quantized, shortest, source_sha256) -> dict[str, str]:
    made = {"version": audionas.__version__, "opset": OPSET, "from_sha256": source_sha256}
    made["torch"] = version("torch").partition("+")[0]  # builds for CPU and GPU export alike
    content = {
        "format": FORMAT,
        "about": about,
        "input": input,
        "quantized": quantized,
        "shortest": shortest,
        "made": made,
    }
    plain = {
        "classes": _json(described.classes),
        "sample_rate": str(described.audio.sample_rate),
        "clip_seconds": f"{described.audio.clip_seconds:g}",
        "shortest": str(shortest),
        "version": made["version"],
    }
    plain |= {key: _json(about[key]) for key in ("names", "thresholds") if key in about}
    return {KEY: _json(content), **plain}


def _json(value: Any) -> str:
    """Return JSON; numbers that are not finite, which it lacks, become null."""
    return json.dumps(_finite(value), sort_keys=True, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _graph(
    module: nn.Module,
    shape: tuple[int, ...],
    names: tuple[str, str],
    dynamic: dict[int, tuple[str, int]],
    where: object,
    folded: int = _ALL,
) -> onnx.ModelProto:
    """Export a module.

    Args:
        module: in eval mode.
        shape: of an example input.
        names: of input and output.
        dynamic: name and least size of each dynamic axis. An axis that the module fixes is an error.
        where: for messages.
        folded: most values of a constant that is computed here; a runtime computes larger ones.
    """
    import torch

    with optional(str(where)):
        import onnxscript.optimizer

    sizes = {axis: torch.export.Dim(name, min=least) for axis, (name, least) in dynamic.items()}
    with _quiet(), torch.inference_mode():
        try:
            program = torch.onnx.export(
                module.eval(),
                (torch.zeros(shape),),
                dynamo=True,
                opset_version=OPSET,
                input_names=names[:1],
                output_names=names[1:],
                dynamic_shapes=(sizes,),
                optimize=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise UserError(f"{where}: {_why(error)}") from None
        onnxscript.optimizer.optimize_ir(program.model, input_size_limit=folded, output_size_limit=folded)
    model = program.model_proto
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    ):
        del part.metadata_props[:]  # paths and stack traces of this machine
        part.doc_string = ""
    del graph.value_info[:]
    sizes_of_input = graph.input[0].type.tensor_type.shape.dim
    for axis, (name, _) in dynamic.items():
        # PyTorch's exporter fixes an axis without an error if Python code depends on its size.
        if sizes_of_input[axis].dim_param != name:
            raise UserError(
                f"{where}: the network fixes the number of {name} in the export; its `forward` must not loop "
                "or branch on a size"
            )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress notes of the exporter on its steps and on packages that it does not need."""
    names = ("torch.onnx", "torch.utils.flop_counter", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _why(error: BaseException) -> str:
    """Return which operator or line of a network the exporter refuses."""
    cause: BaseException | None = error
    while cause is not None:
        if found := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(cause)):
            return (
                f"the operator {found[1]} cannot be exported to ONNX; replace it in the network's `forward`, "
                "or export another network"
            )
        last, cause = cause, cause.__cause__
    why = line((str(last).strip() or type(last).__name__).splitlines()[0])
    return f"the network cannot be exported to ONNX with dynamic batch and length: {why}"


class OnnxModel:
    """An ONNX file of this package, run by ONNX Runtime on the CPU.

    Args:
        path: the file.
        threads: threads of a run.
        content: the bytes of the file, if they are in memory; `path` is then a name for messages.
        exact: run quantized layers in float32 on the quantized values, without the integer kernels of the
            machine, to measure their effect. It is slow.

    Attributes:
        about: metadata of the model file that the network comes from.
        input: `waveform` or `features`.
        quantized: whether the weights are int8.
        shortest: fewest samples (for features: frames) of an input.
        metadata: all of the JSON in the file.

    Raises:
        UserError: the file is missing, damaged, or not from `audionas export`; or onnxruntime is missing.
    """

    def __init__(self, path: str | Path, threads: int = 1, content: bytes | None = None, exact: bool = False):
        self.path = Path(path)
        with optional(str(path)):
            import onnxruntime
        if content is None:
            content = _read(self.path)
        try:
            self._session = onnxruntime.InferenceSession(
                content, session_options(threads, optimize=not exact), providers=["CPUExecutionProvider"]
            )
            properties = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # onnxruntime raises many kinds for a damaged file
            raise UserError(
                f"{path}: damaged or not an ONNX file ({_first_line(error)}); make it with `audionas export`"
            ) from None
        self.metadata = _checked(properties.get(KEY), self._session, path)
        self.about: dict[str, Any] = self.metadata["about"]
        self.input: str = self.metadata["input"]
        self.quantized: bool = self.metadata["quantized"]
        self.shortest: int = self.metadata["shortest"]

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Return the probabilities, float32 [batch, classes].

        Args:
            x: waveforms [batch, samples] in -1..1, or features [batch, frames, mels]; see `input`.

        Raises:
            UserError: the input is shorter than `shortest`, the graph fails, or gives no probabilities.
            ValueError: the input has another shape.
        """
        x = np.ascontiguousarray(x, np.float32)
        axes = self._session.get_inputs()[0].shape
        if x.ndim != len(axes) or [*x.shape[2:]] != axes[2:] or not len(x):
            form = ", ".join(map(str, axes))
            raise ValueError(f"{self.input} of shape {x.shape}; give [{form}]")
        if x.shape[1] < self.shortest:
            unit = "samples" if self.input == "waveform" else "frames"
            raise UserError(
                f"{self.path}: an input of {x.shape[1]} {unit}, but the network needs at least "
                f"{self.shortest}; give a longer recording, or pad it with zeros"
            )
        try:
            found = self._session.run([OUTPUT], {self.input: x})[0]
        except Exception as error:  # onnxruntime raises many kinds
            raise UserError(
                f"{self.path}: ONNX Runtime cannot run it on {self.input} {x.shape} ({_first_line(error)}); "
                "make it with `audionas export`"
            ) from None
        classes = len(self.about["classes"])
        if found.shape != (len(x), classes) or not ((found >= 0) & (found <= 1 + _ROUNDING)).all():
            raise UserError(
                f"{self.path}: its output is no probability from 0 to 1 per class; make it with `audionas "
                "export`"
            )
        return found


def session_options(threads: int = 1, optimize: bool = True):
    """Return options of an ONNX Runtime session with exact int8 products.

    On x86 processors without VNNI, a default session adds two products of int8 in 16 bits and saturates
    silently. `session.x64quantprecision` selects kernels that do not. It has no effect elsewhere.

    Args:
        threads: threads of a run.
        optimize: False runs the graph as it is: quantized layers in float32, on the quantized values.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised; do not print them as well
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, _LARGEST)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `audionas export`") from None
    except UnfitFileError as error:
        raise UserError(f"{path}: {error}; give a file that `audionas export` made") from None
    except OSError as error:
        raise os_error(error, path) from None


def _checked(text: str | None, session, path: str | Path) -> dict[str, Any]:
    """Return the metadata of a file. Raises UserError if they are not as `completed` writes them."""
    remedy = "make it with `audionas export`"
    if text is None:
        raise UserError(f"{path}: an ONNX file of another program; {remedy}")
    try:
        content = json.loads(text)
        form = content["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{path}: the metadata are damaged; {remedy}") from None
    if form != FORMAT:
        raise UserError(
            f"{path}: of format {form!r:.20}, but this program reads format {FORMAT}; {remedy} again"
        )
    kinds = {"about": dict, "input": str, "quantized": bool, "shortest": int, "made": dict}
    inputs = [value.name for value in session.get_inputs()]
    outputs = [(value.name, value.shape[1:]) for value in session.get_outputs()]
    classes = content["about"].get("classes") if isinstance(content.get("about"), dict) else None
    if (
        any(not isinstance(content.get(key), kind) for key, kind in kinds.items())
        or inputs != [content["input"]]
        or content["input"] not in INPUTS
        or not isinstance(classes, list)
        or outputs != [(OUTPUT, [len(classes)])]
    ):
        raise UserError(f"{path}: the metadata do not fit the graph; {remedy}")
    try:
        settings = content["about"]["settings"]
        audio = Audio.model_validate(settings["audio"])
        if settings.get("features") is not None:
            check_front_end(audio, Features.model_validate(settings["features"]))
        if not 0 < content["shortest"] <= audio.clip_samples or audio.clip_samples > _LONGEST:
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: the settings of the audio in its metadata are missing or out of range; {remedy}"
        ) from None
    return content


def _first_line(error: Exception) -> str:
    return line((str(error).strip() or type(error).__name__).splitlines()[0])
