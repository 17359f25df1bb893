"""Parse AudioSet's segment format: one line for each span of a YouTube video, with labels."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from audionas.data.corpora.base import safe_id
from audionas.data.ledger import require_file
from audionas.data.names import clean
from audionas.runtime.errors import UserError, os_error

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A spreadsheet takes an id such as -abc for a formula, and stores #NAME?, #REF! or #N/A.
_FORMULA = re.compile(r'"?#(N/A|NV|DIV/0!|[¿¡]?[^\W\d_]{2,}[?!])"?\s*[,;\t]')
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?E[+-]?\d+|[+-]?\d+[.,]\d+", re.IGNORECASE)
_LONGEST = 1e6  # seconds; no video is longer, and the milliseconds become part of a file name
_FIX = "a spreadsheet changed the list: use the original file, or import every column as text"


def parse_segments(path: str | Path) -> Iterator[tuple[int, str, float, float, tuple[str, ...]]]:
    """Yield (line number, YTID, start, end in seconds, labels) of a list in AudioSet's segment format.

    Lines that begin with `#` are comments; the quoted labels follow `, `. A byte-order mark and any line
    ending are accepted. An id is 1 to 64 of [A-Za-z0-9_-]; a genuine one has 11 and may begin with `-`.

    Raises:
        UserError: during the iteration, naming file, line, column and fix: another number of fields, an
            invalid id, a span that does not increase, no label, or damage by a spreadsheet.
    """
    path, number = Path(path), 0
    try:
        require_file(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}, line {number}"
                if _FORMULA.match(line):
                    raise UserError(f"{where}, column YTID: {line.split(',')[0]!r} was an id; {_FIX}")
                if not line.strip() or line.lstrip('"').startswith("#"):
                    continue
                fields = next(csv.reader([line], skipinitialspace=True, strict=True))
                if fields[0] == "YTID":  # a header that lost its `#`
                    continue
                yield number, *_parse(fields, where)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; fix the path") from None
    except OSError as error:
        raise os_error(error, path) from None
    except csv.Error as error:
        raise UserError(f"{path}, line {number}: not readable as CSV ({error}); fix it") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, after line {number}: not readable as CSV in UTF-8 ({error}); fix it"
        ) from None


def split_labels(text: str) -> tuple[str, ...]:
    """Return the comma-separated labels, stripped, without repetitions, in order; empty for an empty text."""
    return tuple(dict.fromkeys(label for part in text.split(",") if (label := clean(part))))


def segment_id(ytid: str, start: float) -> str:
    """Return the clip id of a YouTube segment; it begins with `Y`, because ids may begin with `-`."""
    return safe_id(f"Y{ytid}_{round(start * 1000)}")


def lines_of(path: str | Path, ytid: str) -> list[int]:
    """Return the line numbers of a list that name one video."""
    return [row[0] for row in parse_segments(path) if row[1] == ytid]


def _parse(fields: list[str], where: str) -> tuple[str, float, float, tuple[str, ...]]:
    if len(fields) != 4:
        fix = 'write YTID, start_seconds, end_seconds, and the labels in quotes: "/m/09x0r,/m/04rlf"'
        if re.search("[;\t]", "".join(fields)):
            fix = f"it is separated by semicolons or tabs: {_FIX}"
        raise UserError(f"{where}: {len(fields)} fields; {fix}")
    ytid, *span, labels = fields
    if not _ID.fullmatch(ytid):
        raise UserError(f"{where}, column YTID: {_why_no_id(ytid)}")
    column = "start_seconds"
    try:
        start = float(span[0])
        column = "end_seconds"
        end = float(span[1])
        if not (0 <= start < end < _LONGEST and round(start * 1000) < round(end * 1000)):  # NaN fails too
            raise ValueError
    except ValueError:
        raise UserError(
            f"{where}, column {column}: {span[0]!r} to {span[1]!r} is not a span of seconds; write two "
            f"increasing numbers from 0 to below {_LONGEST:g}, with a decimal point"
        ) from None
    if '"' in labels:
        raise UserError(f"{where}, column positive_labels: quotes within {labels!r}; {_FIX}")
    if not (names := split_labels(labels)):
        raise UserError(
            f"{where}, column positive_labels: no label; give at least one class, or remove the line"
        )
    return ytid, start, end, names


def _why_no_id(text: str) -> str:
    shown = repr(text if len(text) <= 70 else f"{text[:64]}…")
    if not text:
        return "empty; give the id of the recording"
    if re.search(r"[/\\\0]|\.\.", text):
        return f"the path {shown} leaves the folder of audio; write an id of [A-Za-z0-9_-]"
    if _NUMBER.fullmatch(text) or ";" in text:
        return f"{shown} was an id; {_FIX}"
    return f"{shown} is not an id: write 1 to 64 of [A-Za-z0-9_-], and 11 for a YouTube video"
