"""`audionas export`: convert a network for another runtime."""

from __future__ import annotations

import argparse
from pathlib import Path

from audionas.data import paths as data_paths
from audionas.deploy.targets.registry import SUFFIXES, TARGETS, exporter
from audionas.runtime.errors import UserError
from audionas.runtime.files import sha256
from audionas.runtime.text import line

_CALIBRATION = 128  # clips
_RECORDINGS = 64  # clips
_PATH = 4096  # most characters shown of a path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    listed = "; ".join(f"{name}: {target.help}" for name, target in TARGETS.items())
    example = "audionas export models/release/26k.pt --format"
    one = commands.add_parser(
        "export",
        help="convert a network for another runtime, and compare it with PyTorch",
        description="Convert a network to a file that other runtimes execute, with the front end inside, and "
        "print how much its probabilities differ from PyTorch's. Nothing is written if they differ too much. "
        f"Formats: {listed}.",
        epilog=f"Examples: {example} onnx --output 26k.onnx; {example} onnx-int8 --output 26k.int8.onnx "
        "--labelled data/logmel/valid.h5",
    )
    one.add_argument("model", type=Path, help="a model file, such as models/release/26k.pt")
    one.add_argument("--format", required=True, choices=TARGETS, help="what to write")
    one.add_argument("--output", required=True, type=Path, metavar="PATH", help="the file (sherpa: a folder)")
    one.add_argument(
        "--input",
        choices=("waveform", "features"),
        default="waveform",
        help="waveform: samples in -1..1 at the rate of the model; features: log-mel in dB "
        "(default: %(default)s)",
    )
    one.add_argument(
        "--calibration",
        type=Path,
        metavar="PATH",
        help=f"int8: training clips, as a store (data/logmel/train.h5, data/audio/train.h5) or a folder with "
        f"recordings; {_CALIBRATION} are used. Default: the first of these stores that exists",
    )
    one.add_argument(
        "--recordings",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="recordings or folders for the comparison with PyTorch (default: test signals)",
    )
    one.add_argument(
        "--labelled",
        type=Path,
        metavar="STORE",
        help="ONNX: clips with labels, such as data/logmel/valid.h5, on which accuracy is compared as well",
    )
    one.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Export a network and print the report.

    Raises:
        UserError: the model, the clips or the target cannot be used, or the result differs too much.
    """
    model, output, target = options.model, options.output, TARGETS[options.format]
    export = exporter(options.format)
    if model.suffix == ".onnx":
        raise UserError(
            f"{line(model, _PATH)}: exported already; give the model file (.pt) that it was made from"
        )
    if model.exists() and output.exists() and model.samefile(output):
        raise UserError(f"{line(output, _PATH)}: --output is the model file; give another path")
    suffix = SUFFIXES[options.format]
    if suffix and output.suffix != suffix:
        raise UserError(
            f"{line(output, _PATH)}: a file of --format {options.format} has a name that ends in {suffix}; "
            "change --output"
        )
    if options.calibration and not target.quantized:
        raise UserError(f"--calibration: only int8 is calibrated; omit it for --format {options.format}")

    from audionas.deploy.sounds import load_clips, load_recordings
    from audionas.models.files import load_model

    network, about = load_model(model)
    digest = sha256(model)
    arrays = {"calibration": None, "recordings": None}
    if target.quantized:
        stored = _calibration(options)
        arrays["calibration"] = load_clips(stored, about, "--calibration", _CALIBRATION)
    if options.recordings:
        arrays["recordings"] = load_recordings(options.recordings, about, "--recordings", _RECORDINGS)
    if options.labelled:
        if not options.format.startswith("onnx"):
            raise UserError(f"--labelled: not supported by --format {options.format}; leave it out")
        arrays["labelled"] = _store(options.labelled)
    report = export(
        network,
        about,
        output,
        input=options.input,
        quantized=target.quantized,
        source_sha256=digest,
        **arrays,
    )
    print(report["text"])
    size = f", {output.stat().st_size / 1000:,.0f} kB" if output.is_file() else ""
    print(f"written: {line(output, _PATH)}: {options.format}, input {options.input}{size}")


def _calibration(options: argparse.Namespace) -> Path:
    """Return where calibration clips come from."""
    if options.calibration:
        return options.calibration
    usual = (data_paths.logmel("train"), data_paths.audio("train"))
    for path in usual:
        if path.exists():
            return path
    raise UserError(
        f"--format {options.format}: int8 is calibrated on training clips, but this folder has no "
        f"{' or '.join(map(str, usual))}; give a store or a folder with recordings by --calibration"
    )


def _store(path: Path):
    from audionas.runtime.extras import optional

    with optional(f"--labelled {path}"):
        from audionas.data.store import ClipStore
    return ClipStore(path)
