"""Released networks in PyTorch, and exported to ONNX in float32 and int8: time and size, on one thread."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from audionas.data import paths as data_paths
from audionas.data.store import ClipStore
from audionas.deploy import onnx_files
from audionas.deploy.sounds import load_clips
from audionas.deploy.targets import onnx as target
from audionas.deploy.waveform import Described, Probabilities
from audionas.evaluation.metrics import mean_average_precision
from audionas.evaluation.prediction import predict as predict_in_pytorch
from audionas.models.files import load_model
from benchmarks.timing import interleaved, one_core

RELEASE = Path("models", "release")
REPEATS = 31


def session(model) -> onnxruntime.InferenceSession:
    """Return a session on one thread."""
    return onnxruntime.InferenceSession(
        onnx_files.encoded(model), onnx_files.session_options(), providers=["CPUExecutionProvider"]
    )


def stft_front_end(described: Described):
    """Return a front end with ONNX's operator STFT, for comparison: the usual way to export one."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    logmel = described.logmel()
    reach = logmel.n_fft // 2
    values = {
        "pads": np.array([0, reach, 0, reach]),
        "axis": np.array([2]),
        "hop": np.array(logmel.hop),
        "length": np.array(logmel.n_fft),
        "window": logmel.window.numpy(),
        "last": np.array([-1]),
        "filters": logmel.filters.numpy(),
        "floor": np.array(logmel.FLOOR, np.float32),
        "decibels": np.array(10 / np.log(10), np.float32),
    }
    steps = [
        ("Pad", ["waveform", "pads"], "padded", {"mode": "reflect"}),
        ("Unsqueeze", ["padded", "axis"], "column", {}),
        ("STFT", ["column", "hop", "window", "length"], "spectrum", {"onesided": 1}),
        ("Mul", ["spectrum", "spectrum"], "squares", {}),
        ("ReduceSum", ["squares", "last"], "power", {"keepdims": 0}),
        ("MatMul", ["power", "filters"], "mel", {}),
        ("Max", ["mel", "floor"], "above", {}),
        ("Log", ["above"], "log", {}),
        ("Mul", ["log", "decibels"], "features", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made], **options) for kind, given, made, options in steps],
        "stft",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "frames", "mels"])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx_files.OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def front_end_times(described: Described, wave: np.ndarray) -> dict[str, float]:
    """Return the seconds of front ends for one clip, by name, after a check that they are equal."""
    logmel = described.logmel()
    ours = onnx_files.front_end_graph(described)
    sessions = {"ours": session(ours), "STFT": session(stft_front_end(described))}
    expected = logmel(torch.from_numpy(wave)).numpy()
    for name, one in sessions.items():
        found = one.run(None, {"waveform": wave})[0]
        if np.abs(found - expected).max() > 0.01:
            raise AssertionError(f"the front end {name} differs from LogMel")
    actions = [lambda: logmel(torch.from_numpy(wave))]
    actions += [lambda one=one: one.run(None, {"waveform": wave}) for one in sessions.values()]
    with torch.inference_mode():
        taken = interleaved(*actions, repeats=REPEATS)
    return dict(zip(("PyTorch", *sessions), taken, strict=True))


def network_rows(path: Path, folder: Path) -> list[dict[str, str]]:
    """Return a table row per form of a network: size, time for one clip, test mAP."""
    network, about = load_model(path)
    described = Described.of(about, path)
    files = {}
    for name, quantized in (("ONNX float32", False), ("ONNX int8", True)):
        files[name] = folder / f"{path.stem}-{name[5:]}.onnx"
        clips = load_clips(data_paths.logmel("train"), about, "train", 128) if quantized else None
        target.export(network, about, files[name], quantized=quantized, calibration=clips)
    wave = np.asarray(ClipStore(data_paths.audio("test")).data[[0]], np.float32) / 32_767
    whole = Probabilities(network, described.task, described.logmel()).eval()
    models = {name: onnx_files.OnnxModel(file) for name, file in files.items()}
    actions = [lambda: whole(torch.from_numpy(wave))]
    actions += [lambda one=one: one.probabilities(wave) for one in models.values()]
    with torch.inference_mode():
        taken = interleaved(*actions, repeats=REPEATS)
    front = front_end_times(described, wave)
    share = dict(zip(("PyTorch", *models), (front["PyTorch"], front["ours"], front["ours"]), strict=True))
    sizes = {"PyTorch": path.stat().st_size, **{name: file.stat().st_size for name, file in files.items()}}
    accuracy = accuracies(network, about, models)
    return [
        {
            "network": path.stem,
            "form": name,
            "kB": f"{sizes[name] / 1000:.0f}",
            "ms": f"{1000 * took:.2f}",
            "front end": f"{share[name] / took:.0%}",
            "test mAP": accuracy[name],
        }
        for name, took in zip(("PyTorch", *models), taken, strict=True)
    ]


def accuracies(network, about: dict, models: dict) -> dict[str, str]:
    """Return the test mAP of each form; of int8 by the kernels of this machine and in exact arithmetic."""
    from audionas.deploy.evaluation import predict

    features, waves = ClipStore(data_paths.logmel("test")), ClipStore(data_paths.audio("test"))
    score = mean_average_precision(features.labels, predict_in_pytorch(network, features))
    found = {"PyTorch": f"{100 * score:.2f}"}
    for name, model in models.items():
        values = [model]
        if model.quantized:
            values.append(onnx_files.OnnxModel(model.path, exact=True))
        scores = [100 * mean_average_precision(waves.labels, predict(one, waves, 16)) for one in values]
        found[name] = " / ".join(f"{score:.2f}" for score in scores)
    return found


def export() -> dict:
    """Measure the released networks of this folder's study, in PyTorch and exported, on one thread."""
    paths = [path for path in sorted(RELEASE.glob("*.pt")) if path.stem != "supernet"]
    with tempfile.TemporaryDirectory() as folder, one_core():
        rows = [row for path in paths for row in network_rows(path, Path(folder))]
        wave = np.random.default_rng(0).normal(0, 0.1, (1, 320_000)).astype(np.float32)
        front = front_end_times(paper_front_end(), wave)
    table = rows + [
        {"network": "front end of the paper", "form": name, "kB": "", "ms": f"{1000 * took:.2f}"}
        for name, took in front.items()
    ]
    return {
        "what": "waveform of one clip to probabilities, one thread; ours: the front end as matrix products "
        "in ONNX Runtime, reference: ONNX's STFT, both with the paper's settings and 10 s; mAP of int8: "
        "kernels of this machine / exact arithmetic",
        "unit": "s",
        "ours": front["ours"],
        "reference": front["STFT"],
        "floor": None,
        "counted": "not counted",
        "table": [{**dict.fromkeys(rows[0], ""), **row} for row in table],
    }


def paper_front_end() -> Described:
    """Return the paper's settings."""
    from audionas.settings.audio import Audio, Features

    settings = {"audio": Audio().model_dump(), "features": Features().model_dump()}
    return Described.of({"classes": ["any"], "settings": settings}, "paper")
