"""Convert a program to ExecuTorch, and run it; see `deploy/targets/executorch.py`.

Usage: python -I executorch.py FOLDER. Runs in `.deploy/executorch`. Reads from the folder job.json,
program.pt2 and inputs.npz. Writes model.pte, outputs.npz and report.json. If job.json names an existing
model, it is only run.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np


def convert(program: Path, model: Path) -> dict:
    """Convert a program for the XNNPACK backend, and return the operators outside it."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(torch.export.load(program), partitioner=[XnnpackPartitioner()])
    made = lowered.to_executorch()
    model.write_bytes(made.buffer)
    delegates, others = 0, []
    for node in lowered.exported_program().graph.nodes:
        if node.op != "call_function":
            continue
        name = str(getattr(node.target, "__name__", node.target))
        if name == "executorch_call_delegate":
            delegates += 1
        elif "getitem" not in name:
            others.append(name)
    return {"xnnpack_parts": delegates, "portable_operators": sorted(others)}


def run(model: Path, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the outputs [clips, classes], and the median time for a clip in ms."""
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(model).load_method("forward")
    outputs, times = [], []
    for clip in inputs:
        given = torch.from_numpy(clip[None])
        begun = time.perf_counter()
        (found,) = method.execute([given])
        times.append(time.perf_counter() - begun)
        outputs.append(found[0].clone().numpy())
    return np.stack(outputs), 1e3 * float(np.median(times))


def main(folder: Path) -> None:
    """Do the job of a folder."""
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "inputs.npz") as arrays:
        inputs = arrays["inputs"]
    report, model = {}, folder / "model.pte"
    if "model" in job:
        model = Path(job["model"])
    else:
        report = convert(folder / "program.pt2", model)
    outputs, milliseconds = run(model, inputs)
    np.savez(folder / "outputs.npz", probabilities=outputs)
    report["versions"] = {name: version(name) for name in ("executorch", "torch")}
    if "model" in job:
        report["milliseconds"] = milliseconds
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
