"""Time and memory of each stage for lists of two million rows, with one process per stage."""

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
FEW = 1_000  # few rows, to measure the base cost of a process
ROWS = (FEW, 200_000, 2_000_000)
OFFICIAL = {TRAIN: 22_160, TEST: 20_371, UNBALANCED: 2_041_789}
CLASSES = 527
STAGES = ("segments", "download", "coverage")  # `resample` starts PyTorch, and is timed by `features`
REFERENCE = "pandas.read_csv and Python rows"
_ODD = 0x9E3779B97F4A7C15  # multiplication by this odd number is injective modulo 2**64


def ytid(number: int) -> str:
    """Return a unique id of 11 characters, like those of YouTube, for a number."""
    return base64.urlsafe_b64encode((number * _ODD % 2**64).to_bytes(8)).decode()[:11]


def write_list(path: Path, rows: int, first: int, mids: Sequence[str]) -> None:
    """Write a list in the format of AudioSet: spans of 10 s from `first` on, with one to six labels each."""
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
    """Write the class list and lists of these lengths, or use official lists.

    Official lists come from the folder AUDIONAS_LISTS, if it is set. Missing ones are generated.
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
    """Write the configuration of the paper, with lists in `lists` and an empty folder as audio source."""
    config = load_config(ROOT / "profiles/audioset.yaml")
    given = {"lists": "lists", "audio": "audio", "sources": ["local"], "least_coverage": 0.0, **corpus}
    return config.model_copy(update={"corpus": config.corpus.model_copy(update=given)})


def asked_before(split: str) -> None:
    """Write an output of `download` in which only the first clip is present."""
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
    """Return wall-clock seconds, CPU seconds, and peak memory in MB of a stage or the reference."""
    path = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "benchmarks.lists", name, json.dumps(corpus)]
    environment = {**os.environ, "PYTHONPATH": path, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def action(name: str, config: Config) -> Callable[[], object]:
    """Return a stage or the reference as a function, with its imports done."""
    if name == REFERENCE:
        import pandas as pd

        path = data_paths.segments("train")
        return lambda: pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    run = import_module(f"audionas.systems.common.{name}").run
    return partial(run, config, "train") if name == "download" else partial(run, config)


def peak() -> float:
    """Return the peak memory of this process in MB.

    getrusage is not used, because a new process inherits the peak of its parent there.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def own(rows: int) -> Iterator[tuple[str, float, float, float]]:
    """Yield name and result of `measure` per stage and reference, for a training list of this length."""
    corpus = {"train_list": "own.csv", "valid_list": "own-valid.csv", "test_list": "own-test.csv"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("audio").mkdir()
        write_lists(Path("lists"), {"own.csv": rows, "own-valid.csv": FEW, "own-test.csv": FEW})
        for name in (*STAGES, REFERENCE):
            yield name, *measure(name, Path(folder), corpus)
            if name == "segments":
                asked_before("train")


def official() -> Iterator[tuple[str, float, float, float]]:
    """Return the same for the three official lists. Only `segments` reads them as a whole."""
    with tempfile.TemporaryDirectory() as folder:
        write_lists(Path(folder, "lists"), OFFICIAL)
        yield "segments", *measure("segments", Path(folder), {})


def lists() -> dict:
    """Measure the memory for 2,000,000 rows in the stage that needs most. The reference holds all rows."""
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
