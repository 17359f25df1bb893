"""Run the data stages on AudioSet's original lists, with audio from servers on this machine.

    python tools/rehearsal.py /tmp/rehearsal                # both complete lists, and 1,000 validation clips
    python tools/rehearsal.py /tmp/rehearsal --clips 2000   # 1,000 of train, 200 of validation, 800 of test

The program creates a project in a new folder, with the code of this working tree, the original lists, and
profiles/audioset.yaml with small features. A hub and a video server on loopback serve recordings for all ids,
with seeded random faults (tools/standin.py). Clips are missing from the hub. Videos are removed, private,
age-restricted or blocked. Audio is damaged, silent or too short. Requests fail temporarily.

`dvc repro` runs all stages up to the log-mel store and the coverage report. The results are then compared
with the served audio (tools/rehearsal_checks.py). The folder is kept: results/coverage contains the report,
and log.txt the output of the stages.

By default, the lists are in ../shared/data/audioset beside the repository, and the recordings in
../shared/data/esc10/audio. --lists and --recordings give other folders. If unbalanced_train_segments.csv is
missing, the program generates it from the segments and labels of the balanced list, with unused ids.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SUPPORT = ROOT / "tests" / "support"  # the servers of the tests
sys.path.insert(0, str(SUPPORT))

import rehearsal_checks as checks
from rehearsal_checks import FEATURES, SPLITS, TEST, TRAIN, UNBALANCED, read
from standin import RATE, Hub, Recordings, Videos, plan

CLASSES = "class_labels_indices.csv"
STAGES = [*(f"logmel@{split}" for split in SPLITS), "coverage"]
MADE = 20_000  # number of rows of a generated unbalanced list
RECORDINGS = 36


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = ROOT.parent / "shared" / "data"
    parser.add_argument("folder", type=Path, help="folder of the new project")
    parser.add_argument("--clips", type=int, help="total number of clips, 100 or more; all by default")
    parser.add_argument("--valid", type=int, default=1000, help="validation clips if --clips is not given")
    parser.add_argument("--seed", type=int, default=0, help="seed of the faults and of all random draws")
    parser.add_argument("--lists", type=Path, default=shared / "audioset", help="folder of AudioSet's lists")
    parser.add_argument(
        "--recordings", type=Path, default=shared / "esc10" / "audio", help="folder of audio files"
    )
    options = parser.parse_args()
    if options.clips is not None and options.clips < 100:
        parser.error(
            f"--clips {options.clips}: too few for one clip of every kind and class; give 100 or more"
        )
    project = options.folder.resolve()
    project.mkdir(parents=True)
    rehearse(project, options.lists, options.recordings, options.clips, options.valid, options.seed)


def rehearse(
    project: Path, lists: Path, recordings: Path, clips: int | None = None, valid: int = 1000, seed: int = 0
) -> None:
    """Run the rehearsal in an existing empty folder, and print the results.

    Args:
        project: folder of the project.
        lists: folder of AudioSet's lists.
        recordings: folder of audio files.
        clips: total number of clips: 50 % training, 10 % validation, 40 % test. None for all.
        valid: number of validation clips if `clips` is None.
        seed: seed of the faults and of all random draws.

    Raises:
        AssertionError: a ledger, a store or the report does not match the served audio.
    """
    numbers = (
        {"valid": valid}
        if clips is None
        else {"train": clips // 2, "valid": clips // 10, "test": clips * 2 // 5}
    )
    copy_project(project)
    copy_lists(lists, project / "lists", seed)
    files = sorted(path for path in recordings.iterdir() if path.is_file())
    sounds = Recordings(random.Random(seed).sample(files, min(RECORDINGS, len(files))))
    with Hub(project / "served", seed) as hub, Videos() as videos, measured(project):
        write_params(project, hub, videos, numbers, seed)
        repro(project, "segments")
        splits = {split: read(project / f"data/segments/{split}.csv") for split in SPLITS}
        kinds = plan([row["clip_id"] for rows in splits.values() for row in rows], seed)
        hub.hold(splits, kinds, sounds)
        videos.hold(splits, kinds, sounds)
        repro(project, *STAGES)
        held, sent = sum(map(len, hub.files.values())), sum(hub.sent.values())
        print(f"the hub held {held / 1e9:.3f} GB and sent {sent / 1e9:.3f}; ", end="")
        print(f"{len(videos.seen):,} requests for videos, {videos.sent / 1e9:.3f} GB")
    checks.listed(project, splits, whole=clips is None)
    checks.ledgers(project, splits, kinds)
    checks.stores(project, splits, kinds)
    checks.packed(project, splits, kinds, sounds, seed)
    checks.report(project, splits, kinds)
    print((project / "results/coverage/coverage.md").read_text())
    print(f"All results match the served audio: {project / 'results/coverage/coverage.png'}")


def copy_project(project: Path) -> None:
    """Copy the code that the pipeline needs to a new repository."""
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard", "dvc.yaml", ".dvc", ".dvcignore", "src"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    (project / "audio").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    # With links, DVC's cache needs no second copy of each output.
    command = ["dvc", "config", "--local", "cache.type", "reflink,hardlink,symlink"]
    subprocess.run(command, cwd=project, env=environment(project), check=True)


def copy_lists(lists: Path, to: Path, seed: int) -> None:
    """Copy the original lists; generate the unbalanced list if it is missing."""
    to.mkdir()
    for name in (CLASSES, TRAIN, TEST):
        shutil.copy(lists / name, to / name)
    if (lists / UNBALANCED).is_file():
        shutil.copy(lists / UNBALANCED, to / UNBALANCED)
        return
    chance = random.Random(seed)
    rows = [line for line in (to / TRAIN).read_text().splitlines() if not line.startswith("#")]
    # The original lists contain no id of an underscore and ten digits.
    made = [f"_{number:010d}{row[11:]}" for number, row in enumerate(chance.choices(rows, k=MADE))]
    text = "\n".join(["# YTID, start_seconds, end_seconds, positive_labels", *made])
    (to / UNBALANCED).write_text(text + "\n")


def write_params(project: Path, hub: Hub, videos: Videos, numbers: Mapping[str, int], seed: int) -> None:
    """Write params.yaml: profiles/audioset.yaml with local servers, small features and numbers of clips."""
    params = yaml.safe_load((ROOT / "profiles/audioset.yaml").read_text())
    corpus, network = params["corpus"], params["network"]
    corpus |= {"lists": "lists", "audio": "audio", "sources": ["hub", "youtube"], "seed": seed}
    corpus["valid_clips"] = numbers["valid"]
    corpus["hub"] |= {"repository": hub.name, "endpoint": hub.endpoint, "files": ["data/*"]}
    corpus["youtube"] |= {"address": videos.url("/video/{ytid}"), "pause_seconds": 0.0}
    corpus["download"] |= {"pause_seconds": 0.5}
    if "train" in numbers:
        corpus["clips"] = {split: numbers[split] for split in ("train", "test")}
        if numbers["train"] < 527:  # each class needs a clip, so the number of classes is reduced
            with (project / "lists" / CLASSES).open(newline="") as file:
                ids = [row["mid"] for row in csv.DictReader(file)]
            corpus["only_classes"] = ids[:: -(-len(ids) // (numbers["train"] // 4))]
            network["num_classes"] = len(corpus["only_classes"])
    params["audio"]["sample_rate"] = RATE
    params["features"] |= FEATURES
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def environment(project: Path) -> dict[str, str]:
    """Return the environment of the stages: project code, yt-dlp plugin, no proxy, no accounts."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AUDIONAS_"))}
    paths = [str(project / "src"), str(SUPPORT / "plugins")]
    given |= {"PYTHONPATH": os.pathsep.join(paths), "DVC_NO_ANALYTICS": "1", "no_proxy": "*", "NO_PROXY": "*"}
    return given | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def repro(project: Path, *stages: str) -> None:
    """Run `dvc repro`, and print the duration of each stage and of DVC's start.

    Raises:
        AssertionError: the command fails.
    """
    began, stage = time.monotonic(), "DVC's start"
    # The output goes to a file, because it is long and only needed after a failure.
    with (project / "log.txt").open("a") as log:
        process = subprocess.Popen(
            ["dvc", "repro", *stages],
            cwd=project,
            env=environment(project),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        for line in process.stdout:
            log.write(line)
            log.flush()
            if line.startswith("Running stage"):
                print(f"{time.monotonic() - began:8.1f} s  {stage}", flush=True)
                began, stage = time.monotonic(), line.split("'")[1]
    print(f"{time.monotonic() - began:8.1f} s  {stage}", flush=True)
    if process.wait():
        raise AssertionError(f"dvc repro failed:\n{(project / 'log.txt').read_text()[-3000:]}")


@contextmanager
def measured(project: Path) -> Iterator[None]:
    """Print the duration, the peak disk usage, and the memory of the largest process of the block."""
    began, before, done = time.monotonic(), shutil.disk_usage(project).used, threading.Event()
    most = [0]

    def look() -> None:
        while not done.wait(1.0):
            most[0] = max(most[0], shutil.disk_usage(project).used - before)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(
            f"{time.monotonic() - began:.0f} s in total; peak disk usage {most[0] / 1e9:.2f} GB, "
            f"including other programs; peak memory of one process {memory / 1e6:.2f} GB"
        )


if __name__ == "__main__":
    main()
