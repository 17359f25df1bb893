"""Stage `resample`: decode original audio to mono waveforms of one sample rate and length."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from audionas.audio.decode import decode
from audionas.audio.measure import measure
from audionas.audio.reading import DecodeError
from audionas.data import paths
from audionas.data.coverage import count, require
from audionas.data.duplicates import duplicates
from audionas.data.ledger import (
    CLASSES,
    DOWNLOAD,
    RESAMPLE,
    SEGMENTS,
    iter_ledger,
    iter_rows,
    labels_of,
    read_rows,
    write_rows,
)
from audionas.data.shards import CLIPS, read_shard
from audionas.data.store import VERSION, ClipStoreWriter
from audionas.runtime.errors import UserError
from audionas.runtime.parallel import background, threaded_map
from audionas.runtime.state import UNFINISHED, basis_of, declared_code, only_one, store_folder
from audionas.settings.experiment import Experiment

log = logging.getLogger(__name__)
_FULL_SCALE = 32_767
_NOT_GOT = "download: "
_GET_AGAIN = "delete the file and run `dvc repro`, which downloads its clips again"


class _Original(NamedTuple):
    """A downloaded clip: its row in the store, and its audio or the reason why it is missing."""

    clip_id: str
    row: int
    data: bytes | str
    shard: Path
    sha256: str


def run(config: Experiment, split: str) -> None:
    """Write data/audio/{split}.h5 (int16 [clips, samples]) and its ledger, with a row for every listed clip.

    A killed run resumes from .state/ at the first unfinished shard. A clip that failed here or in the
    download has a reason in the ledger, and no row in the store.

    Raises:
        UserError: another process resamples this split, fewer clips than `corpus.least_coverage` or none
            could be decoded, or the download belongs to another list.
    """
    with only_one(f"resample-{split}"):
        _resample(config, split)


def _resample(config: Experiment, split: str) -> None:
    listed, got = _count(split)
    names = [(row["mid"], row["display_name"]) for row in read_rows(paths.CLASSES, CLASSES)]
    classes = [mid for mid, _ in names]
    state = store_folder("resample", split, _basis(config, split))
    writer = ClipStoreWriter(
        state / UNFINISHED,
        _labels(split, classes),
        got,
        row_shape=(config.audio.clip_samples,),
        dtype=np.int16,
        classes=classes,
        settings={"audio": config.audio.model_dump()},
    )

    def make(original: _Original) -> dict:
        clip_id, row, data, tar, digest = original
        if isinstance(data, str):
            return {"clip_id": clip_id, "status": "failed", "reason": data}
        if hashlib.sha256(data).hexdigest() != digest:
            raise UserError(f"{tar}: the audio of {clip_id} does not match its ledger; {_GET_AGAIN}")
        try:
            clip = decode(data, config.audio.sample_rate, config.audio.clip_samples, config.audio.min_seconds)
        except DecodeError as error:
            return {"clip_id": clip_id, "status": "failed", "reason": str(error)}
        heard = measure(clip.waveform, config.audio.sample_rate)
        scaled = np.multiply(clip.waveform, _FULL_SCALE, out=clip.waveform)
        writer[row] = np.rint(scaled, out=scaled).astype(np.int16)
        entry = {"clip_id": clip_id, "status": "ok", "note": clip.note, "original_rate": clip.original_rate}
        entry |= {"bandwidth": f"{heard.bandwidth:.0f}", "level": f"{heard.level:.1f}"}
        return entry | {"channels": clip.channels, "seconds": f"{clip.seconds:.3f}"}

    def finish(ledger: Path, rows: list[dict]) -> None:
        writer.flush()
        write_rows(ledger, RESAMPLE, rows)

    sizes = {
        state / f"{start // CLIPS:06d}.csv": min(CLIPS, listed - start) for start in range(0, listed, CLIPS)
    }
    left = {ledger: size for ledger, size in sizes.items() if not ledger.exists()}
    with writer:
        with (
            background() as disk,
            closing(threaded_map(make, _originals(split, left))) as entries,
            tqdm(total=listed, desc=f"resample {split}", unit="clips") as bar,
        ):
            bar.update(listed - sum(left.values()))
            for ledger, size in left.items():
                rows = []
                for entry in islice(entries, size):
                    rows.append(entry)
                    bar.update()
                disk(finish, ledger, rows)  # in parallel with the next shard
        write_rows(
            paths.audio_ledger(split),
            RESAMPLE,
            (row for part in sizes for row in iter_rows(part, RESAMPLE)),
        )
        _require(config, split, names)
        writer.publish(paths.audio(split), _kept(split))
    shutil.rmtree(state)


def _basis(config: Experiment, split: str) -> dict[str, str]:
    """Return everything that determines the rows and their numbers."""
    code = declared_code(
        "resample", without=("data/corpora", "data/sources", "data/coverage.py", "data/duplicates.py")
    )
    given = [paths.segments(split), paths.CLASSES, paths.raw(split) / "ledger.csv"]
    libraries = {name: version(name) for name in ("miniaudio", "soundfile", "soxr")}
    numbers = {"clips": CLIPS, "columns": RESAMPLE, "store": VERSION}
    settings = {"audio": config.audio.model_dump(), **libraries, **numbers}
    return basis_of(settings, [*given, *code])


def _listed(split: str) -> Iterator[tuple[dict[str, str], str, str]]:
    """Yield every listed clip, the reason why its download failed or "", and the SHA-256 of its audio."""
    ledger = paths.raw(split) / "ledger.csv"
    raw = iter_rows(ledger, DOWNLOAD)
    for row in iter_rows(paths.segments(split), SEGMENTS):
        download = next(raw, None)
        if download is None or download["clip_id"] != row["clip_id"]:
            raise UserError(
                f"{ledger}: {row['clip_id']} of the list should come next; the ledger is of another list; "
                f"run `dvc repro download@{split}`"
            )
        failed = "" if download["status"] == "ok" else _NOT_GOT + download["reason"]
        yield row, failed, download["sha256"]
    if extra := next(raw, None):
        raise UserError(f"{ledger}: {extra['clip_id']} is not on the list; run `dvc repro download@{split}`")


def _count(split: str) -> tuple[int, int]:
    """Return the numbers of listed and of downloaded clips."""
    listed = got = 0
    for _, failed, _ in _listed(split):
        listed += 1
        got += not failed
    return listed, got


def _labels(split: str, classes: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the id and labels, uint8 [classes], of every downloaded clip."""
    column = {mid: i for i, mid in enumerate(classes)}
    for row, failed, _ in _listed(split):
        if not failed:
            labels = np.zeros(len(classes), np.uint8)
            try:
                labels[[column[mid] for mid in labels_of(row)]] = 1
            except KeyError as error:
                raise UserError(
                    f"{paths.segments(split)}, clip {row['clip_id']}: its label {error.args[0]!r} is not in "
                    f"{paths.CLASSES}; run `dvc repro segments`"
                ) from None
            yield row["clip_id"], labels


def _originals(split: str, wanted: dict[Path, int]) -> Iterator[_Original]:
    """Yield the clips of the wanted shards, in order."""
    listed, row = _listed(split), 0
    numbers = {int(ledger.stem) for ledger in wanted}
    for number in range(max(numbers, default=-1) + 1):
        clips = list(islice(listed, CLIPS))
        tar = paths.raw(split) / f"shard-{number:06d}.tar"
        members = read_shard(tar) if number in numbers else None
        for clip, failed, digest in clips:
            clip_id = clip["clip_id"]
            if members and failed:
                yield _Original(clip_id, -1, failed, tar, digest)
            elif members:
                found, data = next(members, (None, b""))
                if found != clip_id:
                    raise UserError(
                        f"{tar}: {clip_id} should come next and {found or 'the end'} does; {_GET_AGAIN}"
                    )
                yield _Original(clip_id, row, data, tar, digest)
            row += not failed
        if members and (extra := next(members, None)):
            raise UserError(f"{tar}: {extra[0]} is not in the ledger; {_GET_AGAIN}")


def _require(config: Experiment, split: str, names: list[tuple[str, str]]) -> None:
    """Check that enough clips could be decoded, and log warnings.

    Raises:
        UserError: fewer clips than `corpus.least_coverage`, or none, could be decoded.
    """
    segments, raw = iter_ledger(paths.segments(split), SEGMENTS), _downloads(split)
    decoded = iter_ledger(paths.audio_ledger(split), RESAMPLE)
    here = count(split, segments, names, raw, decoded, config.audio.clip_seconds)
    told = here.warnings()[:1] if here.longer else []
    for warning in told + duplicates([split], _downloads, lambda split: iter_rows(paths.segments(split))):
        log.warning("%s", warning)
    require([here], config.corpus.least_coverage, "corpus.least_coverage", "audionas coverage")
    if not here.got:
        reasons = ", ".join(sorted({row["reason"] for row in iter_rows(paths.audio_ledger(split))}))
        raise UserError(
            f"{split}: not one of {here.listed} clips could be decoded ({reasons}); "
            f"see {paths.audio_ledger(split)}"
        )


def _downloads(split: str) -> Iterator[dict[str, str]]:
    return iter_ledger(paths.raw(split) / "ledger.csv", DOWNLOAD)


def _kept(split: str) -> np.ndarray:
    """Return which of the downloaded clips were decoded, bool [clips]."""
    rows = iter_rows(paths.audio_ledger(split))
    return np.array([row["status"] == "ok" for row in rows if not row["reason"].startswith(_NOT_GOT)])
