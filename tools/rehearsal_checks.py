"""Compare the results of a rehearsal with the served audio, without importing audionas.

Arguments of each check: folder of the project, rows of data/segments by split, and kind of every clip
(`standin.KINDS`). A check raises AssertionError if it fails.
"""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import h5py
import librosa
import numpy as np
import soundfile
from standin import KINDS, PERIOD, RATE, Hub, Recordings

SPLITS = ("train", "valid", "test")
TRAIN, UNBALANCED, TEST = (f"{name}_segments.csv" for name in ("balanced_train", "unbalanced_train", "eval"))
#: Features of a rehearsal, small to save disk space.
FEATURES = {"n_fft": 256, "hop": 80, "mels": 24, "fmin": 50.0, "fmax": 4000.0}
FRAMES = PERIOD * RATE // FEATURES["hop"] + 1
SAMPLE = 50  # number of clips whose rows are compared with the served audio


def read(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def listed(project: Path, splits: Mapping[str, list], whole: bool) -> None:
    """Check that the lists of the pipeline equal the original lists, or are a part of them."""
    for split, name in zip(SPLITS, (TRAIN, UNBALANCED, TEST), strict=True):
        listed = {}
        for line in (project / "lists" / name).read_text().splitlines():
            if not line.startswith("#"):
                ytid, start, end, labels = line.split(", ")
                listed[ytid, float(start)] = float(end), set(labels.strip('"').split(","))
        rows = {(row["source"], float(row["start"])): row for row in splits[split]}
        assert len(rows) == len(splits[split])
        assert rows.keys() <= listed.keys()
        assert not whole or split == "valid" or len(rows) == len(listed), split
        for key, row in rows.items():
            end, labels = listed[key]
            assert float(row["end"]) == end and set(row["labels"].split(",")) <= labels
            assert row["clip_id"] == f"Y{key[0]}_{round(key[1] * 1000)}"


def ledgers(project: Path, splits: Mapping[str, list], kinds: Mapping[str, str]) -> None:
    """Check that every ledger has each clip once, with the planned source or reason."""
    outcomes: Counter[str] = Counter()
    for split, rows in splits.items():
        ledger = read(project / f"data/raw/{split}/ledger.csv")
        assert Counter(row["clip_id"] for row in ledger) == Counter(row["clip_id"] for row in rows)
        decoded = {row["clip_id"]: row for row in read(project / f"data/audio/{split}.ledger.csv")}
        assert len(decoded) == len(rows)
        for row in ledger:
            kind = KINDS[kinds[row["clip_id"]]]
            answers = ";".join(f"{source}:{reason}" for source, reason in kind.reasons.items())
            wanted = "failed" if kind.reason else "ok", kind.source, kind.reason, answers
            said = row["status"], row["source"].split(" (")[0], row["reason"], row["answers"]
            assert said == wanted, (row["clip_id"], kinds[row["clip_id"]], said)
            then = decoded[row["clip_id"]]
            assert then["status"] == wanted[0]
            assert then["reason"] == (kind.reason and f"download: {kind.reason}")
            outcomes[f"{row['source'].split(' (')[0] or 'none'}: {kinds[row['clip_id']]}"] += 1
    print("\n".join(f"{count:8,}  {outcome}" for outcome, count in outcomes.most_common()))


def stores(project: Path, splits: Mapping[str, list], kinds: Mapping[str, str]) -> None:
    """Check that the stores contain all available clips, with the order and the labels of the list."""
    classes = [row["mid"] for row in read(project / "data/segments/classes.csv")]
    column = {mid: i for i, mid in enumerate(classes)}
    for split, rows in splits.items():
        got = [row for row in rows if not KINDS[kinds[row["clip_id"]]].reason]
        labels = np.zeros((len(got), len(classes)), np.uint8)
        for i, row in enumerate(got):
            labels[i, [column[mid] for mid in row["labels"].split(",")]] = 1
        for store, shape in (("audio", (PERIOD * RATE,)), ("logmel", (FRAMES, FEATURES["mels"]))):
            with h5py.File(project / f"data/{store}/{split}.h5") as file:
                assert file["clip_ids"].asstr()[:].tolist() == [row["clip_id"] for row in got]
                assert file["data"].shape == (len(got), *shape)
                assert (file["labels"][:] == labels).all()


def packed(project: Path, splits: Mapping[str, list], kinds, sounds: Recordings, seed: int) -> None:
    """Check sampled rows: 16-bit waveforms equal the decoded files, and log-mel equals librosa's."""
    got = [
        (split, row) for split in SPLITS for row in splits[split] if not KINDS[kinds[row["clip_id"]]].reason
    ]
    sample = random.Random(seed).sample(got, SAMPLE)
    sample += [each for each in got if KINDS[kinds[each[1]["clip_id"]]].source == "youtube"][:5]
    for split, row in sample:
        kind = KINDS[kinds[row["clip_id"]]]
        wave = sounds.samples(row) / 2**15
        if kind.source == "hub":
            wave, _ = soundfile.read(io.BytesIO(Hub.audio(row, kind, sounds)))
        wave = np.clip(np.pad(wave, (0, PERIOD * RATE - len(wave))), -1, 1) * 32_767
        difference = np.abs(_row(project / f"data/audio/{split}.h5", row["clip_id"]) - wave)
        assert difference.max() < 0.51, (row["clip_id"], difference.max())
        decibels = _log_mel(np.round(wave) / 32_767)
        difference = np.abs(_row(project / f"data/logmel/{split}.h5", row["clip_id"]) - decibels)
        assert difference[decibels > -60].max(initial=0) < 0.1, (row["clip_id"], difference.max())


def _row(store: Path, clip_id: str) -> np.ndarray:
    with h5py.File(store) as file:
        return file["data"][file["clip_ids"].asstr()[:].tolist().index(clip_id)].astype(np.float64)


def _log_mel(wave: np.ndarray) -> np.ndarray:
    names = {"hop": "hop_length", "mels": "n_mels"}
    options = {names.get(name, name): value for name, value in FEATURES.items()}
    power = librosa.feature.melspectrogram(y=wave, sr=RATE, pad_mode="reflect", **options)
    return librosa.power_to_db(power, amin=1e-10, top_db=None).T


def report(project: Path, splits: Mapping[str, list], kinds: Mapping[str, str]) -> None:
    """Check that the counts of the coverage report equal the plan."""
    for row in read(project / "results/coverage/coverage.csv"):
        planned = [KINDS[kinds[clip["clip_id"]]] for clip in splits[row["split"]]]
        reasons = Counter(kind.reason for kind in planned)
        assert int(row["listed"]) == len(planned) and int(row["got"]) == reasons.pop("", 0)
        for name, count in row.items():
            if name.startswith("missing: "):
                assert int(count) == reasons.pop(name.removeprefix("missing: "), 0)
        assert not reasons
