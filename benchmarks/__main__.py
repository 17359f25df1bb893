"""`python -m benchmarks NAME… [--json FILE]`: our time, the reference, the speed-up, and the lower bound."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
import torch

from benchmarks import target_device
from benchmarks.ceilings import ceilings, machine
from benchmarks.checkpoints import resume
from benchmarks.engines import engines
from benchmarks.export import export
from benchmarks.features import features
from benchmarks.lists import lists
from benchmarks.paper import paper
from benchmarks.precision import precision
from benchmarks.ranks import ranks
from benchmarks.reading import loader
from benchmarks.resample import resample
from benchmarks.scaling import scaling
from benchmarks.scoring import score_space
from benchmarks.training import loop, supernet_step, train_step

BENCHMARKS = {
    f.__name__: f
    for f in (
        *(loader, train_step, supernet_step, score_space, loop, resume, scaling),
        *(ranks, paper, precision, lists, resample, features, engines, export),
    )
}
ON_GPU = ("train_step", "supernet_step", "score_space", "loop", "paper", "precision")
# On a CPU two run only by name: `precision`, because compilation and bfloat16 take minutes, and `export`,
# because it needs the results of the demo.
BY_NAME = ("precision", "export")
ALL = {"cpu": [name for name in BENCHMARKS if name not in BY_NAME], "cuda": ON_GPU}


def show(result: dict) -> None:
    """Print a result, its lower bound, and its table."""
    unit = result["unit"]
    print(
        f"{result['name']}: ours {result['ours']:.4g} {unit}, reference {result['reference']:.4g} {unit}, "
        f"{result['ratio']:.2f} times better ({result['what']})"
    )
    floor = result["floor"]
    times = (
        "none" if floor is None else f"{floor:.4g} {unit}, ours is {result['ours'] / floor:.1f} times that"
    )
    print(f"  floor: {times} ({result['counted']})", flush=True)
    if "table" in result:
        print(pd.DataFrame(result["table"]).to_markdown(index=False, disable_numparse=True), flush=True)


def write(path: Path, results: list[dict]) -> None:
    """Write results to a file, and keep other results of the same machine in it."""
    here = machine()
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"machine": here, "results": []}
    known = {r["name"]: r for r in kept["results"]} if kept["machine"] == here else {}
    known |= {r["name"]: r for r in results}
    content = {"machine": here, "results": [known[name] for name in BENCHMARKS if name in known]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run the named benchmarks in sequence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*BENCHMARKS, "all"], metavar="NAME")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--device", choices=ALL, default="cpu", help=f"cuda: {', '.join(ON_GPU)}")
    options = parser.parse_args()
    if outside := set(options.names) - {*ALL[options.device], *BY_NAME, "all"}:
        parser.error(f"{', '.join(sorted(outside))}: not on a GPU; there are {', '.join(ON_GPU)}")
    target_device.choose(options.device)
    torch.set_num_threads(options.threads)
    limits = ceilings()
    here = machine()
    print(
        f"{here.get('gpu', here['processor'])}, {options.threads} threads: "
        f"at most {limits['flops'] / 1e9:.0f} GFLOP/s "
        f"in {'TF32' if target_device.on_gpu() else 'float32'} and "
        f"{limits['bandwidth'] / 1e9:.1f} GB/s to and from memory"
    )
    for name in ALL[options.device] if "all" in options.names else dict.fromkeys(options.names):
        result = {"name": name, **BENCHMARKS[name](), "ceilings": limits}
        result["ratio"] = result["reference"] / result["ours"]
        show(result)
        if options.json:
            write(options.json, [result])


if __name__ == "__main__":
    main()
