"""Run a folder as sherpa-onnx's audio tagging; see `deploy/targets/sherpa.py`.

Usage: python -I sherpa.py FOLDER. Runs in `.deploy/sherpa`. Reads from the folder job.json and inputs.npz.
Writes outputs.npz and report.json.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Do the job of a folder."""
    import sherpa_onnx

    job = json.loads((folder / "job.json").read_text())
    model = Path(job["model"])
    tagging = sherpa_onnx.AudioTagging(
        sherpa_onnx.AudioTaggingConfig(
            model=sherpa_onnx.AudioTaggingModelConfig(ced=str(model / job["file"]), num_threads=1),
            labels=str(model / job["labels"]),
            top_k=len(job["names"]),
        )
    )
    with np.load(folder / "inputs.npz") as arrays:
        waveforms = arrays["inputs"]
    outputs = np.full((len(waveforms), len(job["names"])), np.nan, np.float32)
    times = []
    for row, waveform in enumerate(waveforms):
        begun = time.perf_counter()
        stream = tagging.create_stream()
        stream.accept_waveform(job["rate"], waveform)
        for event in tagging.compute(stream):
            if event.name != job["names"][event.index]:
                raise ValueError(f"class {event.index} is {event.name!r}, not {job['names'][event.index]!r}")
            outputs[row, event.index] = event.prob
        times.append(time.perf_counter() - begun)
    np.savez(folder / "outputs.npz", probabilities=outputs)
    report = {"versions": {"sherpa-onnx": version("sherpa-onnx")}}
    (folder / "report.json").write_text(json.dumps(report | {"milliseconds": 1e3 * float(np.median(times))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
