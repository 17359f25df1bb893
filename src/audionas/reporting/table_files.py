"""How a table is written, and read again: CSV for machines, Markdown for people, LaTeX for papers.

Names in it are text whatever they look like: `007`, `nan` and `None` stay so, and nothing in them is markup,
a formula or an escape code (see `audionas.reporting.markup`).
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

QUOTED = "AudioSet: "  # before the name of a column that quotes the paper, which prints one decimal
#: Columns that hold names. In all others an empty field is a number that is not there.
TEXT = {
    *(
        "Budget",
        "Class",
        "Constraint",
        "Corpus",
        "Curve",
        "File",
        "Finding",
        "KD of size",
        "Measured",
        "Model",
    ),
    *("Name", "Network", "Question", "Seeds", "Space", "Verdict", "What", "certain"),
    *("constraint", "corpus", "depths", "kind", "model", "network", "ratios", "recipe", "size", "space"),
}
#: Columns of a table's origin: people read what all rows have in common in the caption.
_ORIGIN = {
    "Corpus": "corpus {}",
    "Train clips": "{} clips to train",
    "Test clips": "{} to test",
    "Seeds": "seed(s) {}",
}


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """What people see: rounded numbers, and an estimate with its spread and interval in one cell."""
    result = pd.DataFrame(index=table.index)
    for column in table:
        if column.startswith(("sd ", "low ", "high ")) or _common(table, column):
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
    """One, or as many as leave the smallest number two digits."""
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
    """A table of texts in Markdown."""
    cells = table.map(markdown).set_axis([markdown(name) for name in table.columns], axis=1)
    return cells.to_markdown(index=False, disable_numparse=True)


def write_csv(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """A table that people open in a spreadsheet, which runs none of its cells."""
    cells = table.map(lambda value: spreadsheet(value) if isinstance(value, str) else value)
    with atomic_write(path) as temporary:
        cells.to_csv(temporary, index=False, lineterminator="\n", float_format=float_format)


def read_csv(path: Path, required: Iterable[str] = ()) -> pd.DataFrame:
    """A table that `write_csv` wrote, its names as text.

    Raises:
        UserError: it is missing or damaged, or a column is; names the file.
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
                raise ValueError(f"column {name!r} holds what is no number")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged ({error}); run `dvc repro`") from None
    return table.map(lambda value: from_spreadsheet(value) if isinstance(value, str) else value)


def write(table: pd.DataFrame, folder: Path, name: str, caption: str) -> None:
    """{name}.csv with every column; {name}.md and {name}.tex with what people see, under the caption."""
    origin = [text.format(table[name].iloc[0]) for name, text in _ORIGIN.items() if _common(table, name)]
    caption += f" Made from {', '.join(origin)}." if origin else ""
    quotes = {c: [_text(value, 1) for value in table[c]] for c in table if c.startswith(QUOTED)}
    write_csv(table.assign(**quotes), folder / f"{name}.csv", float_format="%.7g")
    seen = shown(table)
    text = f"{markdown(caption)}\n\n{markdown_table(seen)}\n"
    with atomic_write(folder / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    rows = tabulate(seen.to_numpy(), list(seen.columns), tablefmt="latex_booktabs", disable_numparse=True)
    rows = re.sub(
        r"(?m)^(?= *[\[*])", "{}", rows
    )  # or the end of the row before would take it for its option
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
