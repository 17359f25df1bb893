"""A web server on loopback with configurable responses and faults."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

_BLOCK = 1 << 14  # bytes per send


def started(handler: type[BaseHTTPRequestHandler], count: int) -> list[ThreadingHTTPServer]:
    """Start servers on loopback, each in a thread and at a free port."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(count)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return servers


def stop(servers: list[ThreadingHTTPServer]) -> None:
    """Stop servers that `started` returned."""
    for server in servers:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Reply:
    """A response, with optional faults.

    Attributes:
        cut: number of bytes of the body after which the connection closes, despite a larger Content-Length.
        reset: close the connection with a reset.
        stall: number of bytes of the body after which nothing is sent, while the connection stays open.
        hang: never respond.
        mute: close the connection without a response.
        drip: seconds between two bytes of the body.
        ranges: support the header Range.
    """

    body: bytes = b""
    content_type: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    reset: bool = False
    stall: int | None = None
    hang: bool = False
    mute: bool = False
    drip: float = 0.0
    ranges: bool = True


@dataclass(frozen=True)
class Seen:
    """A received request: its unquoted path and its headers."""

    path: str
    headers: Mapping[str, str]


class Loopback:
    """`with Loopback() as server: server.serve("/a", Reply(...)); server.url("/a")`; other paths are 404."""

    def __init__(self):
        self.seen: list[Seen] = []
        self.sent = 0  # number of sent body bytes
        self._replies: dict[str, list[Reply]] = {}
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.block_on_close = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        """Return the URL of a path; `{` and `}` are not quoted."""
        return f"http://127.0.0.1:{self._server.server_port}{quote(path, safe='/{}')}"

    def serve(self, path: str, *replies: Reply) -> None:
        """Set the responses of a path, in order; the last one repeats."""
        self._replies[path] = list(replies)

    def paths(self) -> list[str]:
        """Return the requested paths, in order."""
        return [request.path for request in self.seen]

    def _next(self, path: str) -> Reply:
        with self._lock:
            replies = self._replies.get(path, [Reply(b"not here", "text/plain", 404)])
            return replies.pop(0) if len(replies) > 1 else replies[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = unquote(self.path)
                loopback.seen.append(Seen(path, dict(self.headers.items())))
                self.close_connection = True
                try:
                    loopback._answer(self, loopback._next(path))
                except OSError:
                    return  # the client disconnected

            def log_message(self, *_):
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.hang:
            self._closing.wait()
        if reply.hang or reply.mute:
            return
        body, status, headers = reply.body, reply.status, dict(reply.headers)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        if wanted and reply.ranges and status == 200:
            first, last = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
            status = 206 if first <= last else 416
            headers["Content-Range"] = (
                f"bytes {first}-{last}/{len(body)}" if status == 206 else f"bytes */{len(body)}"
            )
            body = body[first : last + 1]
        handler.send_response(status)
        for name, value in {
            **headers,
            "Content-Type": reply.content_type,
            "Content-Length": len(body),
        }.items():
            handler.send_header(name, str(value))
        handler.send_header("Connection", "close")
        handler.end_headers()
        if reply.drip:
            self._drip(handler, body, reply.drip)
        elif reply.stall is not None:
            handler.wfile.write(body[: reply.stall])
            self._closing.wait()
        else:
            self._send(handler, body[: reply.cut])
        if reply.reset:
            # Closing now discards unsent data and sends a reset.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        # A small buffer, so that unread megabytes in the kernel do not count as sent.
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BLOCK)
        for start in range(0, len(body), _BLOCK):
            handler.wfile.write(body[start : start + _BLOCK])
            with self._lock:
                self.sent += len(body[start : start + _BLOCK])

    def _drip(self, handler: BaseHTTPRequestHandler, body: bytes, seconds: float) -> None:
        for byte in body:
            if self._closing.wait(seconds):
                return
            handler.wfile.write(bytes([byte]))
            with self._lock:
                self.sent += 1
