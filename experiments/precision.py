"""Train the teacher in float32, in bfloat16 and compiled; write the scores to docs/performance.md."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from options import experiment
from update_docs import put

from audionas.evaluation.metrics import mean_average_precision
from audionas.evaluation.prediction import predict
from audionas.models.files import load_model
from audionas.settings.file import PARAMS
from audionas.systems.common.loading import open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.stages import teacher
from audionas.systems.registry import load_config

WAYS = {"float32": {}, "bfloat16": {"precision": "bfloat16"}, "compiled": {"compile": True}}


def trial(project: Path, config: Config, changes: dict, seed: int) -> tuple[float, float]:
    """Return validation mAP x 100 of a teacher trained with one setting, and its seconds."""
    with experiment(project, config, {"training": changes}) as changed:
        started = time.perf_counter()
        teacher.run(changed, seed)
        seconds = time.perf_counter() - started
        network, _ = load_model(paths.teacher(seed))
        store = open_logmel(changed, "valid")
        return 100 * mean_average_precision(store.labels, predict(network, store)), seconds


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--project", type=Path, default=Path(), help="folder in which `dvc repro` has been run"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    project = arguments.project.resolve()
    config, rows = load_config(project / PARAMS), []
    for name, changes in WAYS.items():
        chosen = (
            arguments.seeds if name == "float32" else arguments.seeds[:1]
        )  # the spread over seeds of float32 is the yardstick
        results = pd.DataFrame([trial(project, config, changes, seed) for seed in chosen])
        scores = ", ".join(f"{score:.1f}" for score in results[0])
        spread = f" ± {results[0].std():.1f}" if len(results) > 1 else ""
        rows.append(
            {
                "teacher's passes": name,
                "validation mAP × 100": f"{results[0].mean():.1f}{spread}",
                "of each seed": scores,
                "s": f"{results[1].mean():.0f}",
            }
        )
        table = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
        seeds = ", ".join(map(str, arguments.seeds))
        text = (
            f"The demo's teacher ({config.teacher.iterations} iterations), seeds {seeds}, by "
            f"`python experiments/precision.py` after `dvc repro`:\n\n{table}"
        )
        put(ROOT / "docs" / "performance.md", "precision", text)


if __name__ == "__main__":
    main()
