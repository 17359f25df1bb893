"""Released networks of the demo in LiteRT and ExecuTorch: accuracy, size and time on one thread.

Usage, in the folder of a finished `dvc repro`: python -m benchmarks.targets [NAME…]. Needs
`make deploy-litert deploy-executorch`. The test split is only evaluated.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from audionas.data import paths as data_paths
from audionas.data.store import ClipStore
from audionas.deploy.sounds import load_clips
from audionas.deploy.targets import executorch, litert
from audionas.deploy.targets.environments import run_model
from audionas.deploy.targets.programs import Source
from audionas.models.files import load_model

RELEASE = Path("models", "release")
FORMATS = (
    ("litert", litert, "waveform", False),
    ("litert-int8", litert, "waveform", True),
    ("executorch", executorch, "waveform", False),
    ("litert", litert, "features", False),
    ("litert-int8", litert, "features", True),
    ("executorch", executorch, "features", False),
)
CALIBRATION = 128  # clips, as in `audionas export`


def rows(name: str) -> list[dict]:
    """Return a row for each format of a released network."""
    network, about = load_model(RELEASE / f"{name}.pt")
    test = ClipStore(data_paths.audio("test"))
    waves = np.divide(test.data[:], np.float32(32_767), dtype=np.float32)
    calibration = load_clips(data_paths.logmel("train"), about, "--calibration", CALIBRATION)
    source = Source(network, about)
    expected = source.probabilities(waves)
    metric = source.described.task.metric
    found = [{"network": name, "format": "PyTorch", "mAP": f"{100 * metric(test.labels, expected):.2f}"}]
    with tempfile.TemporaryDirectory() as temporary:
        for form, module, kind, quantized in FORMATS:
            path = Path(temporary) / f"{form}-{kind}"
            report = module.export(
                *(network, about, path),
                input=kind,
                quantized=quantized,
                calibration=calibration if quantized else None,
            )
            inputs = Source(network, about, kind).inputs(waves)
            probabilities, milliseconds = run_model(module.NAME, path, inputs)
            difference = np.abs(probabilities - expected)
            found.append(
                {
                    "network": name,
                    "format": form,
                    "input": kind,
                    "mAP": f"{100 * metric(test.labels, probabilities):.2f}",
                    "largest": f"{difference.max():.1e}",
                    "mean": f"{difference.mean():.1e}",
                    "kB": f"{path.stat().st_size / 1e3:,.0f}",
                    "ms": f"{milliseconds:.2f}",
                    "arena kB": f"{report['micro']['arena_bytes'] / 1e3:.0f}" if "micro" in report else "",
                    **{
                        f"{npu} ms": f"{report['npu'][npu]['latency_ms']:.2f}" if "npu" in report else ""
                        for npu in ("ethos-u55-128", "ethos-u65-256")
                    },
                }
            )
            print(report["text"], flush=True)
    return found


def main() -> None:
    """Print a table."""
    names = sys.argv[1:] or sorted(path.stem for path in RELEASE.glob("*.pt") if path.stem != "supernet")
    table = pd.DataFrame([row for name in names for row in rows(name)]).fillna("")
    print(table.to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
