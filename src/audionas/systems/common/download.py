"""Stage `download`: the original audio of one split, with a ledger row for every clip."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path

from tqdm import tqdm

from audionas.data import paths
from audionas.data.corpora.base import Clip, Corpus, FetchError, Reiterable
from audionas.data.corpora.registry import open_corpus
from audionas.data.ledger import (
    DOWNLOAD,
    SEGMENTS,
    general,
    iter_numbered,
    iter_rows,
    labels_of,
    read_rows,
    write_rows,
)
from audionas.data.shards import CLIPS, write_shard
from audionas.data.sources.registry import open_sources
from audionas.data.sources.shard_cache import AudioCache, fill_shard
from audionas.runtime.errors import UserError
from audionas.runtime.files import copy, new_folder
from audionas.runtime.parallel import ordered_map
from audionas.runtime.state import basis_of, declared_code, only_one, open_folder
from audionas.settings.corpora import AudiosetCorpus
from audionas.settings.experiment import Experiment

log = logging.getLogger(__name__)


def run(config: Experiment, split: str, limit: int | None = None) -> None:
    """Write data/raw/{split}/: shards of the original files, and ledger.csv.

    A killed download resumes from .state/. Clips in the last output are not downloaded again.

    Args:
        config: the configuration.
        split: the split.
        limit: number of clips, for a trial. Their outcome is printed, the output does not change, and the
            next run uses the downloaded clips.

    Raises:
        UserError: another process downloads this split, the list is invalid, no clip could be downloaded, or
            a source limits the rate or fails for too long.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: not a number of clips; use 1 or more")
    clips = Reiterable(lambda: islice(iter_clips(paths.segments(split)), limit))
    total = sum(1 for _ in iter_clips(paths.segments(split)))  # rejects an invalid list before any download
    total = total if limit is None else min(limit, total)
    with only_one(f"download-{split}"):
        _download(config, split, limit, clips, total)


def _download(config: Experiment, split: str, limit: int | None, clips: Iterable[Clip], total: int) -> None:
    whole = _acquired if isinstance(config.corpus, AudiosetCorpus) else _fetched
    with tqdm(total=total, desc=f"download {split}", unit="clips", dynamic_ncols=True) as bar:
        state = whole(config, split, clips, bar)
    reasons: dict[str, str] = {}  # the first reason of each kind
    for row in _ledger(state):
        if row["status"] == "ok":
            break
        reasons.setdefault(general(row["reason"]), row["reason"])
    else:
        raise UserError(
            f"{split}: not one of {total} clips could be downloaded ({'; '.join(reasons.values())[:400]}); "
            "check that the corpus section of params.yaml points to the audio"
        )
    if limit is None:
        _publish(state, paths.raw(split))
        if isinstance(config.corpus, AudiosetCorpus):
            shutil.rmtree(paths.DOWNLOADS / split)
    else:
        for row in _ledger(state):
            print(f"{row['clip_id']}  {row['reason'] or 'ok, from ' + row['source']}")


def _fetched(config: Experiment, split: str, clips: Iterable[Clip], bar: tqdm) -> Path:
    """Write the shards of a split from a corpus with local audio, and return their folder."""
    corpus = open_corpus(config.corpus, config.audio.clip_seconds)
    state = open_folder("download", split, _basis(config, paths.segments(split)))
    for name, some in _shards(clips):
        _shard(state / name, some, corpus, config, bar)
    return state


def _acquired(config: Experiment, split: str, clips: Iterable[Clip], bar: tqdm) -> Path:
    """Write the shards of a split from the configured sources, and return their folder."""
    state, outcomes = paths.DOWNLOADS / split / _listed(clips), Counter()
    state.mkdir(parents=True, exist_ok=True)

    def progress(outcome: str) -> None:
        outcomes[outcome] += 1
        bar.update()
        bar.set_postfix_str(", ".join(f"{n} {reason}" for reason, n in outcomes.items() if reason != "ok"))

    with ExitStack() as stack:
        before = [paths.raw(split), *sorted(set((paths.DOWNLOADS / split).iterdir()) - {state})]
        cache = stack.enter_context(AudioCache(before, paths.DOWNLOADS / f".{split}.shelf"))
        sources = [stack.enter_context(source) for source in open_sources(config.corpus)]
        for name, some in _shards(clips):
            options, least = config.corpus.download, config.audio.min_seconds
            fill_shard(state / name, some, sources, cache, options, least, progress)
    return state


def _shards(clips: Iterable[Clip]) -> Iterator[tuple[str, list[Clip]]]:
    """Yield the name and clips of each shard; only one shard is in memory."""
    clips = iter(clips)
    for number in count():
        if not (some := list(islice(clips, CLIPS))):
            return
        yield f"shard-{number:06d}", some


def _listed(clips: Iterable[Clip]) -> str:
    """Return a hash of the clip ids, in order."""
    digest = hashlib.sha256()
    for i, clip in enumerate(clips):
        digest.update(("\0" * (i > 0) + clip.clip_id).encode())
    return digest.hexdigest()[:16]


def _ledger(state: Path) -> Iterator[dict[str, str]]:
    """Yield the ledger rows of all finished shards, in the order of the list."""
    for path in sorted(state.glob("shard-*.csv")):
        yield from iter_rows(path, DOWNLOAD)


def iter_clips(path: Path) -> Iterator[Clip]:
    """Yield the clips of a list that the stage `segments` wrote; only one clip is in memory.

    Raises:
        UserError: a row is invalid.
    """
    for line, row in iter_numbered(path, SEGMENTS):
        try:
            start, end = (float(row[key]) if row[key] else None for key in ("start", "end"))
        except ValueError:
            raise UserError(f"{path}, line {line}: start or end is not a number; run `dvc repro`") from None
        yield Clip(row["clip_id"], row["source"], row["origin"], labels_of(row), start, end)


def _shard(stem: Path, clips: list[Clip], corpus: Corpus, config: Experiment, bar: tqdm) -> None:
    tar, ledger = stem.with_suffix(".tar"), stem.with_suffix(".csv")
    # The ledger is written last. A kill while published shards are removed may leave only the ledger.
    # A shard with missing clips is fetched again, because failed clips may be available now.
    if (
        tar.is_file()
        and ledger.is_file()
        and all(row["status"] == "ok" for row in read_rows(ledger, DOWNLOAD))
    ):
        bar.update(len(clips))
        return
    rows: list[dict] = []

    def fetched():
        results = ordered_map(_fetch, clips, initializer=_open, initargs=(corpus,), lost=_killed)
        for clip, (data, reason) in zip(clips, results, strict=True):
            bar.update()
            row = {
                "clip_id": clip.clip_id,
                "source": config.corpus.name,
                "reason": reason,
                "status": "failed",
                "attempts": 1,
            }
            if data is not None:
                digest = hashlib.sha256(data).hexdigest()
                row |= {"status": "ok", "bytes": len(data), "sha256": digest}
                yield clip.clip_id, data
            rows.append(row)

    write_shard(tar, fetched())
    write_rows(ledger, DOWNLOAD, rows)


def _publish(state: Path, folder: Path) -> None:
    """Move the finished shards to the output of the stage, atomically."""
    with new_folder(folder) as work:
        for tar in sorted(state.glob("shard-*.tar")):
            copy(tar, work / tar.name)
        write_rows(work / "ledger.csv", DOWNLOAD, _ledger(state))
    shutil.rmtree(state)


def _basis(config: Experiment, segments: Path) -> dict[str, str]:
    """Return everything that determines the shards."""
    seen = {
        str(file): (file.stat().st_size, file.stat().st_mtime_ns)
        for given in (Path(config.corpus.lists), Path(config.corpus.audio))
        for file in (sorted(given.rglob("*")) if given.is_dir() else [given])
        if file.is_file()
    }
    settings = {"corpus": config.corpus.model_dump(), "audio.clip_seconds": config.audio.clip_seconds}
    code = declared_code("download", without=("data/sources",))  # only AudioSet uses them
    return basis_of({**settings, "given": seen}, [segments, *code])


_corpus: Corpus | None = None  # state of a worker process


def _open(corpus: Corpus) -> None:
    global _corpus
    _corpus = corpus


def _fetch(clip: Clip) -> tuple[bytes | None, str]:
    try:
        return _corpus.fetch(clip), ""
    except FetchError as error:
        return None, str(error)


def _killed(clip: Clip) -> tuple[None, str]:
    log.warning("%s: the process that read it was killed; the clip is skipped", clip.clip_id)
    return None, "the process that read it was killed"
