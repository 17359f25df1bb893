"""Repeat the study of UrbanSound8K with one change at a time, to measure its effect on OFA - KD.

Run it in a clone of its own: params.yaml there is overwritten. Writes docs/results/urbansound8k-trials.csv
and the table in docs/results.md. A trial whose folder exists is not run again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from options import in_words
from update_docs import put

from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write
from audionas.settings.file import PARAMS
from audionas.systems.once_for_all.results import Estimate, Model, collect, compare, gain
from audionas.systems.once_for_all.tables import Models
from audionas.systems.registry import load_config

EVALUATED = Path("results") / "eval"
# A budget just below the size of the KD network, so that OFA has no advantage by size.
STUDY = {"spaces": ["2-2-x"], "constraints": ["42k"], "sizes": ["0.6x1"], "finetune_iterations": [20]}
#: Changes to profiles/urbansound8k.yaml, section by section.
TRIALS = {
    "none": {},
    "labels beside the teacher": {"distillation": {"hard_label_weight": 0.5}},
    "twice as long": {
        "teacher": {"iterations": 1200},
        "supernet": {"largest_iterations": 400, "sampled_iterations": 1000},
        "individual": {"iterations": 460},
    },
    "twice the learning rate": {"training": {"learning_rate": 0.004}},
    "constant learning rate": {"training": {"schedule": "constant"}},
    "sandwich, in place": {"supernet": {"sampling": "sandwich"}, "distillation": {"in_place": True}},
    "sorted channels": {"supernet": {"sort_channels": True}},
    "calibration on all clips": {"calibration": {"batches": 256}},  # 86 batches are all clips
}


def run(name: str, project: Path, kept: Path) -> None:
    """Run one trial by `snakemake -c2`; keep its parameters and evaluations."""
    params = yaml.safe_load((ROOT / "profiles" / "urbansound8k.yaml").read_text(encoding="utf-8"))
    for section, values in ({"study": STUDY} | TRIALS[name]).items():
        params[section] |= values
    with atomic_write(project / PARAMS) as path:
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    subprocess.run(["snakemake", "-c2"], cwd=project, check=True)
    half = kept.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(project / EVALUATED, half / EVALUATED)
    shutil.copy2(project / PARAMS, half / PARAMS)
    half.rename(kept)


def read(kept: Path) -> Models:
    """Return the models of a trial."""
    with chdir(kept):
        study = load_config().study
        return Models(compare(collect(study), study.draws), study)


def compared(first: Models, trial: Models) -> Iterator[tuple[str, Estimate]]:
    """Return the columns of a trial: its models, the lead of OFA, and the effect of the change on each."""
    mine, theirs = named(trial), named(first)
    for name, model in mine.items():
        yield name, model.mAP
    yield "OFA - KD", mine["OFA"].over(mine["KD"])
    yield "in one architecture", mine["OFA"].over(mine["init"])
    if trial is first:
        return
    for name in ("KD", "OFA"):
        yield f"{name} moved", mine[name].over(theirs[name])
    for other, name in (("KD", "OFA - KD moved"), ("init", "in one architecture moved")):
        yield name, gain((mine["OFA"], mine[other]), (theirs["OFA"], theirs[other]))


def named(models: Models) -> dict[str, Model]:
    """Return the five models of a trial."""
    [budget], [size] = models.study.constraints, models.study.sizes
    return {
        "teacher": models.teacher,
        "baseline": models.individual("baseline", size),
        "KD": models.individual("kd", size),
        "OFA": models.found(budget),
        "init": models.init(budget),
    }


def tables(trials: dict[str, Models]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table with one row per number (x 100), and the documented table with one row per trial."""
    first, rows, shown = trials["none"], [], []
    for name, models in trials.items():
        found = dict(compared(first, models))
        for what, by in found.items():
            values = {"mean": by.mean, "sd": by.sd, "± by seeds and clips": by.margin}
            values |= {"low": by.interval.low, "high": by.interval.high}
            values |= {
                f"seed {seed}": value for seed, value in zip(models.study.seeds, by.seeds, strict=True)
            }
            percents = {key: 100 * value for key, value in values.items()}
            rows.append(
                {"Change": name, "What": what, **percents, "significant": "yes" if by.significant else "no"}
            )
        line = {"change": ": ".join(filter(None, (name, in_words(TRIALS[name]))))}
        for what in ("teacher", "baseline", "KD", "OFA"):
            line[what] = f"{100 * found[what].mean:.1f} ± {100 * found[what].sd:.1f}"
        for what in ("OFA - KD", "in one architecture", "KD moved", "OFA moved", "OFA - KD moved"):
            line[what] = difference(found[what]) if what in found else ""
        shown.append(line)
    return pd.DataFrame(rows), pd.DataFrame(shown)


def difference(by: Estimate) -> str:
    """Format a difference with half of its 95 % interval for new seeds and clips, bold if significant."""
    if not any(by.seeds):
        return "the same"
    text = f"{100 * by.mean:+.1f} ± {100 * by.margin:.1f}"
    return f"**{text}**" if by.significant else text


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, help="a clone, whose params.yaml is overwritten")
    parser.add_argument("trials", type=Path, help="folder that keeps what each trial found")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=TRIALS, help="trials to run (default: all)"
    )
    arguments = parser.parse_args()
    arguments.trials.mkdir(parents=True, exist_ok=True)
    folders = {name: arguments.trials.resolve() / name.replace(" ", "-") for name in TRIALS}
    try:
        for name in arguments.only or TRIALS:
            if not folders[name].exists():
                print(f"trial: {name}", file=sys.stderr, flush=True)
                run(name, arguments.project, folders[name])
        done = {name: read(folder) for name, folder in folders.items() if folder.exists()}
    except (UserError, subprocess.CalledProcessError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    if "none" not in done:
        sys.exit("error: the trial `none`, the baseline of all others, is missing; run it too")
    every, shown = tables(done)
    path = ROOT / "docs" / "results" / "urbansound8k-trials.csv"
    every.to_csv(path, index=False, lineterminator="\n", float_format="%.3f")
    put(ROOT / "docs" / "results.md", "trials", shown.to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
