"""Lists and ledgers: CSV files whose every row was checked when read and is whole when written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from audionas.errors import UserError
from audionas.files import atomic_write

DOWNLOAD = (
    *("clip_id", "status", "reason", "source", "attempts", "bytes", "sha256", "seconds", "rate"),
    "answers",  # of the sources that did not give it: source:reason, joined by ;
)
RESAMPLE = ("clip_id", "status", "reason", "note", "original_rate", "channels", "seconds")
SEGMENTS = ("clip_id", "source", "origin", "start", "end", "labels")
CLASSES = ("index", "mid", "display_name")


def write_rows(path: str | Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write dictionaries as CSV (UTF-8, \\n), atomically; None becomes an empty field.

    Raises ValueError for a row with a key that is not a column.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def iter_rows(path: str | Path, required: Iterable[str] = ()) -> Iterator[dict[str, str]]:
    """Rows of a CSV file as dictionaries of text, in order, one at a time in memory.

    Raises UserError naming the file and the line, when the reading comes to it: missing file, a folder, and
    what `parse_rows` refuses.
    """
    try:
        with Path(path).open("rb") as file:
            yield from _rows(file, path, required)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; mend the path, or make the file with `dvc repro`") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror.lower()}; give a CSV file that can be read") from None


def read_rows(path: str | Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """All rows of a CSV file. Raises UserError as `iter_rows`."""
    return list(iter_rows(path, required))


def parse_rows(content: bytes, where: str | Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """All rows of a CSV file's content; `where` names it in errors.

    Raises UserError naming `where` and the line: no CSV in UTF-8, missing column, a row of another length.
    """
    return list(_rows(io.BytesIO(content), where, required))


def _rows(file: BinaryIO, where: str | Path, required: Iterable[str]) -> Iterator[dict[str, str]]:
    reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)
    try:
        columns = next(reader, [])
        for column in required:
            if column not in columns:
                raise UserError(f"{where}: no column {column!r} among {', '.join(columns) or 'none'}; add it")
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(columns):
                raise UserError(
                    f"{where}, line {reader.line_num}: {len(columns)} fields are expected; "
                    "put quotes round a field that holds commas"
                )
            yield dict(zip(columns, fields, strict=True))
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}: not readable as CSV ({error}); mend it") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}, after line {reader.line_num}: not readable as CSV in UTF-8 ({error.reason}); mend it"
        ) from None
