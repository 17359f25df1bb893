"""Stage `resample`: original audio to mono waveforms of one rate and one length."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from audionas import audio as decoding
from audionas import paths
from audionas.audio.decode import Decoded, decode
from audionas.audio.reading import DecodeError
from audionas.config import Audio, Config
from audionas.errors import UserError
from audionas.ledger import CLASSES, DOWNLOAD, RESAMPLE, SEGMENTS, read_rows, write_rows
from audionas.parallel import ordered_map
from audionas.reporting.coverage import count, require
from audionas.shards import CLIPS, read_shard
from audionas.state import STATE, state_key
from audionas.store import ClipStoreWriter, join_stores

_FULL_SCALE = 32_767


def run(config: Config, split: str) -> None:
    """Write data/audio/{split}.h5 (int16 [clips, samples]) and its ledger, a row for every clip of the list.

    Shard by shard: what was finished before a kill lies in .state/ and is not made again. A clip that failed
    here or in the download has a reason in the ledger and no row in the store.
    Raises UserError when no clip survived.
    """
    segments = read_rows(paths.segments(split), SEGMENTS)
    names = [(row["mid"], row["display_name"]) for row in read_rows(paths.CLASSES, CLASSES)]
    classes = [mid for mid, _ in names]
    raw = read_rows(paths.raw(split) / "ledger.csv", DOWNLOAD)
    failed = {row["clip_id"]: row["reason"] for row in raw if row["status"] != "ok"}
    code = [Path(__file__), *sorted(Path(decoding.__file__).parent.glob("*.py"))]
    listed = [paths.segments(split), paths.CLASSES, paths.raw(split) / "ledger.csv"]
    state = STATE / "resample" / f"{split}-{state_key(config.audio.model_dump(), [*listed, *code])}"
    parts = [
        (state / f"{number:06d}", segments[start : start + CLIPS])
        for number, start in enumerate(range(0, len(segments), CLIPS))
    ]
    unfinished = [(part, rows) for part, rows in parts if not part.with_suffix(".csv").is_file()]
    originals = (
        original
        for part, rows in unfinished
        for original in _originals(rows, failed, paths.raw(split) / f"shard-{part.name}.tar", config.audio)
    )
    done = len(segments) - sum(len(rows) for _, rows in unfinished)
    with tqdm(total=len(segments), initial=done, desc=f"resample {split}", unit="clips") as bar:
        results = ordered_map(_decode, originals, initializer=_one_thread)
        for part, rows in unfinished:
            ledger = _write_part(part.with_suffix(".h5"), rows, results, classes, config.audio, bar)
            write_rows(part.with_suffix(".csv"), RESAMPLE, ledger)
    parts = [part for part, _ in parts]
    ledger = [row for part in parts for row in read_rows(part.with_suffix(".csv"), RESAMPLE)]
    write_rows(paths.audio_ledger(split), RESAMPLE, ledger)
    here = count(split, segments, names, raw, ledger)
    require([here], config.corpus.least_coverage, "corpus.least_coverage", "audionas coverage")
    if all(row["status"] == "failed" for row in ledger):
        reasons = ", ".join(sorted({row["reason"] for row in ledger}))
        raise UserError(
            f"{split}: not one of {len(ledger)} clips could be decoded ({reasons}); "
            f"see {paths.audio_ledger(split)}"
        )
    stores = [part.with_suffix(".h5") for part in parts if part.with_suffix(".h5").exists()]
    join_stores(stores, paths.audio(split))
    shutil.rmtree(state)


def _write_part(path: Path, rows, results, classes: list[str], audio: Audio, bar: tqdm) -> list[dict]:
    """One shard's clips as a store of their own, no file where all failed. Gives their ledger."""
    column = {mid: i for i, mid in enumerate(classes)}
    ledger = []
    with ClipStoreWriter(
        path,
        row_shape=(audio.clip_samples,),
        dtype=np.int16,
        classes=classes,
        settings={"audio": audio.model_dump()},
        may_be_empty=True,
    ) as writer:
        for row, result in zip(rows, results, strict=False):  # the results of later parts follow
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
            bar.update()
    return ledger


def _originals(
    rows: list[dict], failed: dict[str, str], tar: Path, audio: Audio
) -> Iterator[tuple[bytes | str, Audio]]:
    """The encoded audio of one shard's clips, in order, or the reason why there is none."""
    members = read_shard(tar)
    for row in rows:
        if row["clip_id"] in failed:
            yield f"download: {failed[row['clip_id']]}", audio
            continue
        clip_id, data = next(members, (None, b""))
        if clip_id != row["clip_id"]:
            raise UserError(
                f"{tar}: {row['clip_id']} should come next and {clip_id} does; delete the "
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
