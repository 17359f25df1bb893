"""Compare what a network is given for a short window: the window as it is, padded with silence, or repeated.

`python experiments/short_windows.py demo models/release/112k.pt data/audio/test.h5` uses a released network
and the test clips of `dvc repro`. `python experiments/short_windows.py esc10 FOLDER` trains a small CNN10 on
ESC-10 (FOLDER has clips.csv and audio/) in a few minutes. Both print the mAP of the clips by the mean over
their windows, half a window apart; see docs/classify.md.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from audionas.audio.decode import decode
from audionas.audio.logmel import LogMel
from audionas.data.store import ClipStore
from audionas.evaluation.metrics import mean_average_precision
from audionas.inference import Classifier
from audionas.models.cnn10 import Cnn10

Run = Callable[[np.ndarray], np.ndarray]  # waveforms [batch, samples] to probabilities [batch, classes]
_RATE, _SECONDS, _EPOCHS, _BATCH = 32_000, 5, 25, 16  # of ESC-10


def compare(run: Run, clips: np.ndarray, labels: np.ndarray, rate: int, windows: list[float]) -> None:
    """Print the mAP of waveforms [clips, samples] in -1..1 for each window in seconds."""
    length = clips.shape[1]
    whole = np.concatenate([run(clip[None]) for clip in clips])
    print(f"whole clips: mAP {100 * mean_average_precision(labels, whole):.1f}", flush=True)
    for window in windows:
        size = round(window * rate)
        ways: dict[str, Run] = {
            "as it is": lambda x: x,
            "padded": lambda x, size=size: np.pad(x, ((0, 0), (0, length - size))),
            "repeated": lambda x, size=size: np.tile(x, (1, -(-length // size)))[:, :length],
        }
        for way, given in ways.items():
            start, means = time.monotonic(), []
            try:
                for clip in clips:
                    cut = np.stack([clip[i : i + size] for i in range(0, length - size + 1, size // 2)])
                    heard = np.abs(cut).max(axis=1, keepdims=True) > 1e-3
                    means.append((run(np.ascontiguousarray(given(cut))) * heard).mean(axis=0))
            except RuntimeError as error:  # too few frames for the pooling
                print(f"{window:g} s {way}: {str(error).splitlines()[0][:60]}", flush=True)
                continue
            score = 100 * mean_average_precision(labels, np.stack(means))
            print(f"{window:g} s {way}: mAP {score:.1f} in {time.monotonic() - start:.0f} s", flush=True)


def demo(model: str, store: str) -> None:
    """Compare with a released network, on the clips of a store."""
    clips, classifier = ClipStore(Path(store)), Classifier(model)
    waves = clips.data[:].astype(np.float32) / 32_767
    compare(classifier._network, waves, clips.labels[:], classifier.rate, [1.0, 2.0, 2.5, 5.0])


def esc10(folder: str) -> None:
    """Train a network on folds 1 to 4 of ESC-10, and compare with it on fold 5."""
    with (Path(folder) / "clips.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["category"] for row in rows})
    files = [Path(folder) / "audio" / row["file"] for row in rows]
    clips = np.stack([decode(file.read_bytes(), _RATE, _RATE * _SECONDS).waveform for file in files])
    labels = np.eye(len(classes), dtype=np.float32)[[classes.index(row["category"]) for row in rows]]
    test = np.array([row["fold"] == "5" for row in rows])
    torch.manual_seed(0)
    front_end, network = LogMel(sample_rate=_RATE), Cnn10(len(classes), 8)
    with torch.no_grad():
        logmel = torch.cat([front_end(torch.from_numpy(clip[None])) for clip in clips])
    rng, train = np.random.default_rng(0), np.flatnonzero(~test)
    steps = _EPOCHS * (len(train) // _BATCH)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(_EPOCHS):
        order = rng.permutation(train)
        for batch in np.split(order[: len(order) // _BATCH * _BATCH], len(order) // _BATCH):
            shifted = logmel[batch].roll(int(rng.integers(0, logmel.shape[1])), 1)
            loss = F.binary_cross_entropy_with_logits(network(shifted), torch.from_numpy(labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()

    @torch.inference_mode()
    def run(waves: np.ndarray) -> np.ndarray:
        return torch.sigmoid(network(front_end(torch.from_numpy(waves)))).numpy()

    compare(run, clips[test], labels[test], _RATE, [0.5, 1.0, 2.0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("demo")
    one.add_argument("model")
    one.add_argument("store")
    one = commands.add_parser("esc10")
    one.add_argument("folder")
    options = vars(parser.parse_args())
    {"demo": demo, "esc10": esc10}[options.pop("command")](**options)
