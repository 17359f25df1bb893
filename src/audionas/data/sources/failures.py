"""Map errors of yt-dlp, YouTube, web servers and ffmpeg to the ledger's reasons."""

from __future__ import annotations

import re
from collections.abc import Iterator

from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import GeoRestrictedError, UnsupportedError

from audionas.data.sources.base import SourceError, read_retry_after

#: YouTube's messages in lower case, in the order of the search: "Video unavailable" begins messages of
#: every kind, so it comes last.
_MESSAGES = (
    (
        "rate-limited",
        r"not a bot|try again later|rate.limited by youtube|captcha|too many requests"
        r"|ip is likely being blocked|unusual traffic",
    ),
    ("geo-blocked", r"(?:in|from) your (?:country|location|region)|geo.?restrict"),
    ("age-restricted", r"confirm your age|age.?restricted|inappropriate for some users|age.verif"),
    (
        "private",
        r"private video|video is private|join this channel|members.only|requires payment|premium members"
        r"|drm protected|registered users",
    ),
    (
        "removed",
        r"video unavailable|has been removed|removed by the (?:uploader|user)|been terminated"
        r"|no longer available|account .*closed|does not exist|copyright|violat|is not available\.?$"
        r"|content isn't available",
    ),
)
_NETWORK_LOSS = re.compile(
    r"stream ends prematurely|failed to open (?:segment|fragment)|connection (?:timed out|reset|refused)"
    r"|operation timed out|input/output error|i/o error|unreachable|failed to resolve|name or service"
    r"|broken pipe|pull function",
    re.IGNORECASE,
)


def read_error(error: BaseException, not_found: str) -> SourceError:
    """Return the reason of a yt-dlp exception; `network` if it is unknown, so that the clip is retried."""
    causes = list(_causes(error))
    message = str(causes[0]).removeprefix("ERROR: ")
    for cause in causes:
        if isinstance(cause, HTTPError):
            reason = read_status(cause.status, not_found)
            wait = read_retry_after(cause.response.headers.get("Retry-After"))
            return SourceError(reason, message, wait)
        if isinstance(cause, GeoRestrictedError):
            return SourceError("geo-blocked", message)
        if isinstance(cause, UnsupportedError):
            return SourceError("decode", message)  # a page without any audio
        if isinstance(cause, TransportError):
            return SourceError("network", message)
    return SourceError(read_message(message), message)


def read_message(message: str) -> str:
    """Return the reason in a message of YouTube or yt-dlp; `network` if there is none."""
    plain = message.replace("\u2019", "'").lower()
    return next((reason for reason, pattern in _MESSAGES if re.search(pattern, plain)), "network")


def read_ffmpeg(message: str, not_found: str) -> SourceError:
    """Return the reason in a message of ffmpeg; `decode` if there is none."""
    reason = "network" if _NETWORK_LOSS.search(message) else "decode"
    if status := re.search(r"HTTP error (\d{3})", message):
        reason = read_status(int(status[1]), not_found)
    wrong = [line for line in message.splitlines() if re.search(r"\[(?:error|fatal)\]", line)]
    return SourceError(reason, "ffmpeg: " + re.sub(r" @ 0x[0-9a-f]+", "", "; ".join(wrong)))


def read_status(status: int, not_found: str) -> str:
    """Return the reason of an HTTP error status; `not_found` for 404 and 410."""
    known = {
        401: "private",
        402: "rate-limited",
        404: not_found,
        410: not_found,
        416: "decode",
        429: "rate-limited",
    }
    return {**known, 451: "geo-blocked"}.get(status, "network")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and its causes, including those that yt-dlp stores."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        cause = waiting.pop(0)
        if any(cause is other for other in seen):
            continue
        seen.append(cause)
        yield cause
        found = (
            (getattr(cause, "exc_info", None) or (None, None))[1],
            getattr(cause, "cause", None),
            cause.__cause__,
        )
        waiting += [other for other in found if isinstance(other, BaseException)]
