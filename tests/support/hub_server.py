"""A Hugging Face hub on loopback with fault injection. It supports the protocol of huggingface_hub.

As on the real hub, the URL of a file (`/datasets/…/resolve/…`) redirects to a signed URL on another host
(here another port). That host serves ranges and must never receive the token.
"""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from loopback import started, stop


@dataclass(frozen=True)
class Asked:
    """A request to the server; `part` is `api`, `resolve` or `storage`."""

    method: str
    part: str
    file: str
    start: int | None
    end: int | None  # exclusive
    authorized: bool


@dataclass(frozen=True)
class Fault:
    """A fault that replaces the normal response.

    Attributes:
        status: HTTP status; sent with `headers` and `body`.
        cut: number of bytes of the body after which the connection is closed.
        drip: seconds between single bytes of the body.
        shift: offset in bytes of the returned range, which the headers report.
        hang: send no response until the server is closed.
    """

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: int | None = None
    drip: float | None = None
    shift: int = 0
    hang: bool = False


class HubServer:
    """A context manager that serves one dataset repository.

    Args:
        files: content by path; `commit` changes it.
        name: name of the repository.
        token: if given, the repository is gated: files require the token, the list does not.

    Attributes:
        fault: called with every request, in order; returns a Fault or None.
        asked: all requests.
        sent: number of sent bytes, by path.
    """

    def __init__(self, files: dict[str, bytes], name: str = "lab/AudioSet", token: str | None = None):
        self.name, self.token = name, token
        self.fault: Callable[[Asked], Fault | None] = lambda asked: None
        self.asked: list[Asked] = []
        self.sent: dict[str, int] = {}
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.signature = 0
        self.connections: set[socket.socket] = set()
        self.commit(files)

    def commit(self, files: dict[str, bytes]) -> None:
        """Replace all files."""
        self.files = dict(files)
        # Hashed only once, because for gigabytes it takes longer than the client's timeout.
        self.digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        listing = sorted(self.digests.items())
        self.sha = hashlib.sha1(repr(listing).encode(), usedforsecurity=False).hexdigest()

    def expire(self) -> None:
        """Expire all signed URLs that were issued so far."""
        self.signature += 1

    def forget(self) -> None:
        """Reset the recorded requests and bytes."""
        self.asked, self.sent = [], {}

    def ranges(self, file: str) -> list[tuple[int, int]]:
        """Return the requested ranges of a file, in order."""
        return [(a.start, a.end) for a in self.asked if a.part == "storage" and a.file == file]

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = started(handler, 2)
        self.endpoint, self.storage = (f"http://127.0.0.1:{s.server_address[1]}" for s in self._servers)
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        stop(self._servers)
        with self.lock:
            for connection in self.connections:  # includes keep-alive connections
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # because headers and body are sent separately
    hub: HubServer

    def setup(self):
        super().setup()
        with self.hub.lock:
            self.hub.connections.add(self.connection)

    def finish(self):
        with self.hub.lock:
            self.hub.connections.discard(self.connection)
        with suppress(OSError):  # the server was closed
            super().finish()

    def handle(self):
        with suppress(ConnectionError):  # the client was killed
            super().handle()

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Suppress the request log."""

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        resolved = re.fullmatch(rf"/datasets/{hub.name}/resolve/([^/]+)/(.+)", path)
        stored = re.fullmatch(r"/storage/(\d+)/(.+)", path)
        part, file = (
            ("resolve", resolved[2]) if resolved else ("storage", stored[2]) if stored else ("api", "")
        )
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(span[1]), int(span[2]) + 1) if span else (None, None)
        authorized = "Authorization" in self.headers
        asked = Asked(self.command, part, file, start, end, authorized)
        with hub.lock:
            hub.asked.append(asked)
            fault = hub.fault(asked)
        if fault and fault.hang:
            hub.closing.wait(30)
            self.close_connection = True
        elif fault and fault.status:
            self._send(fault.status, fault.body, dict(fault.headers))
        elif resolved:
            self._resolve(resolved[1], file)
        elif stored:
            self._store(int(stored[1]), asked, fault)
        elif re.fullmatch(rf"/api/datasets/{hub.name}/revision/(main|{hub.sha})", path):
            self._list()
        else:
            self._refuse(404, "RevisionNotFound" if f"/{hub.name}/" in path else "RepoNotFound")

    def _list(self) -> None:
        siblings = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": self.hub.digests[path][:40],
                "lfs": {
                    "sha256": self.hub.digests[path],
                    "size": len(content),
                    "pointerSize": 134,
                },
            }
            for path, content in self.hub.files.items()
        ]
        answer = {"id": self.hub.name, "sha": self.hub.sha, "siblings": siblings, "tags": []}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _resolve(self, revision: str, file: str) -> None:
        hub = self.hub
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._refuse(401, "GatedRepo")
        if file not in hub.files or revision != hub.sha:
            return self._refuse(404, "EntryNotFound")
        content = hub.files[file]
        headers = {
            "Location": f"{hub.storage}/storage/{hub.signature}/{file}",
            "X-Repo-Commit": hub.sha,
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{hub.digests[file]}"',
        }
        return self._send(302, b"", headers)

    def _store(self, signature: int, asked: Asked, fault: Fault | None) -> None:
        content = self.hub.files[asked.file]
        if signature != self.hub.signature:
            return self._send(403, b"<Error>expired</Error>")
        if asked.start is None:
            return self._send(200, content)
        shift = fault.shift if fault else 0
        start, body = asked.start + shift, content[asked.start + shift : asked.end + shift]
        span = f"bytes {start}-{start + len(body) - 1}/{len(content)}"
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", span)
        self.end_headers()
        part = body if fault is None or fault.cut is None else body[: fault.cut]
        self.close_connection = len(part) < len(body) or bool(fault and fault.drip)
        try:
            if fault and fault.drip:
                for i in range(len(body)):
                    if self.hub.closing.wait(fault.drip):
                        break
                    self._write(asked.file, body[i : i + 1])
            else:
                self._write(asked.file, part)
        except OSError:  # the client disconnected
            pass
        return None

    def _write(self, file: str, part: bytes) -> None:
        # Counted before sending, because the test reads the count when the client has the bytes.
        with self.hub.lock:
            self.hub.sent[file] = self.hub.sent.get(file, 0) + len(part)
        self.wfile.write(part)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": f"server: {code}"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
