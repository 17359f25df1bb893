"""Lists and ledgers: CSV files whose every row was checked when read and is whole when written."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from audionas.errors import UserError
from audionas.files import atomic_write

DOWNLOAD = ("clip_id", "status", "reason", "source", "bytes", "sha256")
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


def read_rows(path: str | Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """All rows of a CSV file as dictionaries of text, in order.

    Raises UserError naming the file and the line: missing file, missing column, a row of another length.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            for column in required:
                if column not in columns:
                    raise UserError(
                        f"{path}: no column {column!r} among {', '.join(columns) or 'none'}; add it"
                    )
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(columns)} fields are expected; "
                        "put quotes round a field that holds commas"
                    )
                rows.append(row)
            return rows
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; mend the path, or make the file with `dvc repro`") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as CSV in UTF-8 ({error}); mend it") from None
