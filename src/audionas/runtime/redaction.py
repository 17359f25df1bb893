"""Remove passwords and signatures in addresses from messages and logs."""

from __future__ import annotations

import logging
import re

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://)([^\s/?#@'\"]*@)?([^\s?#'\"]*)(\?[^\s'\"#]*)?", re.IGNORECASE)


def redact(text: str) -> str:
    """Return the text without user, password and query of its addresses: `https://…@host/path?…`."""
    return _ADDRESS.sub(
        lambda m: m[1] + ("…@" if m[2] else "") + m[3] + ("?…" if m[4] and len(m[4]) > 1 else m[4] or ""),
        text,
    )


class RedactingFormatter(logging.Formatter):
    """Log formatter that redacts addresses in all output, including tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
