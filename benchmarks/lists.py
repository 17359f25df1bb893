"""Lists of two million rows: what each stage's handling of them takes, a process for each stage."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np

from audionas.data import paths as data_paths
from audionas.data.corpora.audioset_lists import CLASS_LIST, TEST, TRAIN, UNBALANCED
from audionas.data.ledger import DOWNLOAD, read_rows, write_rows
from audionas.data.shards import write_shard
from audionas.systems.once_for_all.config import Config
from audionas.systems.registry import load_config

ROOT = Path(__file__).parents[1]
FEW = 1_000  # rows that take next to nothing: what a process needs in any case
ROWS = (FEW, 200_000, 2_000_000)
OFFICIAL = {TRAIN: 22_160, TEST: 20_371, UNBALANCED: 2_041_789}
CLASSES = 527
STAGES = ("segments", "download", "coverage")  # `resample` starts PyTorch, and is timed by `features`
REFERENCE = "pandas.read_csv and Python rows"
_ODD = 0x9E3779B97F4A7C15  # times it, modulo 2**64, no two numbers meet


def ytid(number: int) -> str:
    """An id of 11 characters, as YouTube's are; another one for each number."""
    return base64.urlsafe_b64encode((number * _ODD % 2**64).to_bytes(8)).decode()[:11]


def write_list(path: Path, rows: int, first: int, mids: Sequence[str]) -> None:
    """A list in AudioSet's format: spans of 10 s of videos numbered from `first`, one to six labels each."""
    rng = np.random.default_rng(first)
    with path.open("w", encoding="utf-8") as file:
        file.write("# made for a benchmark\n\n# YTID, start_seconds, end_seconds, positive_labels\n")
        for start in range(0, rows, 10_000):
            counts, picks = rng.geometric(0.42, 10_000).clip(1, 6), rng.integers(len(mids), size=(10_000, 6))
            for i in range(min(10_000, rows - start)):
                first_label = (start + i) % len(mids)  # so that small lists have all classes
                picked = (first_label, *picks[i, 1 : counts[i]])
                labels = ",".join(dict.fromkeys(mids[label] for label in picked))
                file.write(f'{ytid(first + start + i)}, 30.000, 40.000, "{labels}"\n')


def write_lists(folder: Path, lists: dict[str, int]) -> None:
    """The class list and lists of so many rows; genuine ones from the folder AUDIONAS_LISTS, where it is set.

    Only lists with an official name can be genuine; one that is not there is made.
    """
    folder.mkdir(parents=True)
    genuine = Path(os.environ.get("AUDIONAS_LISTS", ""))
    if os.environ.get("AUDIONAS_LISTS") and lists.keys() & OFFICIAL.keys():
        for name in (CLASS_LIST, *lists):
            if (genuine / name).is_file():
                shutil.copyfile(genuine / name, folder / name)
    if not (folder / CLASS_LIST).exists():
        names = (f"{i},/m/{i:05d},Class {i}\n" for i in range(CLASSES))
        (folder / CLASS_LIST).write_text("index,mid,display_name\n" + "".join(names))
    mids = [row["mid"] for row in read_rows(folder / CLASS_LIST)]
    for number, (name, rows) in enumerate(lists.items()):
        if not (folder / name).exists():
            write_list(folder / name, rows, number << 40, mids)


def configuration(**corpus: object) -> Config:
    """The paper's, in the working folder: lists in `lists`, an empty folder as the only source of audio."""
    config = load_config(ROOT / "profiles/audioset.yaml")
    given = {"lists": "lists", "audio": "audio", "sources": ["local"], "least_coverage": 0.0, **corpus}
    return config.model_copy(update={"corpus": config.corpus.model_copy(update=given)})


def asked_before(split: str) -> None:
    """Make the last output of `download`: the first clip was got, and no source has the others."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 32_000), 32_000, format="WAV")
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    missing = {"status": "failed", "reason": "not there", "attempts": "1", "answers": "local:not there"}

    def rows(lines: Iterable[str]) -> Iterator[dict]:
        for i, line in enumerate(lines):
            row = {"clip_id": line.partition(",")[0]}
            yield row | (
                {"status": "ok", "source": "local", "attempts": "1", "sha256": digest} if i == 0 else missing
            )

    with data_paths.segments(split).open(encoding="utf-8") as lines:
        next(lines)
        first = next(lines).partition(",")[0]
        lines.seek(0)
        next(lines)
        write_rows(data_paths.raw(split) / "ledger.csv", DOWNLOAD, rows(lines))
    write_shard(data_paths.raw(split) / "shard-000000.tar", [(first, file.getvalue())])


def measure(name: str, folder: Path, corpus: dict) -> tuple[float, float, float]:
    """Seconds, those of the processor, and peak memory in MB of one stage or the reference, in a process."""
    path = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "benchmarks.lists", name, json.dumps(corpus)]
    environment = {**os.environ, "PYTHONPATH": path, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def action(name: str, config: Config) -> Callable[[], object]:
    """One stage, or the reference, in the working folder; what it imports is imported."""
    if name == REFERENCE:
        import pandas as pd

        path = data_paths.segments("train")
        return lambda: pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    run = import_module(f"audionas.systems.common.{name}").run
    return partial(run, config, "train") if name == "download" else partial(run, config)


def peak() -> float:
    """Most memory that this process ever had, in MB.

    Not of getrusage: there a new process begins with the peak of the one that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def own(rows: int) -> Iterator[tuple[str, float, float, float]]:
    """(name, what `measure` gives) of each stage and the reference; a training list of so many rows."""
    corpus = {"train_list": "own.csv", "valid_list": "own-valid.csv", "test_list": "own-test.csv"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("audio").mkdir()
        write_lists(Path("lists"), {"own.csv": rows, "own-valid.csv": FEW, "own-test.csv": FEW})
        for name in (*STAGES, REFERENCE):
            yield name, *measure(name, Path(folder), corpus)
            if name == "segments":
                asked_before("train")


def official() -> Iterator[tuple[str, float, float, float]]:
    """The same for the three official lists, which `segments` alone reads whole."""
    with tempfile.TemporaryDirectory() as folder:
        write_lists(Path(folder, "lists"), OFFICIAL)
        yield "segments", *measure("segments", Path(folder), {})


def lists() -> dict:
    """Memory that a list of 2,000,000 rows adds in the stage that needs most; reference: to hold its rows."""
    table, peaks = [], {}
    for rows in ROWS:
        for name, *measured in own(rows):
            peaks[name, rows] = measured[-1]
            table.append(_row(name, "own", rows, *measured))
    for name, *measured in official():
        table.append(_row(name, "official, all three", sum(OFFICIAL.values()), *measured))
    table.sort(key=lambda row: (*STAGES, REFERENCE).index(row["stage"]))
    added = {name: peaks[name, ROWS[-1]] - peaks[name, FEW] for name in (*STAGES, REFERENCE)}
    reference = added.pop(REFERENCE)
    worst = max(added, key=added.get)
    return {
        "what": f"what a list of {ROWS[-1]:,} rows adds to the peak memory of one of {FEW:,}, in the stage "
        f"where it adds most ({worst}); reference: {REFERENCE}",
        "unit": "MB",
        "ours": added[worst],
        "reference": reference,
        "floor": None,
        "counted": "rows can pass through one by one, so no memory need grow with them",
        "table": table,
    }


def _row(name: str, what: str, rows: int, wall: float, processor: float, memory: float) -> dict[str, str]:
    return {
        "stage": name,
        "lists": what,
        "rows": f"{rows:,}",
        "seconds": f"{wall:.1f}",
        "of the processor": f"{processor:.1f}",
        "rows/s": f"{rows / wall:,.0f}",
        "peak, MB": f"{memory:,.0f}",
    }


if __name__ == "__main__":
    _act = action(sys.argv[1], configuration(**json.loads(sys.argv[2])))
    _began = time.perf_counter(), time.process_time()
    _act()
    print(json.dumps([time.perf_counter() - _began[0], time.process_time() - _began[1], peak()]))
