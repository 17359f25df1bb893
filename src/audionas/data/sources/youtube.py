"""YouTube: yt-dlp finds the best audio of a video, ffmpeg reads and cuts only the wanted section of it.

yt-dlp is used as a library, up to the address of the media. Its own section download leaves the reading to
ffmpeg too, but tells no more of a failure than an exit code; ffmpeg is therefore started here, so that every
failure has its reason and a time limit.
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
LEAST_SECONDS = 0.1  # no cut shorter than this is a clip
_BLOCK = 1 << 16  # bytes
_PROTOCOLS = "http,https,httpproxy,tls,tcp,crypto,data"  # no file of this machine, whatever a playlist says
_FORMAT = "bestaudio[protocol~='^https?$']/bestaudio/best"  # a file, of which a part can be asked for
_FORMATS = "matroska,webm,mov,mp4,m4a,ogg,flac,wav,aiff,mp3,aac,mpegts,flv"  # none that names other files
_PLAIN = frozenset(
    {"User-Agent", "Accept", "Accept-Language", "Sec-Fetch-Mode", "Referer", "Origin"}
)  # headers
_LARGEST = 1 << 28  # bytes that are copied to disk whole
_LARGEST_COOKIES = 1 << 24  # bytes
_MATROSKA, _FLAC = b"\x1aE\xdf\xa3", b"fLaC"  # the first bytes of each
_COOKIE = re.compile(r"[^\t]*(?:\t[^\t]*){3}\t(?:\d+(?:\.\d+)?)?\t[^\t]*\t[^\t]*", re.ASCII)
_log = logging.getLogger(__name__)

#: ffmpeg leaves out what it cannot read (a page of Ogg, and takes what follows for the wanted seconds) and
#: still ends well. Not TLS: it also complains of how a server closes a connection that is no longer needed.
_SPOILT = re.compile(
    r"^(?!\[tls).*\[(?:error|fatal)\]|failed to open (?:segment|fragment)|could not seek|discontinuity",
    re.IGNORECASE | re.MULTILINE,
)


class Youtube(Source):
    """Audio of YouTube videos: the wanted seconds as 16-bit FLAC, with the rate and channels of the original.

    Nothing is tried twice here, no configuration of yt-dlp is read, and nothing is written but into a folder
    of its own below `temporary`, which is removed. yt-dlp's state (connections, the player's code) is kept
    for each thread.

    Args:
        address: of a video, with `{ytid}`; http or https.
        cookies: a file in Netscape's format. It is read once and never written. ffmpeg never gets cookies: a
            file that is asked for with them is copied whole first, a playlist is read without.
        proxy: address of an HTTP proxy without a password; None for the environment's (`http_proxy`).
        pause_seconds: least time between two requests of all threads together.
        socket_seconds: a server that is silent for so long is given up.
        total_seconds: a clip that takes longer is given up; pauses do not count.
        client: yt-dlp's extractor arguments: {extractor: {argument: [values]}}.
        least_share: of the wanted span; less audio is "too short".
        temporary: a folder; None for the system's.

    Raises UserError naming the field for an address without `{ytid}`, a SOCKS proxy (ffmpeg has none), a
    cookies file that is none, and where there is no ffmpeg that runs. The ffmpeg is imageio-ffmpeg's, or the
    one that AUDIONAS_FFMPEG of the environment names; its version stands in the ledger.
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
            raise UserError(f"youtube.address: {address!r} is no http(s) address with {{ytid}} in it; add it")
        if proxy and not proxy.startswith(("http://", "https://")):
            raise UserError(f"youtube.proxy: {redact(proxy)!r} is no HTTP proxy; write http://host:port")
        for key, text in ("proxy", proxy), ("address", address):
            if "@" in urlsplit(text or "").netloc:
                raise UserError(
                    f"corpus.youtube.{key}: holds a user or a password, which params.yaml and dvc.lock "
                    "would show to all; remove it"
                    + (", and set http_proxy and https_proxy in the environment" * (key == "proxy"))
                )
        self._address, self._proxy = address, proxy
        self._cookies = None if cookies is None else _read_cookies(Path(cookies))
        self._pause, self._socket, self._total = pause_seconds, socket_seconds, total_seconds
        self._client_options = client or {}
        self._least_share, self._temporary = least_share, temporary
        self._ffmpeg = ffmpeg.find()
        self._version = ffmpeg.version(self._ffmpeg)
        # YouTube says that a video is gone; what is not found there is an address that it gave up itself.
        self._gone = "network" if (urlsplit(address).hostname or "").endswith("youtube.com") else "removed"
        self._local, self._lock = threading.local(), threading.Lock()
        self._clients: list[_Client] = []
        self._next_request = 0.0

    @property
    def label(self) -> str:
        """See Source."""
        return f"{self.name} (ffmpeg {self._version})"

    def get(self, clip: Clip) -> bytes:
        """The clip's seconds as FLAC, to the end of the video where `end` is None. Raises SourceError."""
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
        """Sleep until another request may be made; gives the seconds slept."""
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
            options["cookiefile"] = io.StringIO(self._cookies)  # yt-dlp writes back to it; not to the file
        return options

    def _find(self, client: _Client, url: str) -> dict[str, Any]:
        """yt-dlp's description of the best audio, once its server has answered that it is there."""
        try:
            info = client.extract_info(url, download=False)
            if "entries" in info:
                info = next(iter(info["entries"]))
            wait = (info.get("available_at") or 0) - time.time()
            if wait > 0:  # YouTube refuses the media before the time that its advertisements take
                if time.monotonic() + wait > client.deadline:
                    raise SourceError("network", f"not to be had before another {wait:.0f} s")
                time.sleep(wait)
            if not info["url"].startswith(("http://", "https://")):
                raise SourceError("decode", f"the media is at {info['url']}")
            # ffmpeg tells a status code but neither Retry-After nor a certificate that is wrong; so one byte
            # is asked for here, and the three that tell the container.
            with _ask(client, info, Range="bytes=0-3") as answer:
                ranges = answer.status == HTTPStatus.PARTIAL_CONTENT
                head = answer.read(4)
            return {**info, "file": info["protocol"] in ("http", "https"), "ranges": ranges, "head": head}
        except SourceError:
            raise
        # A page that nobody foresaw raises anything, and must not end a run of days.
        except Exception as error:
            raise read_error(error, self._gone) from error

    def _cut(
        self, client: _Client, media: dict[str, Any], start: float, span: float | None, cut: Path
    ) -> None:
        """Write the wanted seconds to the file `cut`."""
        url = media["url"]
        options = ["-protocol_whitelist", _PROTOCOLS, "-rw_timeout", str(round(self._socket * 1e6))]
        headers = dict(media.get("http_headers", {}))
        plain = {name: value for name, value in headers.items() if name.title() in _PLAIN}
        # Anyone may read a process's arguments, where alone ffmpeg takes headers; yt-dlp asks with secrets.
        secret = plain != headers or client.cookiejar.get_cookie_header(url) is not None
        copied = secret and media["file"]
        options += ["-headers", "".join(f"{name}: {value}\r\n" for name, value in plain.items())]
        # In a stream of segments ffmpeg finds a time only to the segment, and begins there; a server without
        # ranges sends everything.
        early = max(0.0, start - 1) if media["file"] and media["ranges"] else 0.0
        absolute = media["head"] == _MATROSKA
        cuts = _span(start, span, early, absolute)
        error = None if copied else self._run(client, options, url, early, cuts, cut)
        if copied or (error is not None and error.reason == "decode" and media["file"]):
            # To ffmpeg a reset connection is the end of the file. Of a copy it is known whose fault it is.
            whole = cut.with_name("whole")
            self._fetch(client, media, whole)
            options = ["-format_whitelist", _FORMATS]
            error = self._run(client, options, str(whole), 0.0, _span(start, span, 0.0, absolute), cut)
        if error is not None:
            raise error

    def _fetch(self, client: _Client, media: dict[str, Any], path: Path) -> None:
        """Copy the whole file at the address. Raises SourceError."""
        try:
            with _ask(client, media) as answer, path.open("wb") as file:
                said, got = int(answer.headers.get("Content-Length") or 0), 0
                while max(said, got) <= _LARGEST and (block := answer.read(_BLOCK)):
                    file.write(block)
                    got += len(block)
            if max(said, got) > _LARGEST:
                raise SourceError(
                    "network", f"to be copied whole, and too long for it: more than {_LARGEST} bytes"
                )
        except SourceError:
            raise
        except Exception as error:  # as above
            raise read_error(error, self._gone) from error

    def _require_sound(self, client: _Client, media: dict[str, Any], whole: Path) -> None:
        """Raise SourceError for a damaged FLAC file: ffmpeg 5 leaves such blocks out without a word."""
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
        """Have ffmpeg seek in `source` and cut the `span` (options); what went wrong, or None."""
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
        # In the environment, for anyone may read the arguments of a process, and a proxy may have a password.
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
            return SourceError("network", f"not done within {self._total:g} s")
        said = done.stderr.decode("utf-8", "replace").strip()
        _log.debug("ffmpeg: %s", said)
        return read_ffmpeg(said, self._gone) if done.returncode or _SPOILT.search(said) else None


class _Client(yt_dlp.YoutubeDL):
    """yt-dlp with a time limit and pauses: every request of its extractors goes through `urlopen`."""

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
        """Let `body.read` end at the deadline: the socket's time limit begins anew with every byte."""
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
            raise TransportError("the total time limit is over")


class _Logger:
    """yt-dlp's words, all at debug level: what matters of them is in the SourceError."""

    def debug(self, message: str) -> None:
        _log.debug("%s", message)

    info = warning = error = debug


def _ask(client: _Client, media: dict[str, Any], **more: str) -> Response:
    headers = {**media.get("http_headers", {}), "Accept-Encoding": "identity", **more}
    return client.urlopen(Request(media["url"], headers=headers))


def _span(start: float, span: float | None, early: float, absolute: bool) -> list[str]:
    """ffmpeg's options for the wanted seconds of what it reads from `early` on.

    To ffmpeg zero is the first time of a file. In Matroska and WebM that is not the first sample: the frames
    that only prepare the decoder come before it, and ffmpeg 5 counts from them, 6.5 ms early for Opus, while
    ffmpeg 9 counts from where they end. So there the cut is made by the times in the file.
    """
    if not absolute:
        length = [] if span is None else ["-t", f"{span:.6f}"]
        return ["-ss", f"{start - early:.6f}", *length]
    trims = [f"start={start or -0.001:.6f}"]  # times are of whole milliseconds: the first may lie below zero
    trims += [] if span is None else [f"end={start + span:.6f}", f"duration={span:.6f}"]
    return ["-copyts", "-af", ",".join(f"atrim={trim}" for trim in trims)]


def _length(cut: Path) -> float:
    """Seconds by the samples; the header tells none where the video ends before the clip starts."""
    seconds = 0.0
    try:
        with soundfile.SoundFile(cut) as file:
            while len(block := file.read(_BLOCK, "int16")):
                seconds += len(block) / file.samplerate
    except soundfile.LibsndfileError:
        pass  # not even a header
    return seconds


def _read_cookies(path: Path) -> str:
    """The file's text. yt-dlp would print a line that it cannot read, with the secret in it."""
    try:
        text = read_bounded(path, _LARGEST_COOKIES).decode()
        for number, line in enumerate(text.splitlines(), 1):
            entry = line.removeprefix("#HttpOnly_")
            if entry.strip() and not entry.startswith("#") and not _COOKIE.fullmatch(entry):
                raise UserError(
                    f"youtube.cookies: {path}, line {number}: no cookie in Netscape's format (7 fields with "
                    "tabs between); export it anew"
                )
        YoutubeDLCookieJar(io.StringIO(text)).load()
    # cookiejar's LoadError, of a missing first line, is an OSError
    except (OSError, UnicodeDecodeError, UnfitFileError) as error:
        raise UserError(
            f"youtube.cookies: {path} is no cookies file in Netscape's format ({type(error).__name__}); mend "
            "the path, or export it anew"
        ) from None
    return text
