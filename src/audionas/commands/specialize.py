"""`audionas specialize`: cut a network for a budget from a released supernet."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path

from audionas.runtime.errors import UserError
from audionas.runtime.text import line
from audionas.settings.values import BYTES, MICROJOULES, MILLISECONDS, parse_quantity, parse_size

_AROUND = 3  # networks of the front that are shown on both sides of the answer
_LIMITS = ("params", "macs", "peak_memory", "latency_ms", "energy_uJ")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    one = commands.add_parser(
        "specialize",
        help="cut a network for any budget from a released supernet",
        description="Choose the network with the highest validation score within a budget, cut it from a "
        "supernet and write it with its model card (.md). The scores (.csv) and the BatchNorm statistics "
        "(.npz) beside the supernet suffice: no audio is read, and nothing is trained. Limits can be "
        "combined.",
        epilog="Examples: audionas specialize models/release/supernet.pt --params 40k --output 40k.pt; "
        "audionas specialize models/release/supernet.pt --peak-memory 256kB --dtype int8 --latency 20ms "
        "--device board.csv --output board.pt. docs/specialize.md explains each cost.",
    )
    one.add_argument("supernet", help="model file of a supernet, such as models/release/supernet.pt")
    size = _value(parse_size)
    one.add_argument("--params", type=size, metavar="N", help="at most N parameters, such as 40k or 0.9M")
    one.add_argument(
        "--macs", type=size, metavar="N", help="at most N multiply-adds for one input, such as 50M or 1.2G"
    )
    one.add_argument(
        "--peak-memory",
        type=_value(lambda text: parse_quantity(text, BYTES)),
        metavar="SIZE",
        help="at most SIZE for all weights and the activations alive at once, such as 256kB or 1MiB",
    )
    one.add_argument(
        "--dtype",
        choices=("float32", "int8"),
        help="type of weights and activations that peak memory is counted for (default: float32; int8 for a "
        "bundled estimate)",
    )
    one.add_argument(
        "--latency",
        dest="latency_ms",
        type=_value(lambda text: parse_quantity(text, MILLISECONDS)),
        metavar="TIME",
        help="at most TIME for one input on --device, such as 20ms",
    )
    one.add_argument(
        "--energy",
        dest="energy_uJ",
        type=_value(lambda text: parse_quantity(text, MICROJOULES)),
        metavar="ENERGY",
        help="at most ENERGY for one input on --device, such as 5mJ",
    )
    one.add_argument(
        "--device",
        metavar="FILE",
        help="CSV file of measurements (see `audionas measure`), or the name of a bundled estimate",
    )
    one.add_argument("--runtime", help="runtime in the device file, if it has several")
    one.add_argument(
        "--seconds",
        type=seconds,
        metavar="S",
        help="length of the input that costs are for (default: that of the training clips)",
    )
    one.add_argument(
        "--scores", metavar="FILE", help="scores of the supernet (default: the .csv file beside it)"
    )
    one.add_argument("--output", metavar="FILE.pt", help="model file to write; its card is FILE.md")
    one.add_argument(
        "--list",
        action="store_true",
        help="print the Pareto front of the limited costs and the score as CSV, and write no model",
    )
    one.add_argument(
        "--devices", action=_Devices, nargs=0, help="list the bundled estimated devices, and exit"
    )
    one.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Choose, print and write the network, and return the exit code.

    Raises:
        UserError: options contradict each other, a file cannot be used, or no network is within the budget.
    """
    limits = {name: getattr(options, name) for name in _LIMITS if getattr(options, name) is not None}
    output = _checked(options, [name for name in limits])

    from audionas.deploy.devices.device import EstimatedDevice, open_device
    from audionas.deploy.specialize import COSTS, budget_phrase, open_kept, write
    from audionas.deploy.specialized_card import label, specialized_card

    device = open_device(options.device, options.runtime) if options.device else None
    kept = open_kept(options.supernet, options.scores)
    most = {name: value for name, (_, value) in limits.items()}
    candidates = kept.candidates(
        seconds=options.seconds,
        dtype=options.dtype or ("int8" if isinstance(device, EstimatedDevice) else "float32"),
        device=device,
        required=list(limits),
    )
    space, costs, axes = candidates.space, candidates.costs, [*limits] or ["params"]
    front = [int(place) for place in candidates.front(axes)]
    if options.list:
        _print_csv(candidates, front)
        return 0
    place = candidates.choose(most)
    about = kept.about(place, candidates, {name: text for name, (text, _) in limits.items()})
    print(f"supernet: {line(options.supernet, 4096)}, space {space.name}, {len(space)} networks")
    print(f"budget: {budget_phrase(about['budget'])}")
    if device is not None:
        print(f"device: {line(device.title, 1000)}")
        for name, cost in candidates.of_device.items():
            print(f"  {COSTS[name].label}: {cost.note}")
        for name, why in candidates.unknown.items():
            print(f"  {COSTS[name].label}: not known ({why})")
    at = front.index(place)
    shown = front[max(0, at - _AROUND) : at + _AROUND + 1]
    of = " and ".join(COSTS[name].label for name in axes)
    print(f"Pareto front of {of} and score, around the answer (>):")
    head = ["", "mAP", *(label(name, candidates) for name in costs), "network"]
    rows = [
        [">" if each == place else "", f"{100 * candidates.scores[each]:.2f}"]
        + [candidates.shown(name, each) for name in costs]
        + [str(space[each])]
        for each in shown
    ]
    _print_table([head, *rows])
    print(_step("up", candidates, place, candidates.step_up(place, most)))
    print(_step("down", candidates, place, candidates.step_down(place, most)))
    for one in kept.better(place, candidates, most)[:1]:
        print(
            f"better within this budget: {line(one.path, 4096)} ({one.params:,} parameters, validation mAP "
            f"{100 * one.score:.2f}), which was trained further. To train one for this budget, add it to "
            "study.constraints and run `dvc repro`"
        )
    if device is not None:
        print("latency and energy are those of the network; the front end is not part of them")

    def card(about: dict, digest: str) -> str:
        title = device.title if device is not None else None
        return specialized_card(output.name, about, digest, candidates, axes, place, title)

    write(output, kept.network(space[place]), about, card)
    print(f"wrote {line(output, 4096)} and {line(output.with_suffix('.md'), 4096)}")
    return 0


def _checked(options: argparse.Namespace, limits: list[str]) -> Path:
    """Check the options against each other, before PyTorch is imported, and return the output path."""
    for name, option in (("latency_ms", "--latency"), ("energy_uJ", "--energy")):
        if name in limits and options.device is None:
            raise UserError(
                f"{option} needs a device; give --device FILE.csv (make it with `audionas measure`), or a "
                "name of `audionas specialize --devices`"
            )
    if options.runtime is not None and options.device is None:
        raise UserError("--runtime selects rows of a device file; give --device too, or omit it")
    if options.list:
        return Path()
    if not limits:
        raise UserError(
            "no budget; give at least one of --params, --macs, --peak-memory, --latency and --energy, or "
            "--list for the Pareto front"
        )
    if options.output is None:
        raise UserError("no output file; give --output FILE.pt")
    output = Path(options.output)
    if output.suffix != ".pt":
        raise UserError(f"{output}: the name of a model file ends in .pt; change --output")
    if output.exists() and Path(options.supernet).exists() and output.samefile(options.supernet):
        raise UserError(f"{output}: the supernet itself; give another --output")
    for path in (output, output.with_suffix(".md")):
        if path.is_dir():
            raise UserError(f"{path}: a folder, where a file is to be written; change --output")
        if path.exists():
            raise UserError(f"{path}: exists; give another --output, or delete it first")
    return output


def _step(name: str, candidates, place: int, step: int | None) -> str:
    """Describe the next network of the front."""
    from audionas.deploy.specialize import COSTS

    if step is None:
        other = "has a higher score" if name == "up" else "has lower costs"
        return f"one step {name}: none, no network {other}"
    gain = 100 * (candidates.scores[step] - candidates.scores[place])
    parts = []
    for cost, values in candidates.costs.items():
        change = f"{100 * (values[step] / values[place] - 1):+.1f} %" if values[place] else ""
        parts.append(f"{COSTS[cost].label} {COSTS[cost].show(values[step])} ({change})")
    return f"one step {name}: mAP {100 * candidates.scores[step]:.2f} ({gain:+.2f}), {', '.join(parts)}"


def _print_csv(candidates, front: list[int]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    space, costs, devices = candidates.space, candidates.costs, candidates.of_device
    names = [f"{name}_{candidates.dtype}" if name == "peak_memory" else name for name in costs]
    writer.writerow([*space.describe(space[0]), *names, *(f"{name}_basis" for name in devices), "mAP"])
    for place in front:
        values = [f"{each[place]:.6g}" if each.dtype.kind == "f" else each[place] for each in costs.values()]
        basis = [cost.basis[place] for cost in devices.values()]
        writer.writerow([*space.describe(space[place]).values(), *values, *basis, candidates.scores[place]])


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())


class _Devices(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Print the bundled estimates, and exit."""
        from audionas.deploy.devices.estimates import estimates

        print("Estimates from MLPerf Tiny results (MLCommons): cost of a multiply-add of int8 networks,")
        print("the median of their networks (and the range)")
        rows = [["name", "nJ", "ns", "source"]]
        for each in estimates():
            shown = [_range(each.rates["energy_uJ"], 1e3), _range(each.rates["latency_ms"], 1e6)]
            rows.append([each.name, *shown, each.title])
        _print_table(rows)
        parser.exit()


def _range(rates: tuple[float, float, float] | None, factor: float) -> str:
    if rates is None:
        return "not stated"
    low, median, high = (factor * rate for rate in rates)
    return f"{median:.3g} ({low:.3g} to {high:.3g})"


def _value(parse: Callable[[str], float]) -> Callable[[str], tuple[str, float]]:
    """Return an argparse type that returns the text and its value."""

    def check(text: str) -> tuple[str, float]:
        try:
            return text, parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return check


def seconds(text: str) -> float:
    """An argparse type: a length in seconds."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds between 0 and 3600")
    return number
