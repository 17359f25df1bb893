"""Text from outside for tables and pages: what a corpus calls a class is neither markup nor a formula.

Every function takes any text and returns text for one kind of output.
"""

from __future__ import annotations

import re

from audionas.runtime.text import line

CELL = 2_000  # characters of a cell, far beyond any name
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?([eE][+-]?\d+)?")
#: What Markdown would take for markup inside a line: `_` only at the edge of a word.
_MARKUP = re.compile(r"[\\`|<>*~]|&(?=#?\w+;)|\[(?=[^\]]*\][(\[:])|(?<![^\W_])_|_(?![^\W_])")


def markdown(text: object) -> str:
    """A name for a cell of a Markdown table, or inside a line."""
    return _MARKUP.sub(lambda match: "\\" + match[0], line(text, CELL))


def from_markdown(text: str) -> str:
    """The text that `markdown` wrote."""
    return re.sub(r"\\([\\`|<>*~&\[_])", r"\1", text)


def spreadsheet(text: str) -> str:
    """A cell of a CSV table that people open; what a spreadsheet would run gets an apostrophe before it.

    A number stays a number. `from_spreadsheet` takes the apostrophe away again.
    """
    text = line(text, CELL)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_spreadsheet(text: str) -> str:
    """The text of a cell that `spreadsheet` wrote."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
