"""Journal of a download: received audio and failures, safe against a kill at any time."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audionas.audio.reading import DecodeError, inspect
from audionas.data.ledger import DOWNLOAD, iter_ledger, parse_numbered, require_numbers
from audionas.data.sources.base import TRANSIENT
from audionas.runtime.files import atomic_write

#: One line for every response of a source.
COLUMNS = ("clip_id", "source", "reason", "seconds", "rate", "detail")


@dataclass
class ClipResult:
    """Result of the requests for one clip: the source of its audio, or the reasons of failures."""

    source: str = ""  # that returned the audio
    seconds: str = ""
    rate: str = ""
    attempts: int = 0
    reasons: dict[str, str] = field(default_factory=dict)  # by source; the latest of each

    @property
    def got(self) -> bool:
        """Whether the audio is available."""
        return bool(self.source)

    @property
    def reason(self) -> str:
        """Main reason: a temporary one, so that the clip is retried, else the last other than `not there`."""
        passing = [reason for reason in self.reasons.values() if reason in TRANSIENT]
        special = [reason for reason in self.reasons.values() if reason != "not there"]
        return (passing or special or ["not there"])[-1]

    def settled(self, source: str) -> bool:
        """Return whether another request to this source would change nothing."""
        return self.got or self.reasons.get(source, "network") not in TRANSIENT


class Journal:
    """A folder of received audio, and an append-only file of results.

    Audio is written as `clips/{clip_id}@{source}`, then its line is appended, then the file is renamed to
    `clips/{clip_id}`. If a process is killed between these steps, the next one completes them.

    Args:
        folder: contains `journal.csv` and `clips/`; created if it does not exist.

    Raises:
        UserError: the journal is damaged; names file and line.
    """

    def __init__(self, folder: Path):
        self.clips = folder / "clips"
        self.clips.mkdir(parents=True, exist_ok=True)
        path = folder / "journal.csv"
        self.results, size = read_results(path)
        self._file = path.open("a", encoding="utf-8", newline="")
        self._file.truncate(size)  # remove a line that a killed process did not finish
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        if size == 0:
            self._writer.writeheader()
        self._adopt()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def result(self, clip_id: str) -> ClipResult:
        """Return the result of a clip; an empty one if it was not requested."""
        return self.results.get(clip_id) or ClipResult()

    def path(self, clip_id: str) -> Path:
        """Return the path of a clip's audio."""
        return self.clips / clip_id

    def got(self, clip_id: str, source: str, data: bytes, rate: int, seconds: float) -> None:
        """Store a clip's audio; `rate` in Hz, `seconds` its length."""
        with atomic_write(self._fresh(clip_id, source)) as temporary:
            temporary.write_bytes(data)
        self._settle(clip_id, source, rate, seconds)

    def failed(self, clip_id: str, source: str, reason: str, detail: str = "") -> None:
        """Record why a source failed to give a clip."""
        detail = " ".join(detail.split())  # one line, so that an incomplete record has no line end
        self._note({"clip_id": clip_id, "source": source, "reason": reason, "detail": detail})

    def _fresh(self, clip_id: str, source: str) -> Path:
        return self.clips / f"{clip_id}@{source}"

    def _settle(self, clip_id: str, source: str, rate: int, seconds: float) -> None:
        self._note({"clip_id": clip_id, "source": source, "seconds": f"{seconds:.3f}", "rate": str(rate)})
        self._fresh(clip_id, source).replace(self.path(clip_id))

    def _note(self, row: dict[str, str]) -> None:
        self._writer.writerow(row)
        self._file.flush()
        os.fsync(self._file.fileno())
        _take(self.results, row)

    def _adopt(self) -> None:
        """Complete the steps of a killed process: remove partial files, record and rename complete ones."""
        for path in sorted(self.clips.iterdir()):
            clip_id, _, source = path.name.partition("@")
            if path.name.startswith("."):
                path.unlink()
            elif source and self.result(clip_id).got:
                path.replace(self.path(clip_id))
            elif source:
                try:
                    self._settle(clip_id, source, *inspect(path.read_bytes()))
                except DecodeError:  # accepted by an older version or other libraries
                    path.unlink()
        gone = [clip_id for clip_id, a in self.results.items() if a.got and not self.path(clip_id).is_file()]
        for clip_id in gone:  # of a folder whose removal was interrupted
            del self.results[clip_id]


def read_results(path: Path) -> tuple[dict[str, ClipResult], int]:
    """Read a journal: the result of each clip, and the size in bytes of its complete lines.

    An incomplete last line is ignored, so a journal can be read while another process writes it.
    Raises UserError if it is damaged.
    """
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    results: dict[str, ClipResult] = {}
    for line, row in parse_numbered(whole, path, COLUMNS) if whole else ():
        require_numbers(row, path, line)
        _take(results, row)
    return results, len(whole)


def _take(results: dict[str, ClipResult], row: dict[str, str]) -> None:
    result = results.setdefault(row["clip_id"], ClipResult())
    result.attempts += 1
    if row.get("reason"):
        result.reasons[row["source"]] = row["reason"]
    else:
        result.source, result.seconds, result.rate = row["source"], row["seconds"], row["rate"]


def ledger_columns(result: ClipResult) -> dict[str, object]:
    """Return the ledger columns that describe the requests for a clip."""
    results = ";".join(f"{source}:{reason}" for source, reason in result.reasons.items())
    return {
        "attempts": result.attempts,
        "seconds": result.seconds,
        "rate": result.rate,
        "answers": results,
    }


def partial_ledger(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the ledger rows of a folder of shards and journals, also during a download.

    Rows of unfinished shards have no bytes and no sha256.
    """
    for ledger in sorted(folder.glob("*.csv")):
        yield from iter_ledger(ledger, DOWNLOAD)
    for path in sorted(folder.glob("*/journal.csv")):
        for clip_id, result in read_results(path)[0].items():
            row = {"clip_id": clip_id, "status": "ok" if result.got else "failed", "source": result.source}
            yield {**row, "reason": "" if result.got else result.reason, **ledger_columns(result)}
