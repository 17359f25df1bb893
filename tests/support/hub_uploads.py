"""A Hugging Face hub on loopback that takes model repositories, by the protocol of huggingface_hub.

As on the real hub, large files go to storage on another host (here another port), which must never receive
the token, and a commit names them by their SHA-256. Cards are checked against the public specification
(https://github.com/huggingface/hub-docs/blob/main/modelcard.md).
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from loopback import started, stop

TOKEN = "hf_secret"  # noqa: S105
_LARGE = (".pt", ".onnx")


def card_errors(content: str) -> list[str]:
    """Return what the hub would refuse in a card's head."""
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if not match:
        return ["no head"]
    head = yaml.safe_load(match[1])
    errors = [
        f"{key} is not a list of texts" for key in ("tags", "datasets") if not _texts(head.get(key, []))
    ]
    errors += [f"{key} is not a text" for key in ("library_name", "pipeline_tag") if not _text(head.get(key))]
    for entry in head.get("model-index", []):
        errors += [] if _text(entry.get("name")) else ["model-index: no name"]
        for result in entry["results"]:
            data = result["dataset"]
            errors += [] if _text(result["task"].get("type")) else ["no task.type"]
            if not re.fullmatch(r"(?:[\w-]+/)?[\w.-]+", str(data.get("type")), re.ASCII):
                errors.append(f"dataset.type {data.get('type')!r} fails to match the pattern")
            errors += [f"dataset.{key} is not a text" for key, value in data.items() if not _text(value)]
            errors += [] if "name" in data else ["no dataset.name"]
            for metric in result["metrics"]:
                errors += [] if _text(metric.get("type")) else ["no metric.type"]
                number = metric.get("value")
                if isinstance(number, bool) or not isinstance(number, int | float) or number != number:
                    errors.append("metric.value is not a number")
    return errors


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


class UploadServer:
    """A context manager that serves model repositories to the owner of TOKEN.

    Attributes:
        repositories: files by path, by name of the repository.
        private: names of private repositories.
        fault: called with the part of every request; a status that it returns replaces the response.
        parts: parts of all requests, in order; keys of `_ROUTES`.
        stored: content of the storage by SHA-256.
    """

    def __init__(self):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.fault: Callable[[str], int | None] = lambda part: None
        self.parts: list[str] = []
        self.stored: dict[str, bytes] = {}
        self.leaked = False  # storage has seen the token

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = started(handler, 2)
        self.endpoint, self.storage = (f"http://127.0.0.1:{s.server_address[1]}" for s in self._servers)
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._servers)


_ROUTES = {
    "create": r"POST /api/repos/create",
    "info": r"GET /api/models/(\w+/[\w.-]+)(?:/revision/main)?",
    "validate": r"POST /api/validate-yaml",
    "preupload": r"POST /api/models/(\w+/[\w.-]+)/preupload/main",
    "batch": r"POST /(\w+/[\w.-]+)\.git/info/lfs/objects/batch",
    "storage": r"PUT /storage/([0-9a-f]{64})",
    "verify": r"POST /verify",
    "commit": r"POST /api/models/(\w+/[\w.-]+)/commit/main",
    "xet": r"GET /api/models/(\w+/[\w.-]+)/xet-write-token/main",
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # because headers and body are sent separately
    hub: UploadServer

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_PUT(self):
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Suppress the request log."""

    def _answer(self) -> None:
        body = self._body()
        request = f"{self.command} {unquote(urlsplit(self.path).path)}"
        routes = ((name, re.fullmatch(route, request)) for name, route in _ROUTES.items())
        part, match = next(((name, match) for name, match in routes if match), ("", None))
        if match is None:
            return self._send(404, {}, "RepoNotFound")
        self.hub.parts.append(part)
        status = self.hub.fault(part)
        if part == "storage":
            self.hub.leaked |= "Authorization" in self.headers
        elif part != "validate" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status = 401
        if status:  # a hub might repeat the request
            said = {"error": f"refused {self.headers.get('Authorization')}"}
            return self._send(status, said)
        given = match.groups()[0] if match.groups() else None
        return getattr(self, f"_{part}")(given, body)

    def _create(self, _: None, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        status = 409 if name in self.hub.repositories else 200
        self.hub.repositories.setdefault(name, {".gitattributes": b""})
        if status == 200 and asked.get("visibility") == "private":
            self.hub.private.add(name)
        self._send(status, {"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name})

    def _info(self, name: str, _: bytes) -> None:
        if name not in self.hub.repositories:
            return self._send(404, {}, "RepoNotFound")
        return self._send(
            200, {"id": name, "private": name in self.hub.private, "sha": "0" * 40, "siblings": []}
        )

    def _validate(self, _: None, body: bytes) -> None:
        errors = [{"message": text} for text in card_errors(json.loads(body)["content"])]
        self._send(400 if errors else 200, {"errors": errors, "warnings": []})

    def _preupload(self, name: str, body: bytes) -> None:
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(_LARGE) else "regular",
                "shouldIgnore": False,
                "oid": self._oid(name, one["path"]),
            }
            for one in json.loads(body)["files"]
        ]
        self._send(200, {"files": files})

    def _oid(self, name: str, path: str) -> str | None:
        content = self.hub.repositories[name].get(path)
        if content is None:
            return None
        if path.endswith(_LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def _batch(self, _: str, body: bytes) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.storage}/storage/{one['oid']}?signature=abc"},
                "verify": {"href": f"{self.hub.endpoint}/verify"},
            }
            objects.append(one if one["oid"] in self.hub.stored else {**one, "actions": actions})
        self._send(200, {"transfer": "basic", "objects": objects})

    def _storage(self, oid: str, body: bytes) -> None:
        whole = hashlib.sha256(body).hexdigest() == oid
        if whole:
            self.hub.stored[oid] = body
        self._send(200 if whole else 400, {})

    def _verify(self, _: None, body: bytes) -> None:
        asked = json.loads(body)
        self._send(200 if len(self.hub.stored[asked["oid"]]) == asked["size"] else 422, {})

    def _commit(self, name: str, body: bytes) -> None:
        files = {}
        for row in map(json.loads, body.splitlines()):
            value = row["value"]
            if row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        self.hub.repositories[name] |= files
        self._send(200, {"commitUrl": f"{self.hub.endpoint}/{name}/commit/{'1' * 40}", "commitOid": "1" * 40})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, status: int, content: dict[str, Any], code: str = "") -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Error-Code", code)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
