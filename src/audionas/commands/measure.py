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
        help="measure the latency of a supernet's networks on this machine",
        description="Run networks of a supernet with ONNX Runtime on one thread, and add their median times "
        "to a device file (CSV), from which `audionas specialize --latency` predicts those of all others. "
        "Networks in the file are skipped, so an interrupted run goes on. The time excludes the front end. "
        "Stop other processes first; the command warns if this machine is busy.",
        epilog="Example: audionas measure models/release/supernet.pt --device laptop.csv --networks 40",
    )
    one.add_argument("supernet", help="model file of a supernet, such as models/release/supernet.pt")
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
    one.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, and print what the file has.

    Raises:
        UserError: the supernet or the device file cannot be used, or a package is missing.
    """
    from audionas.deploy.measure import measure

    rows = measure(
        options.supernet,
        options.device,
        networks=options.networks,
        repeats=options.repeats,
        seconds=options.seconds,
    )
    times = [row.latency_ms for row in rows]
    print(f"device: {rows[0].device}, {rows[0].runtime}, clock {rows[0].clock}")
    print(f"{line(options.device, 4096)}: {len(rows)} networks, {min(times):.3g} to {max(times):.3g} ms")
    return 0
