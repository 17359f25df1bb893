"""Takes out of messages and logs what must not be shared: passwords and signatures in addresses."""

from __future__ import annotations

import logging
import re

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://)([^\s/?#@'\"]*@)?([^\s?#'\"]*)(\?[^\s'\"#]*)?", re.IGNORECASE)


def redact(text: str) -> str:
    """The text without the user, password and query of its addresses: `https://…@host/path?…`."""
    return _ADDRESS.sub(
        lambda m: m[1] + ("…@" if m[2] else "") + m[3] + ("?…" if m[4] and len(m[4]) > 1 else m[4] or ""),
        text,
    )


class RedactingFormatter(logging.Formatter):
    """A formatter of which no output has secrets of addresses, whichever library logs; tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
