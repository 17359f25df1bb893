"""Write events as text, CSV, JSON lines or Audacity labels, and resume a folder of such files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from audionas.deploy.events import Event
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import atomic_write
from audionas.runtime.text import line, lines

#: Formats, by the suffix of their files.
FORMATS = {"text": ".txt", "csv": ".csv", "json": ".jsonl", "audacity": ".txt"}
COLUMNS = ("start", "end", "class", "name", "probability", "recording")
_SETTINGS = ".classify.json"
_PATH = 4096  # most characters shown of a path


def clock(seconds: float) -> str:
    """Return a time as h:mm:ss.s."""
    tenths = round(10 * seconds)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"


def head(kind: str) -> str:
    """Return the first line of a file of this format, or ""."""
    return ",".join(COLUMNS) + "\n" if kind == "csv" else ""


def event_line(event: Event, recording: str, kind: str) -> str:
    """Return an event as one line, with its line break.

    JSON and Audacity files are on one line whatever the names hold. CSV may have a line break in a quoted
    name. Escape codes are escaped in all formats.
    """
    if kind == "text":
        times = f"{clock(event.start):>10}  {clock(event.end):>10}"
        return f"  {times}  {event.probability:.3f}  {line(event.name)}\n"
    if kind == "audacity":
        return f"{event.start:.6f}\t{event.end:.6f}\t{line(event.name)}\n"
    times = round(event.start, 3), round(event.end, 3)
    values = (*times, event.label, event.name, round(event.probability, 4), recording)
    if kind == "json":
        return json.dumps(dict(zip(COLUMNS, values, strict=True))) + "\n"
    row = io.StringIO()
    shown = [lines(value, _PATH) if isinstance(value, str) else value for value in values]
    csv.writer(row, lineterminator="\n").writerow(shown)
    return row.getvalue()


def report(events: Iterable[Event], recording: str, kind: str, seconds: float) -> str:
    """Return the events of a recording: a file of this format without its first line."""
    found = sorted(events, key=lambda event: (event.start, event.end, event.label))
    text = "".join(event_line(event, recording, kind) for event in found)
    if kind != "text":
        return text
    return f"{line(recording, _PATH)} ({clock(seconds)}){'' if found else ': no events'}\n{text}"


class EventFolder:
    """A folder with a file of events per recording. A recording is finished if its file exists.

    Args:
        path: the folder; it is made with the first file.
        kind: a format.
        settings: all that the events depend on, plain values; kept in the folder.

    Raises:
        UserError: the folder has the events of other settings, or files that are not events.
    """

    def __init__(self, path: Path, kind: str, settings: dict[str, Any]):
        self._path, self._kind = path, kind
        self._settings = json.loads(json.dumps({**settings, "format": kind}))
        kept = path / _SETTINGS
        try:
            text = kept.read_text(encoding="utf-8") if kept.exists() else None
            if text is None and path.exists() and any(path.iterdir()):
                raise UserError(
                    f"{path}: has files, but not of `audionas classify --output`; give a new or empty folder"
                )
            if text is None:
                self._write(kept, json.dumps(self._settings, indent=1) + "\n")
                return
        except OSError as error:
            raise os_error(error, path) from None
        try:
            before = json.loads(text)
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise UserError(f"{kept}: damaged; give another folder, or delete this one")
        changed = [
            f"{key} {_short(before.get(key))}, not {_short(value)}"
            for key, value in self._settings.items()
            if before.get(key) != value
        ]
        if changed:
            raise UserError(
                f"{path}: has events of other settings ({'; '.join(changed)}); give another folder, or "
                "delete this one"
            )

    def file(self, name: str) -> Path:
        """Return the file of the recording with this name, a relative path."""
        return self._path / f"{name}{FORMATS[self._kind]}"

    def finished(self, name: str, recording: Path) -> bool:
        """Return whether the events of the recording, as it is now, are in the folder."""
        try:
            return recording.stat().st_mtime <= self.file(name).stat().st_mtime
        except OSError:
            return False

    def write(self, name: str, text: str) -> None:
        """Write the events of a recording."""
        self._write(self.file(name), head(self._kind) + text)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _short(value: Any) -> str:
    return line(json.dumps(value), 60)
