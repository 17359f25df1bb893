"""Escape external text, such as class names, for Markdown tables and spreadsheets.

Every function accepts any text and returns text for one output format.
"""

from __future__ import annotations

import re

from audionas.runtime.text import line

CELL = 2_000  # most characters of a cell; longer than any name
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?([eE][+-]?\d+)?")
#: Markdown syntax within a line. `_` is syntax only at the edge of a word.
_MARKUP = re.compile(r"[\\`|<>*~]|&(?=#?\w+;)|\[(?=[^\]]*\][(\[:])|(?<![^\W_])_|_(?![^\W_])")


def markdown(text: object) -> str:
    """Escape a text for a cell of a Markdown table, or for use within a line."""
    return _MARKUP.sub(lambda match: "\\" + match[0], line(text, CELL))


def from_markdown(text: str) -> str:
    """Return the text that `markdown` escaped."""
    return re.sub(r"\\([\\`|<>*~&\[_])", r"\1", text)


def spreadsheet(text: str) -> str:
    """Escape a cell of a CSV table: an apostrophe keeps a spreadsheet from running it as a formula.

    Numbers stay as they are. `from_spreadsheet` removes the apostrophe.
    """
    text = line(text, CELL)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_spreadsheet(text: str) -> str:
    """Return the text of a cell that `spreadsheet` escaped."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
