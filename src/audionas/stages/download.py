"""Stage `download`: the original audio of one split, with a ledger row for every clip, got or not."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from tqdm import tqdm

from audionas import corpora, paths
from audionas.config import Config
from audionas.corpora.base import Clip, Corpus, FetchError
from audionas.corpora.opening import open_corpus
from audionas.errors import UserError
from audionas.ledger import DOWNLOAD, SEGMENTS, read_rows, write_rows
from audionas.parallel import ordered_map
from audionas.shards import CLIPS, write_shard

STATE = Path(".state/download")


def run(config: Config, split: str) -> None:
    """Write data/raw/{split}/: shards of the original files, and ledger.csv.

    A shard that was finished before a kill is kept in .state/ and not fetched again.
    Raises UserError when not one clip was got.
    """
    clips = read_clips(paths.segments(split))
    corpus = open_corpus(config.corpus, config.audio.clip_seconds)
    state = STATE / f"{split}-{_key(config, paths.segments(split))}"
    for number in range(0, len(clips), CLIPS):
        _shard(state / f"shard-{number // CLIPS:06d}", clips[number : number + CLIPS], corpus, config, split)
    ledger = [row for path in sorted(state.glob("shard-*.csv")) for row in read_rows(path, DOWNLOAD)]
    if not any(row["status"] == "ok" for row in ledger):
        reasons = sorted({row["reason"] for row in ledger})
        raise UserError(
            f"{split}: not one of {len(clips)} clips could be got ({'; '.join(reasons)[:200]}); "
            "check that the corpus section of params.yaml points to the audio"
        )
    _publish(state, paths.raw(split), ledger)


def read_clips(path: Path) -> list[Clip]:
    """The clips of a list that the stage `segments` wrote. Raises UserError when it is bad."""
    clips = []
    for line, row in enumerate(read_rows(path, SEGMENTS), start=2):
        try:
            start, end = (float(row[key]) if row[key] else None for key in ("start", "end"))
        except ValueError:
            raise UserError(f"{path}, line {line}: start or end is no number; run `dvc repro`") from None
        labels = tuple(row["labels"].split(","))
        clips.append(Clip(row["clip_id"], row["source"], row["origin"], labels, start, end))
    return clips


def _shard(stem: Path, clips: list[Clip], corpus: Corpus, config: Config, split: str) -> None:
    tar, ledger = stem.with_suffix(".tar"), stem.with_suffix(".csv")
    # The ledger is written last. A shard that lacks a clip is got again: what failed may be well by now.
    if ledger.is_file() and all(row["status"] == "ok" for row in read_rows(ledger, DOWNLOAD)):
        return
    rows: list[dict] = []

    def fetched():
        results = ordered_map(_fetch, clips, initializer=_open, initargs=(corpus,))
        for clip, (data, reason) in zip(clips, tqdm(results, split, len(clips), unit="clips"), strict=True):
            row = {
                "clip_id": clip.clip_id,
                "source": config.corpus.name,
                "reason": reason,
                "status": "failed",
            }
            if data is not None:
                digest = hashlib.sha256(data).hexdigest()
                row |= {"status": "ok", "bytes": len(data), "sha256": digest}
                yield clip.clip_id, data
            rows.append(row)

    write_shard(tar, fetched())
    write_rows(ledger, DOWNLOAD, rows)


def _publish(state: Path, folder: Path, ledger: list[dict]) -> None:
    """Move the finished shards to where the stage's output lies, whole or not at all."""
    work = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for tar in sorted(state.glob("shard-*.tar")):
        shutil.copy2(tar, work / tar.name)
    write_rows(work / "ledger.csv", DOWNLOAD, ledger)
    shutil.rmtree(folder, ignore_errors=True)
    work.replace(folder)
    shutil.rmtree(state)


def _key(config: Config, segments: Path) -> str:
    """Names everything that the shards follow from, so that a changed run never resumes an old one."""
    settings = json.dumps([config.corpus.model_dump(), config.audio.clip_seconds], sort_keys=True).encode()
    digest = hashlib.sha256(settings)
    for file in (segments, *sorted(Path(corpora.__file__).parent.glob("*.py"))):
        digest.update(file.read_bytes())
    for given in (Path(config.corpus.lists), Path(config.corpus.audio)):
        for file in sorted(given.rglob("*")) if given.is_dir() else [given]:
            if file.is_file():
                stat = file.stat()
                digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


_corpus: Corpus | None = None  # of a worker process


def _open(corpus: Corpus) -> None:
    global _corpus
    _corpus = corpus


def _fetch(clip: Clip) -> tuple[bytes | None, str]:
    try:
        return _corpus.fetch(clip), ""
    except FetchError as error:
        return None, str(error)
