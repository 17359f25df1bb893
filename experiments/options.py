"""Train a supernet once with each option of the recipes, and write the scores to docs/options.{md,csv}.

Scores are of the validation split, over the whole search space. The project's own models are not changed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import yaml

from audionas.data import paths as data_paths
from audionas.runtime.errors import UserError
from audionas.search.budget import near
from audionas.settings.file import PARAMS
from audionas.settings.values import parse_constraint, parse_size
from audionas.supernet.scores import read_scores
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.stages import score, supernet
from audionas.systems.once_for_all.study import check
from audionas.systems.registry import load_config

ROOT = Path(__file__).resolve().parents[1]
Changes = dict[str, dict[str, Any]]
SECONDS = "seconds per iteration"


def options(config: Config) -> dict[str, Changes]:
    """Return the changes of each option to params.yaml, by section."""
    iterations = config.supernet.largest_iterations + config.supernet.sampled_iterations
    return {
        "default": {},
        "sandwich": {"supernet": {"sampling": "sandwich"}},
        "in-place": {"supernet": {"sampling": "sandwich"}, "distillation": {"in_place": True}},
        "sorted": {"supernet": {"sort_channels": True}},
        "warm-up": {"training": {"warmup_iterations": max(2, iterations // 40)}},
        "ema": {"training": {"averaging": "ema"}},
        "swa": {"training": {"averaging": "swa"}},
        "clean": {"distillation": {"teacher_input": "clean"}},
        "stored": {"distillation": {"teacher_input": "stored"}},
        "labels": {"distillation": {"hard_label_weight": 0.5}},
    }


def in_words(changes: Changes) -> str:
    """Format changes as keys of params.yaml; empty if there are none."""
    keys = [f"`{s}.{k}: {v}`" for s, part in changes.items() for k, v in part.items()]
    return ", ".join(keys).replace("True", "true")


@contextmanager
def experiment(project: Path, config: Config, changes: Changes) -> Iterator[Config]:
    """Change to a temporary folder with the project's data and changed parameters."""
    values = config.model_dump(mode="json")
    for section, keys in changes.items():
        values[section] |= keys
    with TemporaryDirectory() as folder, chdir(folder):
        PARAMS.write_text(yaml.safe_dump(values), encoding="utf-8")
        data_paths.DATA.symlink_to(project / data_paths.DATA)
        yield load_config()


def trial(project: Path, config: Config, changes: Changes, seed: int, teacher: int) -> dict[str, float]:
    """Return validation mAP x 100 of a supernet trained with an option, and the seconds per iteration."""
    name = config.study.chosen_space
    with experiment(project, config, changes) as changed:
        paths.teacher(seed).parent.mkdir(parents=True)
        paths.teacher(seed).symlink_to(project / paths.teacher(teacher))
        started = time.perf_counter()
        supernet.run(changed, name, seed)
        seconds = time.perf_counter() - started
        score.run(changed, name, seed)
        space = space_of(changed, name)
        scores = read_scores(paths.scores(name, seed), space)
    tolerance = parse_size(config.search.tolerance)
    best = {
        f"best near {constraint}": max(
            scores[s] for s in near(space, parse_constraint(constraint), tolerance)
        )
        for constraint in config.study.constraints
    }
    found = {"smallest": scores[space.smallest], **best, "largest": scores[space.largest]}
    found["mean of the space"] = sum(scores.values()) / len(scores)
    iterations = config.supernet.largest_iterations + config.supernet.sampled_iterations
    return {**{key: 100 * value for key, value in found.items()}, SECONDS: seconds / iterations}


def write(rows: list[dict], config: Config, teacher: int, folder: Path) -> None:
    """Write options.csv with a row per training, and options.md with a row per option."""
    table = pd.DataFrame(rows)
    table.to_csv(folder / "options.csv", index=False, lineterminator="\n", float_format="%.4f")
    shown = []
    for option, group in table.groupby("option", sort=False):
        line = {"option": option, "parameters": in_words(options(config)[option]) or "params.yaml"}
        line["seeds"] = " ".join(map(str, sorted(group["seed"])))
        for column in table.columns.drop(["option", "seed"]):
            digits, values = (3 if column == SECONDS else 1), group[column]
            spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
            line[column] = f"{values.mean():.{digits}f}{spread}"
        shown.append(line)
    seeds = ", ".join(map(str, sorted(table["seed"].unique())))
    training = config.supernet
    text = (
        "# Options of the recipes\n\n"
        f"Validation mAP × 100 of supernets of space {config.study.chosen_space}, corpus "
        f"{config.corpus.name}, {training.largest_iterations} + {training.sampled_iterations} iterations, "
        f"{config.training.threads} thread(s), else as in `params.yaml`. The teacher has seed {teacher}, the "
        f"supernets have seeds {seeds} (mean ± standard deviation).\n\n"
        "- Seconds are those of the whole stage, validation included; the machine was not recorded.\n"
        "- The best near a constraint is the maximum over validation, so it is a little above what new clips "
        "would give.\n"
        "- A row without ± is one training: compare it with the spread of the others before believing it.\n\n"
        f"{pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True)}\n\n"
        f"Made by `{shlex.join(['python', 'experiments/options.py', *sys.argv[1:]])}` after `dvc repro`.\n"
    )
    (folder / "options.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--project", type=Path, default=Path(), help="folder in which `dvc repro` has been run"
    )
    parser.add_argument("--options", nargs="+", metavar="NAME", help="options to train (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the supernets")
    parser.add_argument("--teacher", type=int, default=0, help="seed of the teacher of them all")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder to write to")
    arguments = parser.parse_args()
    project, output = arguments.project.resolve(), arguments.output.resolve()
    try:
        config = load_config(project / PARAMS)
        check(config, project / PARAMS)
        known = options(config)
        chosen = arguments.options or list(known)
        if unknown := set(chosen) - set(known):
            parser.error(f"no such option: {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
        for needed in (project / paths.teacher(arguments.teacher), project / data_paths.logmel("valid")):
            if not needed.exists():
                raise UserError(f"{needed}: no such file; run `dvc repro` in {project}")
        runs = [(option, seed) for option in chosen for seed in arguments.seeds]
        rows: list[dict] = []
        for number, (option, seed) in enumerate(runs, start=1):
            print(f"{option}, seed {seed} ({number} of {len(runs)})", file=sys.stderr)
            result = trial(project, config, known[option], seed, arguments.teacher)
            rows.append({"option": option, "seed": seed, **result})
            write(
                rows, config, arguments.teacher, output
            )  # after every training, so that an interruption loses only one
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
