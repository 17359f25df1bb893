"""A training step on several ranks."""

from __future__ import annotations

import os
import socket
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.multiprocessing as processes

from audionas.data.store import ClipStore
from audionas.models import Cnn10
from audionas.runtime.ranks import current, join
from audionas.search.cnn10 import LARGEST, Cnn10Architecture
from audionas.settings.audio import Augment
from audionas.settings.training import Training
from audionas.tasks import MultiLabel
from audionas.training.feed import Feed
from audionas.training.objectives.supervised import Supervised
from benchmarks.steps import made_store
from benchmarks.training import CLASSES, COUNTED, floor

STEPS = 6


def _rank(rank: int, size: int, port: int, store: str, width: int, clips: int, answer: str) -> None:
    """Run one of `size` processes: steps on its part of every batch, and averaging of gradients."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with join("cpu"):
        torch.manual_seed(0)
        objective = Supervised(Cnn10(CLASSES, width).train(), MultiLabel())
        feed = Feed(ClipStore(store), Training(batch_size=clips), Augment(), 1.0)
        optimiser = torch.optim.Adam(objective.network.parameters(), lr=1e-3)
        steps, averages = [], []
        for iteration in range(STEPS):
            started = time.perf_counter()
            loss = objective(feed.batch(iteration), iteration)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            current().wait()  # excludes the wait for the slower rank from the time of averaging
            computed = time.perf_counter()
            current().average([p.grad for p in objective.network.parameters()])
            averages.append(time.perf_counter() - computed)
            optimiser.step()
            steps.append(time.perf_counter() - started)
        if rank == 0:
            Path(answer).write_text(
                f"{statistics.median(steps[1:])} {statistics.median(averages[1:])}", encoding="utf-8"
            )


def ranks(width: int = 16, clips: int = 16, frames: int = 501, sizes: tuple[int, ...] = (1, 2)) -> dict:
    """Measure one batch on one rank and on several, with one thread each."""
    taken = {}
    with made_store(4 * clips, frames, CLASSES) as store, TemporaryDirectory() as folder:
        for size in sizes:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            answer = str(Path(folder, "seconds"))
            processes.spawn(_rank, (size, port, str(store.path), width, clips, answer), nprocs=size)
            taken[size] = [float(number) for number in Path(answer).read_text(encoding="utf-8").split()]
    alone, ours = taken[1][0], taken[sizes[-1]][0]
    gradients = 4 * Cnn10Architecture(CLASSES, width).parameters(LARGEST) / 1e6
    least = floor(Cnn10Architecture(CLASSES, width), [[LARGEST]], clips, frames)  # on all cores
    return {
        "what": f"a step of a CNN10 of {width} channels, {clips} clips of {frames} frames, by "
        f"{sizes[-1]} ranks of a thread each, {gradients:.1f} MB averaged; reference: by one rank",
        "unit": "s",
        "ours": ours,
        "reference": alone,
        "floor": least,
        "counted": COUNTED,
        "table": [
            {
                "ranks": str(size),
                "step, s": f"{step:.3f}",
                "of it gradients averaged, s": f"{average:.4f}",
                "times one rank": f"{alone / step:.2f}",
            }
            for size, (step, average) in taken.items()
        ],
    }
