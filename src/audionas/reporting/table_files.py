"""Write tables as CSV, Markdown and LaTeX, and read the CSV back.

Names stay text: `007`, `nan` and `None` are not converted. Markup, formulas and escape codes in names are
escaped (see `audionas.reporting.markup`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import LATEX_ESCAPE_RULES, tabulate

from audionas.reporting.markup import CELL, from_spreadsheet, markdown, spreadsheet
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write
from audionas.runtime.text import line

QUOTED = "AudioSet: "  # prefix of columns that quote the paper, with one decimal
#: Columns of text. In all other columns an empty field is a missing number.
TEXT = {
    *(
        "Budget",
        "Class",
        "Constraint",
        "Corpus",
        "Curve",
        "File",
        "Finding",
        "Format",
        "KD of size",
        "Measured",
        "Model",
    ),
    *("Name", "Network", "Question", "SHA-256", "Seeds", "Space", "Verdict", "What", "significant"),
    *("constraint", "corpus", "depths", "kind", "model", "network", "ratios", "recipe", "size", "space"),
}
#: Columns of a table's origin. Values that all rows share move to the caption.
_ORIGIN = {
    "Corpus": "corpus {}",
    "Train clips": "{} clips to train",
    "Test clips": "{} to test",
    "Seeds": "seed(s) {}",
}


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Format a table for display: round numbers, and join an estimate, its spread and its interval."""
    result = pd.DataFrame(index=table.index)
    for column in table:
        if column.startswith(("sd ", "low ", "high ", "SHA-256")) or _common(table, column):
            continue
        alone = f"sd {column}" not in table and f"low {column}" not in table
        decimals = _decimals(table[column]) if alone and not column.startswith(QUOTED) else 1
        texts = [_text(value, decimals) for value in table[column]]
        if f"sd {column}" in table:
            sds = table[f"sd {column}"]
            texts = [f"{x} ± {sd:.1f}" if np.isfinite(sd) else x for x, sd in zip(texts, sds, strict=True)]
        if f"low {column}" in table:
            ends = zip(texts, table[f"low {column}"], table[f"high {column}"], strict=True)
            texts = [f"{x} [{low:.1f}, {high:.1f}]" if np.isfinite(low) else x for x, low, high in ends]
        result[column] = texts
    return result


def _common(table: pd.DataFrame, column: str) -> bool:
    return column in _ORIGIN and column in table and table[column].nunique() == 1


def _decimals(values: pd.Series) -> int:
    """Return 1, or as many decimals as show two digits of the smallest number."""
    if values.dtype.kind != "f":
        return 1
    smallest = values[values != 0].abs().min()
    return 1 if not smallest < 1 else min(8, 1 + int(np.ceil(-np.log10(smallest))))


def _text(value, decimals: int) -> str:
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.{decimals}f}" if np.isfinite(value) else ""
    return line(value, CELL)


def markdown_table(table: pd.DataFrame) -> str:
    """Return a table of texts in Markdown."""
    cells = table.map(markdown).set_axis([markdown(name) for name in table.columns], axis=1)
    return cells.to_markdown(index=False, disable_numparse=True)


def write_csv(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """Write a table as CSV, with formulas escaped for spreadsheets."""
    cells = table.map(lambda value: spreadsheet(value) if isinstance(value, str) else value)
    with atomic_write(path) as temporary:
        cells.to_csv(temporary, index=False, lineterminator="\n", float_format=float_format)


def read_csv(path: Path, required: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table that `write_csv` wrote, with names as text.

    Args:
        path: the CSV file.
        required: columns that must exist.

    Raises:
        UserError: the file or a column is missing or damaged.
    """
    try:
        columns = pd.read_csv(path, nrows=0).columns
        numbers = [name for name in columns if name not in TEXT]
        table = pd.read_csv(
            path,
            dtype={name: str for name in columns if name in TEXT},
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        )
        for name in required:
            if name not in columns:
                raise ValueError(f"no column {name!r}")
        for name in numbers:
            if len(table) and table[name].dtype.kind not in "iufb":
                raise ValueError(f"column {name!r} has a value that is not a number")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged ({error}); run `dvc repro`") from None
    return table.map(lambda value: from_spreadsheet(value) if isinstance(value, str) else value)


def write(table: pd.DataFrame, folder: Path, name: str, caption: str, latex: bool = True) -> None:
    """Write {name}.csv with all columns, and {name}.md and {name}.tex with caption and displayed columns."""
    origin = [text.format(table[name].iloc[0]) for name, text in _ORIGIN.items() if _common(table, name)]
    caption += f" Made from {', '.join(origin)}." if origin else ""
    quotes = {c: [_text(value, 1) for value in table[c]] for c in table if c.startswith(QUOTED)}
    write_csv(table.assign(**quotes), folder / f"{name}.csv", float_format="%.7g")
    seen = shown(table)
    text = f"{markdown(caption)}\n\n{markdown_table(seen)}\n"
    with atomic_write(folder / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    if not latex:
        return
    rows = tabulate(seen.to_numpy(), list(seen.columns), tablefmt="latex_booktabs", disable_numparse=True)
    # LaTeX reads `[` or `*` at the start of a row as an option of the line break before it.
    rows = re.sub(r"(?m)^(?= *[\[*])", "{}", rows)
    caption = "".join(LATEX_ESCAPE_RULES.get(sign, sign) for sign in caption)
    for sign, command in (("±", r"$\pm$"), ("×", r"$\times$"), ("−", "$-$")):
        rows, caption = rows.replace(sign, command), caption.replace(sign, command)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{caption}}}",
        rows,
        "\\end{table}",
        "",
    ]
    text = "\n".join(lines)
    with atomic_write(folder / f"{name}.tex") as temporary:
        temporary.write_text(text, encoding="utf-8")
