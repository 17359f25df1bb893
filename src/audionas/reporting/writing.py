"""How a table is written: CSV for machines, Markdown for people, LaTeX for papers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import LATEX_ESCAPE_RULES, tabulate

from audionas.files import atomic_write

QUOTED = "AudioSet: "  # before the name of a column that quotes the paper, which prints one decimal
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
    return " ".join(str(value).split())  # a name may hold a line break


def write(table: pd.DataFrame, folder: Path, name: str, caption: str) -> None:
    """{name}.csv with every column; {name}.md and {name}.tex with what people see, under the caption."""
    origin = [text.format(table[name].iloc[0]) for name, text in _ORIGIN.items() if _common(table, name)]
    caption += f" Made from {', '.join(origin)}." if origin else ""
    quotes = {c: [_text(value, 1) for value in table[c]] for c in table if c.startswith(QUOTED)}
    with atomic_write(folder / f"{name}.csv") as temporary:
        table.assign(**quotes).to_csv(temporary, index=False, lineterminator="\n", float_format="%.7g")
    seen = shown(table)
    rows = seen.map(lambda text: text.replace("|", "\\|"))
    text = f"{caption}\n\n{rows.to_markdown(index=False, disable_numparse=True)}\n"
    with atomic_write(folder / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    rows = tabulate(seen.to_numpy(), list(seen.columns), tablefmt="latex_booktabs", disable_numparse=True)
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
