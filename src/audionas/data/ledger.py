"""Read and write lists and ledgers: CSV files, checked row by row and written atomically."""

from __future__ import annotations

import csv
import difflib
import io
import math
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from audionas.data.names import clean, comparable
from audionas.runtime.artifacts import remedy
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import atomic_write
from audionas.runtime.text import line as one_line

DOWNLOAD = (
    *("clip_id", "status", "reason", "source", "attempts", "bytes", "sha256", "seconds", "rate"),
    "answers",  # of the sources that failed: source:reason, joined by ;
)
RESAMPLE = (
    *("clip_id", "status", "reason", "note", "original_rate", "channels", "seconds"),
    *("bandwidth", "level"),  # Hz and dBFS of the clip, see audio.measure
)
SEGMENTS = ("clip_id", "source", "origin", "start", "end", "labels")
CLASSES = ("index", "mid", "display_name")
_NUMBERS = {  # columns that hold a number, or are empty
    **dict.fromkeys(("attempts", "bytes", "channels"), int),
    **dict.fromkeys(("seconds", "rate", "original_rate", "bandwidth", "level", "start", "end"), float),
}


def write_rows(path: str | Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write dictionaries as CSV (UTF-8, \\n), atomically; None becomes an empty field.

    Raises ValueError if a row has a key that is not a column.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def general(reason: str) -> str:
    """Return a reason without its details, so that clips can be counted by reason."""
    return reason.split(" (")[0].split(":")[0].strip()


def labels_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """Return the labels of a row of data/segments/{split}.csv; empty for a clip without a class."""
    return tuple(row["labels"].split(",")) if row["labels"] else ()


def iter_rows(path: str | Path, required: Iterable[str] = ()) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file as dictionaries of text, in order, one at a time in memory.

    Raises UserError naming the file and the line, during the iteration: the file is missing or a folder, or
    as `parse_rows`.
    """
    return (row for _, row in iter_numbered(path, required))


def iter_ledger(path: str | Path, required: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield rows as `iter_rows`, and check that numeric columns hold a finite number or are empty.

    Raises UserError as `iter_rows`, and naming the column of a value that is not a finite number.
    """
    for line, row in iter_numbered(path, required):
        require_numbers(row, path, line)
        yield row


def require_numbers(row: Mapping[str, str], path: str | Path, line: int) -> None:
    """Raise UserError naming the line and column if a numeric column is neither a finite number nor empty."""
    for column, kind in _NUMBERS.items():
        if not (text := row.get(column)):
            continue
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"{path}, line {line}, column {column}: {clean(text)[:40]!r} is not a number; the file is "
                f"damaged: {remedy(path)}"
            )


def iter_numbered(
    path: str | Path, required: Iterable[str] = (), optional: Iterable[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield rows as `iter_rows`, each with the line on which it begins, from 1.

    Args:
        required: columns that must exist.
        optional: columns that the caller uses if they exist. Both kinds are matched regardless of case, and
            named in the rows as given here.
    """
    try:
        require_file(path)
        with Path(path).open("rb") as file:
            yield from _rows(file, path, required, optional)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; fix the path, or make the file with `dvc repro`") from None
    except OSError as error:
        raise os_error(error, path) from None


def read_rows(path: str | Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return all rows of a CSV file. Raises UserError as `iter_rows`."""
    return list(iter_rows(path, required))


def require_file(path: str | Path) -> None:
    """Refuse a path of a pipe or a device, because reading it may block forever.

    Raises OSError if the path does not exist, UserError for a pipe or a device.
    """
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path}: a pipe or a device, not a file; give a CSV file that can be read")


def parse_rows(content: bytes, where: str | Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return all rows of a CSV file's content; `where` names it in errors.

    Raises UserError naming `where` and the line: not CSV in UTF-8, a missing or repeated column, a row with
    another number of fields.
    """
    return [row for _, row in parse_numbered(content, where, required)]


def parse_numbered(
    content: bytes, where: str | Path, required: Iterable[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """Return rows as `parse_rows`, each with the line on which it begins, from 1."""
    return list(_rows(io.BytesIO(content), where, required))


def _rows(
    file: BinaryIO, where: str | Path, required: Iterable[str], optional: Iterable[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    start = file.read(64)
    file.seek(0)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start:
        raise UserError(
            f"{where}: not readable as CSV in UTF-8: it looks like UTF-16, which spreadsheets call Unicode "
            "text; save it as CSV UTF-8"
        )
    reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)
    line = 1
    try:
        columns = _columns(next(reader, []), where, list(required), list(optional))
        line = reader.line_num + 1
        for fields in reader:
            if fields:
                if len(fields) != len(columns):
                    raise UserError(
                        f"{where}, line {line}: expected {len(columns)} fields and found {len(fields)}; "
                        "put quotes around a field that contains commas"
                    )
                yield line, dict(zip(columns, fields, strict=True))
            line = reader.line_num + 1  # a field in quotes may span lines
    except csv.Error as error:
        raise UserError(f"{where}, line {line}: not readable as CSV ({error}); fix it") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}, after line {reader.line_num}: not readable as CSV in UTF-8 ({error.reason}); fix it, "
            "or save it as CSV UTF-8"
        ) from None


def _columns(header: list[str], where: str | Path, required: list[str], optional: list[str]) -> list[str]:
    """Return a header's columns, stripped; wanted columns in the caller's spelling."""
    columns = [clean(column) for column in header]
    for wanted in required + optional:
        alike = [i for i, column in enumerate(columns) if comparable(column) == comparable(wanted)]
        if wanted not in columns and len(alike) == 1:
            columns[alike[0]] = wanted
    for i, column in enumerate(columns):
        if column and column in columns[:i]:
            raise UserError(f"{where}, line 1: the column {column!r} appears twice; rename or remove one")
    for column in required:
        if column not in columns:
            raise UserError(f"{where}: {_no_column(column, columns)}")
    return columns


def _no_column(column: str, columns: list[str]) -> str:
    text = ", ".join(columns)
    for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
        if mark in text and len(columns) <= text.count(mark):
            return (
                f"no column {column!r}: the file is separated by {name}, not by commas; save it as "
                "CSV with commas, and put quotes around fields that contain commas"
            )
    if text.lower().startswith("sep="):
        return (
            f"no column {column!r}: the first line, {one_line(text)!r}, is a spreadsheet's marker; remove it"
        )
    near = difflib.get_close_matches(column, columns, 1) or [name for name in columns if column in name]
    fix = f"rename {near[0]!r}, or add it" if near else "add it"
    return f"no column {column!r} among {one_line(text, 300) or 'none'}; {fix}"
