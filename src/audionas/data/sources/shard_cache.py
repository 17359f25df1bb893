"""Fill tar shards with audio from sources, and reuse audio of earlier runs."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from audionas.data.corpora.base import Clip
from audionas.data.ledger import DOWNLOAD, iter_ledger, read_rows, write_rows
from audionas.data.shards import write_shard
from audionas.data.sources.acquire import acquire
from audionas.data.sources.base import Source
from audionas.data.sources.journal import ClipResult, Journal, ledger_columns
from audionas.runtime.errors import UserError
from audionas.settings.corpora import Download


class CachedClip(NamedTuple):
    """A clip in the cache: its ledger row, and the location of its audio (None if it has none)."""

    row: dict[str, str]
    path: str | None
    offset: int | None
    size: int | None

    def read(self) -> bytes:
        """Return the audio."""
        with Path(self.path).open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class AudioCache:
    """Index of audio from earlier runs: the stage's last output, and the state of interrupted runs.

    The index is a database on disk, some 400 bytes a clip; it holds nothing in memory.

    Args:
        folders: contain shards `*.tar`, ledgers `*.csv`, and `shard-*/` folders of journals.
        database: path of the database; an existing file is replaced, and `close` removes it.

    Raises:
        UserError: a ledger, a journal or a shard is damaged.
    """

    def __init__(self, folders: Sequence[Path], database: Path):
        self._path = database
        database.unlink(missing_ok=True)
        self._database = sqlite3.connect(database)
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000;"  # KiB
            "CREATE TABLE ledger (clip_id TEXT PRIMARY KEY, ok INTEGER, row TEXT) WITHOUT ROWID;"
            "CREATE TABLE places (clip_id TEXT PRIMARY KEY, path TEXT, offset INTEGER, size INTEGER)"
            " WITHOUT ROWID;"
        )
        for folder in folders:
            for ledger in sorted(folder.glob("*.csv")):
                self._database.executemany(
                    "INSERT INTO ledger VALUES (?, ?, ?) ON CONFLICT (clip_id) DO UPDATE"
                    " SET ok = excluded.ok, row = excluded.row WHERE NOT ledger.ok",
                    map(_known, iter_ledger(ledger, DOWNLOAD)),
                )
            for path in sorted(folder.glob("*.tar")):
                places = _members_of(path)
                self._database.executemany("INSERT OR IGNORE INTO places VALUES (?, ?, ?, ?)", places)
            for journal in sorted(folder.glob("*/journal.csv")):
                self._take(journal.parent)
        self._database.commit()

    def __enter__(self) -> AudioCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the database."""
        self._database.close()
        self._path.unlink(missing_ok=True)

    def find(self, clips: Iterable[Clip]) -> dict[str, CachedClip]:
        """Return the clips that a ledger names, by clip id."""
        wanted = json.dumps([clip.clip_id for clip in clips])
        found = self._database.execute(
            "SELECT ledger.clip_id, row, places.path, offset, size FROM json_each(?)"
            " JOIN ledger ON ledger.clip_id = value"
            " LEFT JOIN places ON ledger.ok AND places.clip_id = ledger.clip_id",
            (wanted,),
        )
        return {
            clip_id: CachedClip(dict(zip(DOWNLOAD, json.loads(row), strict=True)), *place)
            for clip_id, row, *place in found
        }

    def _take(self, folder: Path) -> None:
        with Journal(folder) as journal:
            for clip_id, result in journal.results.items():
                if result.got:
                    path = journal.path(clip_id)
                    data = path.read_bytes()
                    row, place = _got(clip_id, result, data), (clip_id, str(path), 0, len(data))
                    self._database.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?)", _known(row))
                    self._database.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)", place)


def _known(row: Mapping[str, object]) -> tuple[str, bool, str]:
    return row["clip_id"], row["status"] == "ok", json.dumps([row.get(name, "") for name in DOWNLOAD])


def _members_of(path: Path) -> Iterator[tuple[str, str, int, int]]:
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                yield member.name.partition(".")[0], str(path), member.offset_data, member.size
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it to download its clips again") from None


def fill_shard(
    stem: Path,
    clips: Sequence[Clip],
    sources: Sequence[Source],
    cache: AudioCache,
    options: Download,
    min_seconds: float,
    progress: Callable[[str], None],
) -> None:
    """Get the clips of one shard and write `{stem}.tar`, then `{stem}.csv`; skip a finished shard.

    Args:
        stem: path of the shard without suffix; also the folder of its journal.
        clips: clips of the shard, in order.
        sources: where to get missing clips.
        cache: audio of earlier runs.
        options: limits for retries and pauses.
        min_seconds: a shorter file counts as failed.
        progress: called once for every clip, with `ok` or the reason of its failure.

    Raises:
        UserError: as `acquire`; received audio stays in the folder `stem`.
    """
    # Both, because a kill may interrupt the removal of published files.
    if stem.with_suffix(".csv").is_file() and stem.with_suffix(".tar").is_file():
        for row in read_rows(stem.with_suffix(".csv"), DOWNLOAD):
            progress(row["reason"] or "ok")
        return
    with Journal(stem) as journal:
        known = cache.find(clips)
        here = {clip_id: kept for clip_id, kept in known.items() if kept.path}
        wanted = [clip for clip in clips if clip.clip_id not in here]
        for _ in here:
            progress("ok")
        for clip in wanted:
            if clip.clip_id in known:
                journal.results.setdefault(clip.clip_id, _recall(known[clip.clip_id].row))
        acquire(wanted, sources, journal, options, min_seconds, progress)
        rows: list[dict] = []
        write_shard(stem.with_suffix(".tar"), _members(clips, journal, here, rows))
        write_rows(stem.with_suffix(".csv"), DOWNLOAD, rows)
    shutil.rmtree(stem)


def _members(
    clips, journal: Journal, here: dict[str, CachedClip], rows: list[dict]
) -> Iterator[tuple[str, bytes]]:
    for clip in clips:
        result = journal.result(clip.clip_id)
        if clip.clip_id in here:
            kept = here[clip.clip_id]
            data = kept.read()
            if hashlib.sha256(data).hexdigest() != kept.row["sha256"]:
                raise UserError(
                    f"{kept.path}: the audio of {clip.clip_id} does not match its ledger; delete the file "
                    "to download its clips again"
                )
            rows.append(kept.row)
            yield clip.clip_id, data
        elif result.got:
            data = journal.path(clip.clip_id).read_bytes()
            rows.append(_got(clip.clip_id, result, data))
            yield clip.clip_id, data
        else:
            rows.append(
                {
                    "clip_id": clip.clip_id,
                    "status": "failed",
                    "reason": result.reason,
                    **ledger_columns(result),
                }
            )


def _got(clip_id: str, result: ClipResult, data: bytes) -> dict[str, str]:
    row = {"clip_id": clip_id, "status": "ok", "source": result.source, "bytes": str(len(data))}
    return {**row, "sha256": hashlib.sha256(data).hexdigest(), **ledger_columns(result)}


def _recall(row: dict[str, str]) -> ClipResult:
    pairs = (text.partition(":") for text in row["answers"].split(";") if text)
    return ClipResult(
        attempts=int(row["attempts"] or 0), reasons={source: reason for source, _, reason in pairs}
    )
