"""What every source of audio is: asked for clips, it gives their encoded audio or the reason why not."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from audionas.data.corpora.base import Clip
from audionas.runtime.redaction import redact

#: Reasons that another day will not change.
PERMANENT = frozenset(
    {"removed", "private", "geo-blocked", "age-restricted", "decode", "too short", "silent"}
    | {"channels cancel", "not there"}
)
#: Reasons that may be well when asked again.
TRANSIENT = frozenset({"rate-limited", "network"})

DAY = 86_400.0  # seconds
DETAIL = 300  # characters of what a server or ffmpeg said that are kept


class SourceError(Exception):
    """A clip could not be got.

    Attributes:
        reason: one of PERMANENT or TRANSIENT.
        detail: what the source said, for the log; no secrets of addresses; cut to DETAIL characters.
        retry_after: seconds that a rate-limiting server asked to wait, where it said so.
    """

    def __init__(self, reason: str, detail: str = "", retry_after: float | None = None):
        if reason not in PERMANENT | TRANSIENT:
            raise ValueError(f"{reason!r} is no reason of a source")
        detail = redact(detail)[:DETAIL]
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.retry_after = reason, detail, retry_after


def read_retry_after(value: str | None) -> float | None:
    """Seconds to wait, at most a day, by `Retry-After`: seconds or an HTTP date. None for all else."""
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
    """A place to get audio from. Safe to call from several threads at once."""

    name: str  #: as in `corpus.sources`

    @property
    def label(self) -> str:
        """As in the ledger: the name, with the version of a program whose versions give other audio."""
        return self.name

    @abstractmethod
    def get(self, clip: Clip) -> bytes:
        """The clip's encoded audio, cut to its span. Raises SourceError."""

    def order(self, clips: Sequence[Clip]) -> Sequence[Clip]:
        """The clips in the order in which this source gives them fastest; as they are, by default."""
        return clips

    def close(self) -> None:  # noqa: B027 (most have nothing to let go of)
        """Let go of files and connections."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
