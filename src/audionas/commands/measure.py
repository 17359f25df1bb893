"""`audionas measure`: measure networks of a supernet on this machine, for `audionas specialize`."""

from __future__ import annotations

import argparse

from audionas.commands.specialize import seconds
from audionas.runtime.text import line
from audionas.systems.common.commands import positive


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    one = commands.add_parser(
        "measure",
        help="measure the latency of networks on this machine",
        description="Run networks with ONNX Runtime on one thread, and add their median times to a device "
        "file (CSV). Of a supernet, networks are drawn and measured without the front end; from these rows "
        "`audionas specialize --latency` predicts the others. Single networks are measured with the front "
        "end, on one clip; the table of released files takes their latency from the file that deploy.device "
        "of params.yaml names. Networks in the file are skipped, so an interrupted run resumes. Stop other "
        "processes first; the command warns if this machine is busy.",
        epilog="Examples: audionas measure models/release/supernet.pt --device laptop.csv --networks 40; "
        "audionas measure models/release/26k.pt models/release/61k.pt --device files.csv",
    )
    one.add_argument(
        "models",
        nargs="*",
        default=["models/release/supernet.pt"],
        metavar="MODEL",
        help="model file of a supernet, or of one network or more (default: models/release/supernet.pt)",
    )
    one.add_argument("--device", required=True, metavar="FILE.csv", help="device file, made if it is missing")
    one.add_argument(
        "--networks",
        type=positive,
        default=40,
        metavar="N",
        help="number of networks, with the smallest and the largest (default: %(default)s)",
    )
    one.add_argument(
        "--repeats",
        type=positive,
        default=30,
        metavar="R",
        help="timed runs of each network (default: %(default)s)",
    )
    one.add_argument(
        "--seconds",
        type=seconds,
        metavar="S",
        help="length of the input (default: that of the training clips)",
    )
    one.add_argument(
        "--dtype",
        choices=("float32", "int8"),
        default="float32",
        help="type of weights and activations (default: %(default)s); a supernet needs one file for each",
    )
    one.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, and print what the file has.

    Raises:
        UserError: the supernet or the device file cannot be used, or a package is missing.
    """
    from audionas.deploy.measure import measure, measure_files
    from audionas.deploy.supernets import is_supernet

    shared = {"repeats": options.repeats, "dtype": options.dtype}
    if len(options.models) == 1 and is_supernet(options.models[0]):
        networks, length = options.networks, options.seconds
        rows = measure(options.models[0], options.device, networks=networks, seconds=length, **shared)
    else:
        rows = measure_files(options.models, options.device, **shared)
    times = [row.latency_ms for row in rows]
    print(f"device: {rows[0].device}, {rows[0].runtime}, clock {rows[0].clock}")
    print(f"{line(options.device, 4096)}: {len(rows)} networks, {min(times):.3g} to {max(times):.3g} ms")
    return 0
