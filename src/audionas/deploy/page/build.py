"""A page that listens: one HTML file that runs a network in a browser, from disk and without a network.

The page holds the ONNX file, onnxruntime-web and its own code. Its policy (CSP) blocks every request. Sound
is read as in Python: the mean over channels at the file's own rate, then our resampler (`sound.js`), which
has the response of soxr's HQ.

Source files: `page.html`, `page.css`, `page.js` (the screen), `worker.js` (runs the network), `sound.js`
(WAV, resampling, spectrogram), `microphone.js` (AudioWorklet).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import tempfile
import zlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audionas.data.ledger import CLASSES, read_rows
from audionas.deploy.events import DEFAULT_THRESHOLD, LEAST_FRAMES, window_and_hop
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import UnfitFileError, atomic_write, read_bounded, sha256
from audionas.runtime.text import line

if TYPE_CHECKING:
    from audionas.deploy.onnx_files import OnnxModel

_LARGEST = 1 << 28  # bytes of a network in a page
_SHORTEST_HOP = 0.05  # seconds; a browser answers at most about twenty times a second


@dataclass(frozen=True)
class _Source:
    """A network to put into a page: the bytes of its ONNX file and what they state."""

    onnx: bytes
    about: dict[str, Any]
    quantized: bool
    shortest: int  # samples of an input


def write_page(
    model: str | Path,
    output: str | Path,
    title: str | None = None,
    window: float | None = None,
    hop: float | None = None,
) -> int:
    """Write the page of a model file. Equal input gives equal bytes.

    Args:
        model: a model file: `.onnx` with input `waveform`, or `.pt`, which is exported.
        output: the HTML file.
        title: heading of the page; by default, the name of the model file.
        window: seconds that the network hears at once; by default, those of a training clip.
        hop: seconds between windows; by default, half a window.

    Returns:
        Size of the page in bytes.

    Raises:
        UserError: the model file cannot be used, a window is too long or short, or onnxruntime-web is not
            installed.
    """
    model, output = Path(model), Path(output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{output}: not the name of a page; end it in .html")
    source = _source(model)
    content = render(source, model, title or f"{model.stem} listens", window, hop)
    try:
        with atomic_write(output) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise os_error(error, output) from None
    return len(content)


def _source(model: Path) -> _Source:
    from audionas.deploy.onnx_files import OnnxModel, export_onnx

    if model.suffix.lower() == ".onnx":
        return _opened(OnnxModel(model), model)
    from audionas.models.files import load_model

    network, about = load_model(model)
    _settings(about, model)
    with tempfile.TemporaryDirectory(prefix="audionas-page-") as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(network, about, path, source_sha256=sha256(model))
        return _opened(OnnxModel(path), path)


def _opened(network: OnnxModel, path: Path) -> _Source:
    if network.input != "waveform":
        raise UserError(
            f"{path}: takes {network.input}, but a page has waveforms; export it with --input waveform"
        )
    try:
        content = read_bounded(path, _LARGEST)
    except UnfitFileError as error:
        raise UserError(f"{path}: {error}; a page holds a network of at most 256 MiB") from None
    except OSError as error:
        raise os_error(error, path) from None
    return _Source(content, network.about, network.quantized, network.shortest)


def _settings(about: dict[str, Any], model: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of audio and of features (of the picture, if the network has none)."""
    try:
        audio, features = about["settings"]["audio"], about["settings"].get("features")
        rate = int(audio["sample_rate"])
        seconds = {name: float(audio[name]) for name in ("clip_seconds", "min_seconds")}
        features = features or {
            "n_fft": 2 ** round(math.log2(rate / 32)),
            "hop": rate // 100,
            "mels": 64,
            "fmin": 50.0,
            "fmax": rate / 2,
        }
        features = {name: features[name] for name in ("n_fft", "hop", "mels", "fmin", "fmax")}
        return {"sample_rate": rate, **seconds}, features
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{model}: the settings of its audio are missing; make it with `dvc repro`") from None


def labels(about: dict[str, Any], model: Path) -> tuple[list[str], list[str], list[float]]:
    """Return ids, display names and thresholds of the classes of a model file.

    Names that `about` lacks come from classes.csv beside the model, else from the ids; thresholds are then
    0.5.

    Raises:
        UserError: the classes are missing, or the lists differ in length.
    """
    classes = about.get("classes")
    if not isinstance(classes, list) or not classes:
        raise UserError(f"{model}: its classes are missing; make it with `dvc repro`")
    names = about.get("names")
    if names is None:
        beside = model.with_name("classes.csv")
        listed = read_rows(beside, CLASSES) if beside.exists() else []
        known = {row["mid"]: row["display_name"] for row in listed}
        names = [known.get(name, name) for name in classes]
    thresholds = about.get("thresholds")
    thresholds = [DEFAULT_THRESHOLD] * len(classes) if thresholds is None else thresholds
    for key, values, fits in (
        ("classes", classes, lambda value: isinstance(value, str)),
        ("names", names, lambda value: isinstance(value, str)),
        ("thresholds", thresholds, lambda value: isinstance(value, int | float) and 0 <= value <= 1),
    ):
        if not isinstance(values, list) or len(values) != len(classes) or not all(map(fits, values)):
            raise UserError(f"{model}: about.{key} does not fit its classes; make it with `dvc repro`")
    return classes, names, thresholds


def render(source: _Source, model: Path, title: str, window: float | None, hop: float | None) -> bytes:
    """Return the page; see `write_page`."""
    audio, features = _settings(source.about, model)
    lengths = audio["min_seconds"], audio["clip_seconds"]
    window, hop = window_and_hop(window, hop, lengths, _SHORTEST_HOP, option="--")
    classes, names, thresholds = labels(source.about, model)
    from audionas.deploy.page import runtime

    library, wasm = runtime.read()
    settings = {
        **audio,
        "features": features,
        "window": window,
        "hop": hop,
        "fed": _fed(source),
        "classes": classes,
        "names": names,
        "thresholds": thresholds,
        "thresholds_by": str(source.about.get("thresholds_by") or _thresholds_by(source.about)),
        "model": line(model.name),
        "sha256": hashlib.sha256(source.onnx).hexdigest(),
        "bytes": len(source.onnx),
        "quantized": source.quantized,
        "made_by": "audionas page",
        "runtime": f"onnxruntime-web {runtime.VERSION}, one thread",
    }
    style, app = _text("page.css"), _text("page.js")
    parts = {
        "title": html.escape(line(title)),
        "version": runtime.VERSION,
        "policy": _policy(style, app),
        "style": style,
        "app": app,
        "worker": _text("sound.js") + _text("worker.js"),
        "microphone": _text("microphone.js"),
        "settings": _json(settings),
        "network": _packed(source.onnx),
        "library": _packed(library),
        "wasm": _packed(wasm),
    }
    return re.sub(r"{{(\w+)}}", lambda match: parts[match[1]], _text("page.html")).encode()


def _fed(source: _Source) -> int:
    """Return the fewest samples that the network is given, as `audionas.inference.Classifier` does."""
    settings = source.about["settings"]
    clip = round(settings["audio"]["sample_rate"] * settings["audio"]["clip_seconds"])
    features = settings.get("features")
    fed = features["hop"] * (LEAST_FRAMES - 1) if features else clip
    return fed if source.shortest <= fed < clip else clip


def _thresholds_by(about: dict[str, Any]) -> str:
    return (
        f"not chosen, {DEFAULT_THRESHOLD} for all"
        if about.get("thresholds") is None
        else "stored in the model file"
    )


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """Return JSON that cannot end its script element."""
    return json.dumps(value).replace("<", "\\u003c")


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


def _policy(style: str, app: str) -> str:
    """Return the policy of the page: its own code only, and no request."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, app)]
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src 'sha256-{hashes[0]}'",
            f"script-src 'sha256-{hashes[1]}' blob: data: 'wasm-unsafe-eval'",
            "worker-src blob:; media-src blob:; img-src data:; base-uri 'none'; form-action 'none'",
        ]
    )
