"""Stage `resample`: original audio to mono waveforms of one rate and one length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from audionas import paths
from audionas.audio.decode import Decoded, DecodeError, decode
from audionas.config import Audio, Config
from audionas.errors import UserError
from audionas.ledger import CLASSES, DOWNLOAD, RESAMPLE, SEGMENTS, read_rows, write_rows
from audionas.parallel import ordered_map
from audionas.shards import read_shards
from audionas.store import ClipStoreWriter

_FULL_SCALE = 32_767


def run(config: Config, split: str) -> None:
    """Write data/audio/{split}.h5 (int16 [clips, samples]) and its ledger, a row for every clip of the list.

    A clip that failed here or in the download has a reason in the ledger and no row in the store.
    Raises UserError when no clip survived.
    """
    segments = read_rows(paths.segments(split), SEGMENTS)
    column = {row["mid"]: i for i, row in enumerate(read_rows(paths.CLASSES, CLASSES))}
    ledger = []
    results = ordered_map(_decode, _originals(segments, split, config.audio), initializer=_one_thread)
    writer = ClipStoreWriter(
        paths.audio(split),
        row_shape=(config.audio.clip_samples,),
        dtype=np.int16,
        classes=list(column),
        settings={"audio": config.audio.model_dump()},
    )
    with writer:
        for row, result in zip(segments, tqdm(results, split, len(segments), unit="clips"), strict=True):
            entry = {"clip_id": row["clip_id"], "status": "failed"}
            if isinstance(result, str):
                entry["reason"] = result
            else:
                labels = np.zeros(len(column), np.uint8)
                labels[[column[mid] for mid in row["labels"].split(",")]] = 1
                writer.add(row["clip_id"], np.round(result.waveform * _FULL_SCALE).astype(np.int16), labels)
                entry |= {"status": "ok", "note": result.note, "original_rate": result.original_rate}
                entry |= {"channels": result.channels, "seconds": f"{result.seconds:.3f}"}
            ledger.append(entry)
        # Before the store is closed: it refuses to be empty, and the ledger says why it would be.
        write_rows(paths.audio_ledger(split), RESAMPLE, ledger)
        if all(entry["status"] == "failed" for entry in ledger):
            reasons = ", ".join(sorted({entry["reason"] for entry in ledger}))
            raise UserError(
                f"{split}: not one of {len(ledger)} clips could be decoded ({reasons}); "
                f"see {paths.audio_ledger(split)}"
            )


def _originals(segments: list[dict], split: str, audio: Audio) -> Iterator[tuple[bytes | str, Audio]]:
    """The encoded audio of every clip of the list, in order, or the reason why there is none."""
    rows = read_rows(paths.raw(split) / "ledger.csv", DOWNLOAD)
    failed = {row["clip_id"]: row["reason"] for row in rows if row["status"] != "ok"}
    shards = read_shards(paths.raw(split))
    for row in segments:
        if row["clip_id"] in failed:
            yield f"download: {failed[row['clip_id']]}", audio
            continue
        clip_id, data = next(shards, (None, b""))
        if clip_id != row["clip_id"]:
            raise UserError(
                f"{paths.raw(split)}: {row['clip_id']} should come next and {clip_id} does; delete the "
                "folder and run `dvc repro`"
            )
        yield data, audio


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)  # the processes are the parallelism


def _decode(item: tuple[bytes | str, Audio]) -> Decoded | str:
    data, audio = item
    if isinstance(data, str):
        return data
    try:
        return decode(data, audio.sample_rate, audio.clip_samples, audio.min_seconds)
    except DecodeError as error:
        return str(error)
