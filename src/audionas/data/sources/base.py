"""Interface of audio sources: each returns the encoded audio of a clip, or the reason of a failure."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from audionas.data.corpora.base import Clip
from audionas.runtime.redaction import redact

#: Reasons that do not change over time.
PERMANENT = frozenset(
    {"removed", "private", "geo-blocked", "age-restricted", "decode", "too short", "silent"}
    | {"channels cancel", "not there"}
)
#: Reasons for which a retry may succeed.
TRANSIENT = frozenset({"rate-limited", "network"})

DAY = 86_400.0  # seconds
DETAIL = 300  # characters of a server's or ffmpeg's message that are kept


class SourceError(Exception):
    """A source cannot give a clip.

    Attributes:
        reason: one of PERMANENT or TRANSIENT.
        detail: the source's message, for the log; redacted, and cut to DETAIL characters.
        retry_after: seconds to wait as requested by a rate-limiting server, or None.
    """

    def __init__(self, reason: str, detail: str = "", retry_after: float | None = None):
        if reason not in PERMANENT | TRANSIENT:
            raise ValueError(f"{reason!r} is not a reason of a source")
        detail = redact(detail)[:DETAIL]
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.retry_after = reason, detail, retry_after


def read_retry_after(value: str | None) -> float | None:
    """Parse `Retry-After`, in seconds or as an HTTP date: seconds to wait, at most a day, or None."""
    value = (value or "").strip()
    try:
        if re.fullmatch(r"[0-9]+", value):
            seconds = float(value)
        else:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), DAY)


class Source(ABC):
    """A source of audio. Its methods are safe to call from several threads."""

    name: str  #: as in `corpus.sources`

    @property
    def label(self) -> str:
        """Name for the ledger, with the version of a program whose output depends on it."""
        return self.name

    @abstractmethod
    def get(self, clip: Clip) -> bytes:
        """Return the clip's encoded audio, cut to its span. Raises SourceError."""

    def order(self, clips: Sequence[Clip]) -> Sequence[Clip]:
        """Return the clips in the order that is fastest for this source; unchanged by default."""
        return clips

    def close(self) -> None:  # noqa: B027 (most sources have nothing to close)
        """Close files and connections."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
