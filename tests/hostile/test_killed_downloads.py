"""The stage `download`, killed at any time, gives the results of an uninterrupted run."""

import io
import random
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from hub_server import Fault, HubServer

from audionas.data.ledger import DOWNLOAD, read_rows

ROOT = Path(__file__).parents[2]
RATE, CLIPS, WORKERS, KILLS = 8000, 300, 4, 20
COMMAND = [sys.executable, "-m", "audionas", "download", "--split", "train"]


def download(folder: Path) -> None:
    subprocess.run(COMMAND, cwd=folder, check=True, capture_output=True)


def sound(seed: int, seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    wave = np.random.default_rng(seed).normal(0, 0.1, round(RATE * seconds))
    soundfile.write(file, wave, RATE, format="FLAC")
    return file.getvalue()


def ytid(number: int) -> str:
    return f"--clip{number:05d}"


def make(folder: Path, local: range, count: int, **corpus) -> None:
    """Create a project with this many training clips, some of them in the local copy."""
    lists, audio = folder / "lists", folder / "audio"
    lists.mkdir(parents=True)
    audio.mkdir()
    (lists / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/1,Cat\n1,/m/2,Dog\n")
    for name, numbers in {
        "balanced_train_segments.csv": range(count),
        "own.csv": [count, count + 1],
        "eval_segments.csv": [count + 2, count + 3],
    }.items():
        rows = [f'{ytid(i)}, 0.000, 10.000, "/m/{1 + i % 2}"\n' for i in numbers]
        (lists / name).write_text("# YTID, start_seconds, end_seconds, positive_labels\n" + "".join(rows))
    for i in local:
        (audio / f"{ytid(i)}.flac").write_bytes(sound(i))
    params = yaml.safe_load((ROOT / "profiles/audioset.yaml").read_text())
    corpus["hub"] = params["corpus"]["hub"] | corpus.get("hub", {})
    params["corpus"] |= {"lists": "lists", "audio": "audio", "valid_list": "own.csv", **corpus}
    params["corpus"]["download"] |= {"pause_seconds": 0.02, "longest_pause_seconds": 0.05, "workers": WORKERS}
    params["network"]["num_classes"] = 2
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run([sys.executable, "-m", "audionas", "segments"], cwd=folder, check=True)


def output(folder: Path) -> dict[str, bytes]:
    """Return all output files of the stage."""
    root = folder / "data/raw/train"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Mirror:
    """A hub with tar files. Some clips are missing or damaged, and some requests fail once with 429."""

    GONE, DAMAGED, LIMITED = {30, 130, 230}, {40, 140, 240}, {50, 150, 250}

    def __init__(self):
        content, self.places = {}, {}
        for start in range(0, CLIPS, 50):
            path, file = f"data/bal_train{start:03d}.tar", io.BytesIO()
            with tarfile.open(fileobj=file, mode="w") as tar:
                for i in sorted(set(range(start, start + 50)) - self.GONE):
                    data = sound(i)[: 500 if i in self.DAMAGED else None]
                    member = tarfile.TarInfo(f"audio/{ytid(i)}.flac")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                    at = tar.offset - -(-len(data) // 512) * 512
                    self.places[path, at, at + len(data)] = i
            content[path] = file.getvalue()
        self.server = HubServer(content)
        self.server.fault = self._answer
        self.asks: Counter[int] = Counter()
        self._limited: set[int] = set()

    def forget(self):
        """Reset the hub for another run."""
        self.asks.clear()
        self._limited.clear()

    def _answer(self, asked):
        i = self.places.get((asked.file, asked.start, asked.end)) if asked.part == "storage" else None
        if i is None:
            return None
        self.asks[i] += 1
        time.sleep(0.005)
        if i in self.LIMITED and i not in self._limited:
            self._limited.add(i)
            return Fault(429)
        return None


@pytest.fixture
def mirror():
    made = Mirror()
    with made.server:
        yield made


@pytest.mark.slow
def test_killed_at_twenty_instants_the_output_is_the_same_and_little_is_asked_twice(tmp_path, mirror):
    hub = {"repository": mirror.server.name, "endpoint": mirror.server.endpoint, "timeout": 60.0}
    for name in ("whole", "killed"):
        make(tmp_path / name, range(10), CLIPS, sources=["local", "hub"], hub=hub)
    download(tmp_path / "whole")
    asks, expected = sum(mirror.asks.values()), output(tmp_path / "whole")
    rows = read_rows(tmp_path / "whole/data/raw/train/ledger.csv", DOWNLOAD)
    assert Counter(row["reason"] for row in rows) == {"": CLIPS - 6, "not there": 3, "decode": 3}
    assert asks == CLIPS - 10 - len(mirror.GONE) + len(mirror.LIMITED)
    began = time.monotonic()
    download(tmp_path / "whole")
    again = time.monotonic() - began  # duration of a run without requests
    assert output(tmp_path / "whole") == expected and sum(mirror.asks.values()) == asks

    mirror.forget()
    folder, draws, kills = tmp_path / "killed", random.Random(0), 0
    # Three quarters while clips are asked for, from the first to the last; the rest while all is written.
    shares = sorted(draws.uniform(0, 1) for _ in range(KILLS * 3 // 4))
    while kills < KILLS:
        share = shares.pop(0) if shares else 1
        asked = sum(mirror.asks.values())
        began = time.monotonic()
        process = subprocess.Popen(COMMAND, cwd=folder, stderr=subprocess.DEVNULL)
        if share < 1:
            while sum(mirror.asks.values()) < max(share * asks, asked + 1) and process.poll() is None:
                time.sleep(0.001)
        try:
            process.wait(draws.uniform(0, 0.05) if share < 1 else draws.uniform(0.4, 1) * again)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        assert process.wait() in (0, -signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        if share == 1 and not process.returncode:  # this run was faster than the timed run
            again = min(again, time.monotonic() - began)
    download(folder)
    assert output(folder) == expected
    assert asks <= sum(mirror.asks.values()) <= asks + KILLS * WORKERS
    assert not (folder / ".state/download/train").exists()


#: Tries the stage with one clip, then runs it, in copies of a project: killed before the first change to the
#: file system, before the second, … and run to its end after each. Folders are emptied in the order given.
STEPS = textwrap.dedent("""
    import os, shutil, sys
    from contextlib import contextmanager
    from pathlib import Path
    sys.path[:0] = sys.argv[1].split(":")
    from test_killed_downloads import output
    from audionas.systems.registry import load_config
    from audionas.data.sources import local
    from audionas.systems.common import download

    CONFIG = load_config("project/params.yaml")
    CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
    scandir = os.scandir

    @contextmanager
    def ordered(folder):
        with scandir(folder) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name, reverse=sys.argv[2] == "last first"))

    def run(folder, *limits, steps=None):
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        left = steps
        def hook(event, arguments):
            nonlocal left
            if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                if left == 0:
                    os._exit(9)
                left = left and left - 1
        os.scandir = ordered
        sys.addaudithook(hook)
        os.chdir(folder)
        for limit in limits:
            download.run(CONFIG, "train", limit)
        os._exit(0)

    shutil.copytree("project", "whole")
    assert run("whole", None) == 0
    steps, killed = 0, True
    while killed:
        shutil.copytree("project", "copy")
        killed = run("copy", 1, None, steps=steps) == 9
        assert run("copy", None) == 0, f"step {steps}: does not go on"
        assert output(Path("copy")) == output(Path("whole")), f"step {steps}: another output"
        assert not Path("copy/.state/download/train").exists(), f"step {steps}: state is left"
        shutil.rmtree("copy")
        steps += 1
    assert steps > 30
""")


@pytest.mark.slow
@pytest.mark.parametrize("order", ["first first", "last first"])
def test_killed_before_any_change_to_the_file_system_the_output_is_the_same(tmp_path, order):
    make(tmp_path / "project", range(2), 3, sources=["local"])
    (tmp_path / "project/audio" / f"{ytid(1)}.flac").write_bytes(b"no audio")
    command = [sys.executable, "-c", STEPS, f"{Path(__file__).parent}:{ROOT / 'tests/support'}", order]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
