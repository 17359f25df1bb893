"""One split's audio on its way from the sources to tar shards, and what earlier runs left on the shelf."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from audionas.config import Download
from audionas.corpora.base import Clip
from audionas.ledger import DOWNLOAD, read_rows, write_rows
from audionas.shards import write_shard
from audionas.sources.acquire import acquire
from audionas.sources.base import Source
from audionas.sources.journal import Answer, Journal, as_columns


class Shelf:
    """What was got before: in the stage's last output, and in the state of runs that were cut short.

    Args:
        folders: with shards `*.tar`, ledgers `*.csv`, and `shard-*/` folders of journals.
    """

    def __init__(self, folders: Sequence[Path]):
        self.rows: dict[str, dict[str, str]] = {}
        self._places: dict[str, tuple[Path, int, int]] = {}
        for folder in folders:
            for ledger in sorted(folder.glob("*.csv")):
                for row in read_rows(ledger, DOWNLOAD):
                    if self.rows.get(row["clip_id"], {}).get("status") != "ok":
                        self.rows[row["clip_id"]] = row
            for path in sorted(folder.glob("*.tar")):
                with tarfile.open(path) as tar:
                    for member in tar:
                        place = path, member.offset_data, member.size
                        self._places.setdefault(member.name.partition(".")[0], place)
            for journal in sorted(folder.glob("*/journal.csv")):
                self._take(journal.parent)

    def _take(self, folder: Path) -> None:
        with Journal(folder) as journal:
            for clip_id, answer in journal.answers.items():
                # A clip may be gone: of a folder whose removal a kill cut short.
                if answer.got and journal.path(clip_id).is_file():
                    data = journal.path(clip_id).read_bytes()
                    self.rows[clip_id] = _got(clip_id, answer, data)
                    self._places[clip_id] = journal.path(clip_id), 0, len(data)

    def has(self, clip_id: str) -> bool:
        """Whether the clip's audio is here."""
        return clip_id in self._places and self.rows.get(clip_id, {}).get("status") == "ok"

    def read(self, clip_id: str) -> bytes:
        """A clip's audio."""
        path, offset, size = self._places[clip_id]
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def fill_shard(
    stem: Path,
    clips: Sequence[Clip],
    sources: Sequence[Source],
    shelf: Shelf,
    patience: Download,
    min_seconds: float,
    progress: Callable[[str], None],
) -> None:
    """Get the clips of one shard and write `{stem}.tar`, then `{stem}.csv`; a finished one is left as it is.

    Raises:
        UserError: as `acquire`; what was got lies in the folder `stem` and is not asked for again.
    """
    # Both, for a kill may have cut short the removal of what was published.
    if stem.with_suffix(".csv").is_file() and stem.with_suffix(".tar").is_file():
        for row in read_rows(stem.with_suffix(".csv"), DOWNLOAD):
            progress(row["reason"] or "ok")
        return
    with Journal(stem) as journal:
        wanted = [clip for clip in clips if not shelf.has(clip.clip_id)]
        for clip in clips:
            if shelf.has(clip.clip_id):
                progress("ok")
            elif clip.clip_id in shelf.rows:
                journal.answers.setdefault(clip.clip_id, _recall(shelf.rows[clip.clip_id]))
        acquire(wanted, sources, journal, patience, min_seconds, progress)
        rows: list[dict] = []
        write_shard(stem.with_suffix(".tar"), _members(clips, journal, shelf, rows))
        write_rows(stem.with_suffix(".csv"), DOWNLOAD, rows)
    shutil.rmtree(stem)


def _members(clips, journal: Journal, shelf: Shelf, rows: list[dict]) -> Iterator[tuple[str, bytes]]:
    for clip in clips:
        answer = journal.answer(clip.clip_id)
        if shelf.has(clip.clip_id):
            rows.append(shelf.rows[clip.clip_id])
            yield clip.clip_id, shelf.read(clip.clip_id)
        elif answer.got:
            data = journal.path(clip.clip_id).read_bytes()
            rows.append(_got(clip.clip_id, answer, data))
            yield clip.clip_id, data
        else:
            rows.append(
                {"clip_id": clip.clip_id, "status": "failed", "reason": answer.reason, **as_columns(answer)}
            )


def _got(clip_id: str, answer: Answer, data: bytes) -> dict[str, str]:
    row = {"clip_id": clip_id, "status": "ok", "source": answer.source, "bytes": str(len(data))}
    return {**row, "sha256": hashlib.sha256(data).hexdigest(), **as_columns(answer)}


def _recall(row: dict[str, str]) -> Answer:
    pairs = (text.partition(":") for text in row["answers"].split(";") if text)
    return Answer(attempts=int(row["attempts"] or 0), reasons={source: reason for source, _, reason in pairs})
