"""Encoded clips to stored log-mel: this package, step by step, against common libraries."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import librosa
import numpy as np
import soundfile
import torch
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from audionas.audio import LogMel, decode
from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, DOWNLOAD, SEGMENTS, write_rows
from audionas.data.shards import CLIPS, write_shard
from audionas.data.store import ClipStoreWriter
from audionas.runtime.parallel import workers
from audionas.settings.audio import Audio, Features
from audionas.systems.common import logmel, resample
from audionas.systems.registry import load_config
from benchmarks.ceilings import least_seconds
from benchmarks.timing import one_core, seconds

RATE, NEW_RATE, CLIP_SECONDS = 44_100, 32_000, 10
SAMPLES, SHAPE = NEW_RATE * CLIP_SECONDS, (1001, 64)
OPERATIONS = 5 * 512 * 9 + 2 * 513 * 64  # per frame: a real transform of 1024 samples, and the mel filters
DISTINCT = 8  # generated clips; larger numbers repeat them
FEW, MORE = 40, int(os.environ.get("AUDIONAS_BENCH_CLIPS", "2000"))
_frontend: LogMel  # state of this process


def flac(seed: int) -> bytes:
    """Return a stereo FLAC clip of 44.1 kHz and 16 bits: coloured noise and tones, compressed to 60 %."""
    rng = np.random.default_rng(seed)
    n = RATE * CLIP_SECONDS
    spectrum = np.fft.rfft(rng.normal(size=(2, n))) / (1 + np.arange(n // 2 + 1)) ** 0.9
    noise = np.fft.irfft(spectrum, n)
    at = np.arange(n) / RATE
    tones = sum(np.sin(2 * np.pi * hertz * at) for hertz in rng.uniform(100, 5000, 6)) / 30
    wave = 0.15 * noise / noise.std() + tones
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave.T, -1, 1), RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def start() -> None:
    """Initialize a process as the stages do."""
    global _frontend
    torch.set_num_threads(1)
    _frontend = LogMel(NEW_RATE)


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Convert a waveform as the stage `resample` stores it."""
    return np.rint(waveform * 32_767).astype(np.int16)


def to_logmel(waveform: np.ndarray) -> np.ndarray:
    """Transform int16 [samples] to float16 [frames, mels], as the stage `logmel` stores it."""
    waveform = np.divide(waveform, np.float32(32_767), dtype=np.float32)
    return _frontend(torch.from_numpy(waveform)[None])[0].half().numpy()


def writer(folder: str, name: str, clips: int, shape: tuple[int, ...], dtype) -> ClipStoreWriter:
    """Return a writer of a clip store."""
    labels = ((str(i), np.ones(1)) for i in range(clips))
    work = Path(folder, name)
    work.unlink(missing_ok=True)
    return ClipStoreWriter(work, labels, clips, row_shape=shape, dtype=dtype, classes=["a"], settings={})


def package(data: list[bytes], clips: int) -> float:
    """Return the total seconds of the stages `resample` and `logmel` for clips of one shard."""
    config = load_config(Path(__file__).parents[1] / "params.yaml")
    config = config.model_copy(update={"audio": Audio(), "features": Features()})
    ids = [f"clip{i:06d}" for i in range(clips)]
    rows = [{"clip_id": i, "source": i, "origin": i, "labels": "a"} for i in ids]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_rows(data_paths.segments("train"), SEGMENTS, rows)
        write_rows(data_paths.CLASSES, CLASSES, [{"index": 0, "mid": "a", "display_name": "a"}])
        digests = [hashlib.sha256(encoded).hexdigest() for encoded in data]
        got = [
            {"clip_id": clip_id, "status": "ok", "sha256": digest}
            for start in range(0, clips, CLIPS)
            for clip_id, digest in zip(ids[start : start + CLIPS], itertools.cycle(digests))
        ]
        write_rows(data_paths.raw("train") / "ledger.csv", DOWNLOAD, got)
        for number, start in enumerate(range(0, clips, CLIPS)):
            some = zip(ids[start : start + CLIPS], itertools.cycle(data))
            write_shard(data_paths.raw("train") / f"shard-{number:06d}.tar", some)
        started = time.perf_counter()
        resample.run(config, "train")
        logmel.run(config, "train")
        return time.perf_counter() - started


def usual(data: list[bytes], folder: str) -> float:
    """Return the seconds per clip of librosa and torchlibrosa: one process, file by file, rows to HDF5."""
    spectrogram = Spectrogram(n_fft=1024, hop_length=320, win_length=1024)
    mel = LogmelFilterBank(
        sr=NEW_RATE, n_fft=1024, n_mels=64, fmin=50, fmax=14_000, ref=1.0, amin=1e-10, top_db=None
    )
    files = [Path(folder, f"{i}.flac") for i in range(len(data))]
    for path, content in zip(files, data, strict=True):
        path.write_bytes(content)

    def clips() -> Iterator[np.ndarray]:
        for path in files:
            wave, _ = librosa.load(path, sr=NEW_RATE, mono=True)
            yield librosa.util.fix_length(wave, size=SAMPLES)

    @torch.no_grad()
    def run() -> None:
        with h5py.File(Path(folder, "usual.h5"), "w") as file:
            waves = file.create_dataset("waveform", (len(data), SAMPLES), np.int16)
            rows = file.create_dataset("logmel", (len(data), *SHAPE), np.float16)
            for i, wave in enumerate(clips()):
                waves[i] = to_int16(np.clip(wave, -1, 1))
                rows[i] = mel(spectrogram(torch.from_numpy(wave)[None]))[0, 0].numpy()

    return seconds(run) / len(data)


def steps(data: list[bytes], folder: str) -> dict[str, float]:
    """Return the seconds per clip of each step on one core."""
    decoded = [decode.decode(clip, RATE, RATE * CLIP_SECONDS).waveform for clip in data]
    waves = [to_int16(decode.resample(wave, RATE, NEW_RATE)) for wave in decoded]
    mels = [to_logmel(wave) for wave in waves]

    actions = {
        "decode": lambda: [decode.decode(clip, RATE, RATE * CLIP_SECONDS) for clip in data],
        "resample": lambda: [to_int16(decode.resample(wave, RATE, NEW_RATE)) for wave in decoded],
        "log-mel": lambda: [to_logmel(wave) for wave in waves],
    }
    with (
        writer(folder, "audio.h5", len(data), (SAMPLES,), np.int16) as audio,
        writer(folder, "logmel.h5", len(data), SHAPE, np.float16) as spectrograms,
    ):

        def pack() -> None:
            for i, (wave, rows) in enumerate(zip(waves, mels, strict=True)):
                audio[i], spectrograms[i] = wave, rows

        return {name: seconds(action) / len(data) for name, action in (actions | {"pack": pack}).items()}


def features() -> dict:
    """Convert clips of 10 s to stored waveforms and log-mel. The reference is librosa with torchlibrosa."""
    data = [flac(seed) for seed in range(DISTINCT)]
    with tempfile.TemporaryDirectory() as folder:
        reference = usual(data, folder)
        with one_core():
            start()
            taken = steps(data, folder)
            alone = usual(data, folder)
            floor = (taken["decode"] + least_seconds(SHAPE[0] * OPERATIONS)) / workers()
    # Both include the start-up time of the stages.
    ours = (package(data, FEW + MORE) - package(data, FEW)) / MORE
    total = sum(taken.values())
    table = [
        {"step, on one core": name, "ms/clip": f"{1000 * took:.1f}", "share": f"{took / total:.0%}"}
        for name, took in taken.items()
    ]
    longest = max(taken, key=taken.get)
    for name, took in (
        ("all steps on one core", total),
        (f"all steps, {workers()} threads", ours),
        ("the usual way on one core", alone),
        (f"the usual way, {torch.get_num_threads()} threads", reference),
    ):
        table.append({"step, on one core": name, "ms/clip": f"{1000 * took:.1f}", "share": ""})
    for row, took in zip(table, [*taken.values(), total, ours, alone, reference], strict=True):
        row["clips/s"] = f"{1 / took:.1f}"
    return {
        "what": f"a FLAC clip of 10 s, 44.1 kHz and stereo, to packed waveform and log-mel by {workers()} "
        f"threads, bounded by {longest}; reference: librosa and torchlibrosa, one process, file by file",
        "unit": "s",
        "ours": ours,
        "reference": min(reference, alone),  # the faster of the two, because threads can compete
        "floor": floor,
        "counted": "decoding as measured, and the operations of transform and mel filters at "
        "the float32 ceiling, on all threads",
        "table": table,
    }
