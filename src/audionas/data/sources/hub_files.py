"""Read files of a dataset repository on the Hugging Face hub by byte ranges.

huggingface_hub finds the repository, its files, their addresses and the token. Its retries (`http_backoff`)
are not used, because the caller decides when to pause. Every failure is a SourceError or a UserError.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, parse_ratelimit_headers

from audionas.data.sources.base import SourceError, read_retry_after
from audionas.runtime.errors import UserError
from audionas.runtime.redaction import redact

log = logging.getLogger(__name__)

_PUBLIC = "https://huggingface.co"
_RESUMED = 2  # times that an interrupted download resumes, if it received any bytes
_SLOWEST = 4096  # bytes/s; a slower connection counts as stalled
_EXPIRED = (401, 403, 404, 410)  # status codes of storage for an expired signed address


class Repository:
    """A dataset repository on the hub.

    Args:
        name: `owner/name`.
        revision: branch, tag or commit.
        endpoint: address of the hub; by default huggingface_hub's (HF_ENDPOINT, else https://huggingface.co).
        token: by default huggingface_hub finds it (HF_TOKEN, `hf auth login`). It is then sent only to the
            public hub and to the address in HF_ENDPOINT, over https or to this machine, because a params.yaml
            from somebody else may name any endpoint.
        timeout: seconds without a byte after which a request fails.
    """

    def __init__(self, name: str, revision: str, endpoint: str | None, token: str | None, timeout: float):
        self.name, self.revision, self.timeout = name, revision, timeout
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        host = _origin(self.endpoint)
        if host is None:
            raise UserError(
                f"corpus.hub.endpoint: {redact(self.endpoint)!r} is not an address, or contains a user or a "
                "password; write an address such as https://huggingface.co"
            )
        encrypted = host[0] == "https" or _is_loopback(host[1])
        named = host in {_origin(_PUBLIC), _origin(os.environ.get("HF_ENDPOINT", _PUBLIC))}
        self.withheld = ""  # why the environment's token is not sent, and the fix
        if token is None and not (encrypted and named):
            self.withheld = (
                f"a token (HF_TOKEN, `hf auth login`) is not sent to {self.endpoint}: "
                + ("only params.yaml names it; " if encrypted else "it is not encrypted; use https, and ")
                + "set HF_ENDPOINT in the environment to this address to allow it"
            )
            if os.environ.get("HF_TOKEN") or Path(constants.HF_TOKEN_PATH).exists():
                log.warning("hub: %s", self.withheld)
        self.token: str | bool | None = False if self.withheld else token

    def files(self, endings: tuple[str, ...], patterns: Sequence[str]) -> tuple[str, list[RemoteFile]]:
        """Return the commit of the revision, and its files that match an ending and a pattern, by name.

        Raises UserError (no such repository or revision, no access, no such file) and SourceError.
        """
        where = f"corpus.hub.repository: {self.name}"
        api = HfApi(endpoint=self.endpoint, token=self.token, library_name="audionas")
        with self.asking("its list of files"):
            try:
                # One request with a timeout; list_repo_tree has none and retries many times.
                info = api.dataset_info(
                    self.name, revision=self.revision, timeout=self.timeout, files_metadata=True
                )
            except HFValidationError as error:
                raise UserError(f"{where}: {error}; write owner/name") from None
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise SourceError(
                    "network", f"{self.endpoint} does not respond like a hub: {error!r}"
                ) from None
        if not info.sha:
            raise SourceError("network", f"{self.endpoint} does not respond like a hub: it names no commit")
        files = []
        for item in info.siblings or ():
            size, etag = (item.lfs.size, item.lfs.sha256) if item.lfs else (item.size, item.blob_id)
            matched = any(fnmatchcase(item.rfilename, pattern) for pattern in patterns)
            if matched and size and item.rfilename.endswith(endings):
                etag = etag or f"{self.name}@{info.sha}:{item.rfilename}"
                files.append(RemoteFile(self, info.sha, item.rfilename, size, etag))
        if not files:
            raise UserError(
                f"{where}: none of the {len(info.siblings or ())} files at {self.revision} is a "
                f"{' or '.join(endings)} that corpus.hub.files ({', '.join(patterns)}) matches; "
                "name a mirror of AudioSet, or fix the patterns"
            )
        return info.sha, sorted(files, key=lambda file: file.path)

    def headers(self, url: str) -> dict[str, str]:
        """Return the headers of a request to `url`; the token is sent to the hub only."""
        same = _origin(url) == _origin(self.endpoint)
        headers = build_hf_headers(token=self.token if same else False, library_name="audionas")
        return {**headers, "Accept-Encoding": "identity"}

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Convert exceptions of a request to SourceError or UserError."""
        try:
            yield
        except OfflineModeIsEnabled:
            raise UserError(
                "corpus.sources: HF_HUB_OFFLINE forbids hub; unset it, or remove hub from the sources"
            ) from None
        except HfHubHTTPError as error:
            raise self.refusal(error.response, what) from None
        except httpx2.HTTPError as error:
            raise SourceError("network", f"{what}: {type(error).__name__}: {error}") from None

    def refusal(self, response: httpx2.Response, what: str) -> Exception:
        """Return the error for an unexpected response."""
        code = response.status_code
        if code == 429:
            return SourceError("rate-limited", f"{what}: HTTP 429", _seconds_to_wait(response.headers))
        if code not in (400, 401, 403, 404, 410, 451):
            return SourceError("network", f"{what}: HTTP {code} instead of the requested bytes")
        if code in (401, 403, 451):
            fix = (
                f"accept its terms at {self.endpoint}/datasets/{self.name} and set HF_TOKEN to a token that "
                "may read it (the hub responds the same for a name that does not exist)"
            )
        else:
            fix = f"check the name and corpus.hub.revision ({self.revision}); set HF_TOKEN if it is private"
        if self.withheld:
            fix += f"; {self.withheld}"
        message = response.headers.get("X-Error-Message")
        answer = f"HTTP {code} ({message})" if message else f"HTTP {code}"
        return UserError(f"corpus.hub.repository: {self.name}: {answer} for {what}; {fix}")


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an http(s) address; None for other text, and if it contains a user."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and "@" not in parts.netloc else None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class RemoteFile:
    """A file of a repository at a commit, read by byte ranges. Safe to call from several threads.

    Attributes:
        path: in the repository.
        size: bytes.
        key: hash of the content's version, 32 hexadecimal digits; safe as a file name.
    """

    def __init__(self, repository: Repository, commit: str, path: str, size: int, etag: str):
        self._repository, self.path, self.size = repository, path, size
        self.key = hashlib.sha256(f"{PurePosixPath(path).suffix}\0{size}\0{etag}".encode()).hexdigest()[:32]
        self._url = hf_hub_url(
            repository.name, path, repo_type="dataset", revision=commit, endpoint=repository.endpoint
        )
        self._address: str | None = None

    def locate(self) -> str:
        """Return the address of the bytes, the hub's or a signed one of its storage; requested once.

        This saves a request to the hub for every range but the first; these requests count for its rate
        limits.
        """
        address = self._address
        if address is None:
            repository = self._repository
            with repository.asking(self.path):
                address = get_hf_file_metadata(
                    self._url,
                    token=repository.token,
                    timeout=repository.timeout,
                    library_name="audionas",
                    endpoint=repository.endpoint,
                ).location
            self._address = address
        return address

    def read(self, start: int, size: int) -> bytearray:
        """Return exactly `size` bytes from `start`. Raises SourceError (network, rate-limited), UserError."""
        data, resumed = bytearray(), 0
        while True:
            before = len(data)
            try:
                self._add(start, size, data)
                return data
            except SourceError as error:
                if error.reason != "network" or len(data) == before or resumed == _RESUMED:
                    raise
                log.debug("hub: %s; resuming", error)
            resumed += 1

    def _add(self, start: int, size: int, data: bytearray) -> None:
        """Append the missing part of the range to `data`."""
        address = self.locate()
        try:
            self._stream(address, start, size, data, may_expire=address != self._url)
        except _ExpiredError:
            self._address = None
            self._stream(self.locate(), start, size, data, may_expire=False)

    def _stream(self, url: str, start: int, size: int, data: bytearray, may_expire: bool) -> None:
        repository, before = self._repository, len(data)
        span = f"{start + before}-{start + size - 1}"
        headers = {**repository.headers(url), "Range": f"bytes={span}"}
        with (
            repository.asking(f"{self.path}, bytes {span}"),
            get_session().stream("GET", url, headers=headers, timeout=repository.timeout) as response,
        ):
            if may_expire and response.status_code in _EXPIRED:
                raise _ExpiredError
            given = response.headers.get("Content-Range")
            if response.status_code != 206 or given != f"bytes {span}/{self.size}":
                raise repository.refusal(response, f"{self.path}, bytes {span} of {self.size}")
            began = time.monotonic()
            for chunk in response.iter_raw():
                data += chunk
                if len(data) - before < _SLOWEST * (time.monotonic() - began - repository.timeout):
                    raise SourceError("network", f"{self.path}: too slow: {len(data)} of {size} bytes")
        if len(data) > size:
            del data[before:]  # the bytes are not the requested range
            raise SourceError("network", f"{self.path}: more than the {size} requested bytes")
        if len(data) < size:
            raise SourceError("network", f"{self.path}: received {len(data)} of {size} bytes")


class _ExpiredError(Exception):
    """A signed address has expired."""


class Ranges(io.RawIOBase):
    """Remote file with the interface of a file, for pyarrow and tarfile; only `read` sends requests.

    Small reads fetch `ahead` bytes, which also serve the following reads.
    """

    def __init__(self, file: RemoteFile, ahead: int = 0):
        super().__init__()
        self._file, self._ahead, self._at, self._start, self._held = file, ahead, 0, 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._file.size)[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes | bytearray:
        left = max(0, self._file.size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        begin = self._at - self._start
        self._at += size
        if not size:
            return b""
        if size >= self._ahead:  # not buffered: it may be a whole row group
            return self._file.read(self._at - size, size)
        if begin < 0 or begin + size > len(self._held):
            self._held = bytes(self._file.read(self._at - size, min(self._ahead, left)))
            self._start, begin = self._at - size, 0
        return self._held[begin : begin + size]


def _seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Return the wait in seconds after a 429, from `RateLimit` or `Retry-After`, or None."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    return read_retry_after(headers.get("Retry-After"))
