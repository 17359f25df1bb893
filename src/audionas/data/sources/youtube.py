"""YouTube: yt-dlp finds the best audio of a video; ffmpeg reads and cuts only the wanted section.

yt-dlp is used as a library, up to the address of the media. Its own section download also runs ffmpeg, but
reports only an exit code. This module therefore runs ffmpeg itself, with a reason for each failure and a time
limit.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import soundfile
import yt_dlp
from yt_dlp.cookies import YoutubeDLCookieJar
from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import TransportError

from audionas.audio import ffmpeg
from audionas.audio.reading import DecodeError, read
from audionas.data.corpora.base import Clip
from audionas.data.sources.base import Source, SourceError
from audionas.data.sources.failures import read_error, read_ffmpeg
from audionas.runtime.errors import UserError
from audionas.runtime.files import UnfitFileError, read_bounded
from audionas.runtime.redaction import redact

ADDRESS = "https://www.youtube.com/watch?v={ytid}"
LEAST_SECONDS = 0.1  # shorter cuts are not clips
_BLOCK = 1 << 16  # bytes
_PROTOCOLS = "http,https,httpproxy,tls,tcp,crypto,data"  # a playlist must not open local files
_FORMAT = "bestaudio[protocol~='^https?$']/bestaudio/best"  # a file allows range requests
_FORMATS = "matroska,webm,mov,mp4,m4a,ogg,flac,wav,aiff,mp3,aac,mpegts,flv"  # none references other files
_PLAIN = frozenset(
    {"User-Agent", "Accept", "Accept-Language", "Sec-Fetch-Mode", "Referer", "Origin"}
)  # headers
_LARGEST = 1 << 28  # bytes of a file that is copied as a whole
_LARGEST_COOKIES = 1 << 24  # bytes
_MATROSKA, _FLAC = b"\x1aE\xdf\xa3", b"fLaC"  # the first bytes of each
_COOKIE = re.compile(r"[^\t]*(?:\t[^\t]*){3}\t(?:\d+(?:\.\d+)?)?\t[^\t]*\t[^\t]*", re.ASCII)
_log = logging.getLogger(__name__)

#: ffmpeg skips unreadable data, such as a page of Ogg, and still exits with 0. TLS messages are ignored:
#: they also report how a server closes an unneeded connection.
_DAMAGE = re.compile(
    r"^(?!\[tls).*\[(?:error|fatal)\]|failed to open (?:segment|fragment)|could not seek|discontinuity",
    re.IGNORECASE | re.MULTILINE,
)


class Youtube(Source):
    """Audio of YouTube videos: the wanted seconds as 16-bit FLAC, with the original rate and channels.

    This class does not retry and reads no configuration of yt-dlp. It writes only to a temporary folder below
    `temporary`, which it removes. Each thread keeps its own yt-dlp state (connections, player code).

    Args:
        address: address of a video, with `{ytid}`; http or https.
        cookies: a file in Netscape's format; read once and never written. ffmpeg never gets cookies: a file
            that needs them is copied as a whole first, a playlist is read without them.
        proxy: address of an HTTP proxy without a password; by default the environment's (`http_proxy`).
        pause_seconds: minimum time between two requests, over all threads.
        socket_seconds: timeout for a silent server.
        total_seconds: timeout for a clip; pauses do not count.
        client: yt-dlp's extractor arguments: {extractor: {argument: [values]}}.
        least_share: minimum share of the wanted span; less audio is "too short".
        temporary: a folder; by default the system's.

    Raises:
        UserError: an address without `{ytid}`, a proxy other than HTTP (ffmpeg has no SOCKS), an invalid
            cookies file, or no working ffmpeg. Names the field. The ffmpeg is imageio-ffmpeg's, or that of
            the environment variable AUDIONAS_FFMPEG; the ledger records its version.
    """

    name = "youtube"

    def __init__(
        self,
        *,
        address: str = ADDRESS,
        cookies: str | Path | None = None,
        proxy: str | None = None,
        pause_seconds: float = 0.0,
        socket_seconds: float = 20.0,
        total_seconds: float = 300.0,
        client: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
        least_share: float = 0.9,
        temporary: str | Path | None = None,
    ):
        if "{ytid}" not in address or not address.startswith(("http://", "https://")):
            raise UserError(
                f"youtube.address: {address!r} is not an http(s) address with {{ytid}} in it; add it"
            )
        if proxy and not proxy.startswith(("http://", "https://")):
            raise UserError(f"youtube.proxy: {redact(proxy)!r} is not an HTTP proxy; write http://host:port")
        for key, text in ("proxy", proxy), ("address", address):
            if "@" in urlsplit(text or "").netloc:
                raise UserError(
                    f"corpus.youtube.{key}: contains a user or a password, which params.yaml and dvc.lock "
                    "would publish; remove it"
                    + (", and set http_proxy and https_proxy in the environment" * (key == "proxy"))
                )
        self._address, self._proxy = address, proxy
        self._cookies = None if cookies is None else _read_cookies(Path(cookies))
        self._pause, self._socket, self._total = pause_seconds, socket_seconds, total_seconds
        self._client_options = client or {}
        self._least_share, self._temporary = least_share, temporary
        self._ffmpeg = ffmpeg.find()
        self._version = ffmpeg.version(self._ffmpeg)
        # YouTube reports removed videos in messages; its 404 is an expired media address.
        self._not_found = (
            "network" if (urlsplit(address).hostname or "").endswith("youtube.com") else "removed"
        )
        self._local, self._lock = threading.local(), threading.Lock()
        self._clients: list[_Client] = []
        self._next_request = 0.0

    @property
    def label(self) -> str:
        """See Source."""
        return f"{self.name} (ffmpeg {self._version})"

    def get(self, clip: Clip) -> bytes:
        """Return the clip's span as FLAC, to the end of the video if `end` is None. Raises SourceError."""
        client = self._client()
        client.deadline = time.monotonic() + self._total
        media = self._find(client, self._address.replace("{ytid}", quote(clip.source, safe="")))
        start = clip.start or 0.0
        span = None if clip.end is None else clip.end - start
        with tempfile.TemporaryDirectory(prefix="youtube-", dir=self._temporary) as folder:
            cut = Path(folder) / "clip.flac"
            self._cut(client, media, start, span, cut)
            seconds = _length(cut)
            if media["head"] == _FLAC and media["file"] and seconds < (span or math.inf) - 1e-3:
                self._require_sound(client, media, cut.with_name("whole"))
            least = max(LEAST_SECONDS, self._least_share * (span or 0.0))
            if seconds < least - 1e-3:
                raise SourceError("too short", f"{seconds:.2f} s of at least {least:.2f}")
            return cut.read_bytes()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for client in self._clients:
                client.close()

    def wait_for_turn(self) -> float:
        """Sleep until another request is allowed; return the seconds slept."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next_request)
            self._next_request = turn + self._pause
        time.sleep(turn - now)
        return turn - now

    def _client(self) -> _Client:
        if not hasattr(self._local, "client"):
            client = self._local.client = _Client(self, self._options())
            with self._lock:
                self._clients.append(client)
        return self._local.client

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "format": _FORMAT,
            "noplaylist": True,
            "playlist_items": "1",
            "logger": _Logger(),
            "quiet": True,
            "color": {"stdout": "no_color", "stderr": "no_color"},
            "cachedir": False,
            "geo_bypass": False,
            "socket_timeout": self._socket,
            "extractor_retries": 0,
            "extractor_args": {
                extractor: {name: list(values) for name, values in arguments.items()}
                for extractor, arguments in self._client_options.items()
            },
        }
        if self._proxy is not None:
            options["proxy"] = self._proxy
        if self._cookies is not None:
            options["cookiefile"] = io.StringIO(self._cookies)  # yt-dlp writes to this copy, not to the file
        return options

    def _find(self, client: _Client, url: str) -> dict[str, Any]:
        """Return yt-dlp's description of the best audio, after a test request to its server."""
        try:
            info = client.extract_info(url, download=False)
            if "entries" in info:
                info = next(iter(info["entries"]))
            wait = (info.get("available_at") or 0) - time.time()
            if wait > 0:  # YouTube refuses the media during the time of its advertisements
                if time.monotonic() + wait > client.deadline:
                    raise SourceError("network", f"not available for another {wait:.0f} s")
                time.sleep(wait)
            if not info["url"].startswith(("http://", "https://")):
                raise SourceError("decode", f"the media is at {info['url']}")
            # ffmpeg reports a status code, but not Retry-After or a bad certificate. This request reports
            # both, and its four bytes identify the container.
            with _ask(client, info, Range="bytes=0-3") as answer:
                ranges = answer.status == HTTPStatus.PARTIAL_CONTENT
                head = answer.read(4)
            return {**info, "file": info["protocol"] in ("http", "https"), "ranges": ranges, "head": head}
        except SourceError:
            raise
        # An unexpected page may raise any exception; it must not end a long run.
        except Exception as error:
            raise read_error(error, self._not_found) from error

    def _cut(
        self, client: _Client, media: dict[str, Any], start: float, span: float | None, cut: Path
    ) -> None:
        """Write the wanted span to the file `cut`. Raises SourceError."""
        url = media["url"]
        options = ["-protocol_whitelist", _PROTOCOLS, "-rw_timeout", str(round(self._socket * 1e6))]
        headers = dict(media.get("http_headers", {}))
        plain = {name: value for name, value in headers.items() if name.title() in _PLAIN}
        # ffmpeg takes headers as arguments, which any process can read; yt-dlp's headers may hold secrets.
        secret = plain != headers or client.cookiejar.get_cookie_header(url) is not None
        copied = secret and media["file"]
        options += ["-headers", "".join(f"{name}: {value}\r\n" for name, value in plain.items())]
        # ffmpeg seeks in a segmented stream to the start of a segment only; a server without ranges sends
        # the whole file.
        early = max(0.0, start - 1) if media["file"] and media["ranges"] else 0.0
        absolute = media["head"] == _MATROSKA
        cuts = _span(start, span, early, absolute)
        error = None if copied else self._run(client, options, url, early, cuts, cut)
        if copied or (error is not None and error.reason == "decode" and media["file"]):
            # ffmpeg treats a reset connection as the end of the file; a copy shows whether it is damaged.
            whole = cut.with_name("whole")
            self._fetch(client, media, whole)
            options = ["-format_whitelist", _FORMATS]
            error = self._run(client, options, str(whole), 0.0, _span(start, span, 0.0, absolute), cut)
        if error is not None:
            raise error

    def _fetch(self, client: _Client, media: dict[str, Any], path: Path) -> None:
        """Download the whole file. Raises SourceError."""
        try:
            with _ask(client, media) as answer, path.open("wb") as file:
                stated, got = int(answer.headers.get("Content-Length") or 0), 0
                while max(stated, got) <= _LARGEST and (block := answer.read(_BLOCK)):
                    file.write(block)
                    got += len(block)
            if max(stated, got) > _LARGEST:
                raise SourceError("network", f"must be copied as a whole, but has more than {_LARGEST} bytes")
        except SourceError:
            raise
        except Exception as error:  # as above
            raise read_error(error, self._not_found) from error

    def _require_sound(self, client: _Client, media: dict[str, Any], whole: Path) -> None:
        """Raise SourceError for a damaged FLAC file: ffmpeg 5 skips damaged blocks silently."""
        if not whole.exists():
            self._fetch(client, media, whole)
        try:
            read(whole.read_bytes(), 0.0)
        except DecodeError as error:
            raise SourceError("decode", str(error)) from None

    def _run(
        self,
        client: _Client,
        options: list[str],
        source: str,
        early: float,
        span: list[str],
        cut: Path,
    ) -> SourceError | None:
        """Run ffmpeg to seek in `source` and cut the `span` (options); return the error, or None."""
        command = [
            self._ffmpeg,
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "level+warning",
            "-xerror",
            "-y",
            *options,
        ]
        command += ["-ss", f"{early:.6f}"] if early else []
        command += ["-i", source, "-map", "0:a:0", "-map_metadata", "-1", *span]
        command += ["-c:a", "flac", "-sample_fmt", "s16", "-bitexact", "-f", "flac", str(cut)]
        # In the environment: any process can read arguments, and a proxy may have a password.
        proxy = {} if self._proxy is None else {"http_proxy": self._proxy, "no_proxy": ""}
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, **proxy},
                timeout=max(0.0, client.deadline - time.monotonic()),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return SourceError("network", f"not finished within {self._total:g} s")
        message = done.stderr.decode("utf-8", "replace").strip()
        _log.debug("ffmpeg: %s", message)
        return read_ffmpeg(message, self._not_found) if done.returncode or _DAMAGE.search(message) else None


class _Client(yt_dlp.YoutubeDL):
    """yt-dlp with a time limit and pauses, applied to every request of its extractors in `urlopen`."""

    def __init__(self, source: Youtube, options: dict[str, Any]):
        super().__init__(options)
        self._source = source
        self.deadline = 0.0  # of time.monotonic()

    def urlopen(self, req):
        self.deadline += self._source.wait_for_turn()
        self._require_time()
        response = super().urlopen(req)
        if hasattr(response.fp, "read1"):
            self._limit(response.fp)
        return response

    def _limit(self, body: Any) -> None:
        """Make `body.read` stop at the deadline: the socket's timeout restarts with every byte."""
        read1 = body.read1

        def read(amount: int | None = None, **options: Any) -> bytes:
            blocks, left = [], amount
            while left is None or left > 0:
                self._require_time()
                block = read1(_BLOCK if left is None else min(left, _BLOCK), **options)
                if not block:
                    break
                blocks.append(block)
                left = None if left is None else left - len(block)
            return b"".join(blocks)

        body.read = read

    def _require_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise TransportError("the total time limit is exceeded")


class _Logger:
    """Log yt-dlp's messages at debug level; the SourceError contains the important ones."""

    def debug(self, message: str) -> None:
        _log.debug("%s", message)

    info = warning = error = debug


def _ask(client: _Client, media: dict[str, Any], **more: str) -> Response:
    headers = {**media.get("http_headers", {}), "Accept-Encoding": "identity", **more}
    return client.urlopen(Request(media["url"], headers=headers))


def _span(start: float, span: float | None, early: float, absolute: bool) -> list[str]:
    """Return ffmpeg's options to cut the wanted span from input that begins at `early` seconds.

    ffmpeg's time zero is the first time stamp of a file. In Matroska and WebM, frames that only prepare the
    decoder precede the first sample. ffmpeg 5 counts from these frames, 6.5 ms early for Opus; ffmpeg 9
    counts from their end. With `absolute` the cut therefore uses the file's own time stamps.
    """
    if not absolute:
        length = [] if span is None else ["-t", f"{span:.6f}"]
        return ["-ss", f"{start - early:.6f}", *length]
    trims = [
        f"start={start or -0.001:.6f}"
    ]  # times are rounded to milliseconds, so the first may be negative
    trims += [] if span is None else [f"end={start + span:.6f}", f"duration={span:.6f}"]
    return ["-copyts", "-af", ",".join(f"atrim={trim}" for trim in trims)]


def _length(cut: Path) -> float:
    """Return the length in seconds by counting samples; 0 if the video ends before the clip starts."""
    seconds = 0.0
    try:
        with soundfile.SoundFile(cut) as file:
            while len(block := file.read(_BLOCK, "int16")):
                seconds += len(block) / file.samplerate
    except soundfile.LibsndfileError:
        pass  # no header
    return seconds


def _read_cookies(path: Path) -> str:
    """Return the file's text. Checked here, because yt-dlp prints invalid lines with their secrets."""
    try:
        text = read_bounded(path, _LARGEST_COOKIES).decode()
        for number, line in enumerate(text.splitlines(), 1):
            entry = line.removeprefix("#HttpOnly_")
            if entry.strip() and not entry.startswith("#") and not _COOKIE.fullmatch(entry):
                raise UserError(
                    f"youtube.cookies: {path}, line {number}: not a cookie in Netscape's format (7 fields "
                    "separated by tabs); export it again"
                )
        YoutubeDLCookieJar(io.StringIO(text)).load()
    # cookiejar's LoadError (a missing first line) is an OSError
    except (OSError, UnicodeDecodeError, UnfitFileError) as error:
        raise UserError(
            f"youtube.cookies: {path} is not a cookies file in Netscape's format ({type(error).__name__}); "
            "fix the path, or export it again"
        ) from None
    return text
