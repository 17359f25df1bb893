"""Escape untrusted text in messages, so that class names cannot control a terminal.

Lists and ledgers keep names unchanged. `audionas.reporting.markup` writes them into tables and pages.
"""

from __future__ import annotations

import re
import unicodedata

#: Categories of escape codes, line separators, bidirectional overrides and lone surrogates.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # hidden, but part of words and of emoji


def _escape(sign: str) -> str:
    if unicodedata.category(sign) not in _HIDDEN or sign in _JOINERS:
        return sign
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def lines(text: object, limit: int = 20_000) -> str:
    r"""Return multi-line text for a terminal or a log: hidden characters become \xNN or \uNNNN.

    Args:
        limit: maximum number of characters; the number of the others is appended.
    """
    text = str(text)
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text) - limit:,} more characters)"
    return "".join(sign if sign == "\n" else _escape(sign) for sign in text)


def line(text: object, limit: int = 200) -> str:
    r"""Return a name on one line: blanks and line breaks become one space, hidden characters \xNN or \uNNNN.

    Args:
        limit: maximum number of characters of the result; a longer name ends in `…`.
    """
    text = str(text)[: 8 * limit]
    text = "".join(map(_escape, " ".join(re.sub(r"\s", " ", text).split())))
    return text if len(text) <= limit else text[: limit - 1] + "…"
