"""Names from outside as text: what a corpus calls a class never acts on a terminal, a page or a spreadsheet.

Every function takes any text and gives text for one kind of output. Lists and ledgers keep names as they are.
"""

from __future__ import annotations

import re
import unicodedata

#: Categories of escape codes, line separators, bidirectional overrides and lone surrogates.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
CELL = 2_000  # characters of a cell, far beyond any name
_JOINERS = "\u200c\u200d"  # hidden, but part of words and of emoji
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?([eE][+-]?\d+)?")
#: What Markdown would take for markup inside a line: `_` only at the edge of a word.
_MARKUP = re.compile(r"[\\`|<>*~]|&(?=#?\w+;)|\[(?=[^\]]*\][(\[:])|(?<![^\W_])_|_(?![^\W_])")


def _escape(sign: str) -> str:
    if unicodedata.category(sign) not in _HIDDEN or sign in _JOINERS:
        return sign
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def lines(text: object, limit: int = 20_000) -> str:
    r"""Text of several lines for a terminal or a log: hidden characters become \xNN or \uNNNN.

    Args:
        limit: characters, beyond which the rest is cut and counted.
    """
    text = str(text)
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text) - limit:,} more characters)"
    return "".join(sign if sign == "\n" else _escape(sign) for sign in text)


def line(text: object, limit: int = 200) -> str:
    r"""A name on one line: blanks and line breaks become one space, hidden characters \xNN or \uNNNN.

    Args:
        limit: characters of the result, beyond which it ends in `…`.
    """
    text = str(text)[: 8 * limit]
    text = "".join(map(_escape, " ".join(re.sub(r"\s", " ", text).split())))
    return text if len(text) <= limit else text[: limit - 1] + "…"


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
