"""The official lists: fetched from their public address, resumed when cut, pinned by checksums."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from audionas.data.corpora.base import inside
from audionas.data.ledger import read_rows, write_rows
from audionas.runtime.errors import UserError, os_error

TRAIN, UNBALANCED, TEST = (f"{name}_segments.csv" for name in ("balanced_train", "unbalanced_train", "eval"))
CLASS_LIST = "class_labels_indices.csv"
ONTOLOGY = "ontology.json"
FILES = (CLASS_LIST, ONTOLOGY, TEST, TRAIN, UNBALANCED)

#: Where AudioSet's authors publish them.
LISTS_ADDRESS = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"
ONTOLOGY_ADDRESS = "https://raw.githubusercontent.com/audioset/ontology/master/ontology.json"

CHECKSUMS = "checksums.csv"
_COLUMNS = ("file", "bytes", "sha256")
_BLOCK = 1 << 16


class _Cut(Exception):
    """The connection failed, or the server asked for patience; what was got stays."""


def fetch_lists(
    address: str,
    folder: str | Path,
    ontology: str = ONTOLOGY_ADDRESS,
    *,
    attempts: int = 5,
    pause_seconds: float = 1.0,
    timeout: float = 60.0,
) -> dict[str, tuple[int, str]]:
    """Make sure that the five official files lie in `folder`, and write `checksums.csv` beside them.

    Files that are there are not fetched again. A file gets its name once it is whole; a cut one is kept as
    `.{name}.part` and goes on where it stopped, where the server can and its file is still the same.

    Args:
        address: of the folder with the four CSV files; `LISTS_ADDRESS` is the public one.
        ontology: of the file `ontology.json`.
        attempts: of each file while connections fail.
        pause_seconds: after a failure; doubles with each.
        timeout: seconds that a server may be silent.

    Returns:
        Size in bytes and SHA-256 of each file, as `checksums`.

    Raises:
        UserError: 404 and the like, a web page in place of a list, no network, a full disk, a file that is
            not the one `checksums.csv` records; naming address or file and the mend.
    """
    folder = Path(folder)
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    known = checksums(folder)
    recorded = _recorded(folder)
    for name in FILES:
        if name not in known:
            url = ontology if name == ONTOLOGY else f"{address.rstrip('/')}/{name}"
            part = folder / f".{name}.part"
            _get(url, part, attempts, pause_seconds, timeout)
            _require_list(name, part, url)
            known[name] = _measure(part)
            if recorded.get(name, known[name]) != known[name]:
                part.unlink()
                raise UserError(
                    f"{url}: not the {name} that {folder / CHECKSUMS} records; delete its row there to take "
                    "the new one"
                )
            part.replace(folder / name)
            part.with_suffix(".tag").unlink(missing_ok=True)
        if name not in recorded:
            recorded[name] = known[name]
            rows = [dict(zip(_COLUMNS, (file, *recorded[file]), strict=True)) for file in sorted(recorded)]
            with _disk(folder):
                write_rows(folder / CHECKSUMS, _COLUMNS, rows)
    return {name: known[name] for name in FILES}


def checksums(folder: str | Path) -> dict[str, tuple[int, str]]:
    """Size in bytes and SHA-256 of the official files that are in `folder`, by name; nothing is written.

    Raises UserError where one, or another file that `checksums.csv` lists, is not as it says there.
    """
    folder = Path(folder)
    recorded = _recorded(folder)
    found = {name: _measure(folder / name) for name in {*FILES, *recorded} if (folder / name).is_file()}
    for name in sorted(found):
        if recorded.get(name, found[name]) != found[name]:
            raise UserError(
                f"{folder / name}: {found[name][0]} bytes that {folder / CHECKSUMS} does not record "
                f"({recorded[name][0]} bytes, another SHA-256); delete the file and fetch it again, or "
                "delete its row there to keep it"
            )
    return {name: found[name] for name in FILES if name in found}


def _recorded(folder: Path) -> dict[str, tuple[int, str]]:
    path = folder / CHECKSUMS
    if not path.is_file():
        return {}
    recorded = {}
    for line, row in enumerate(read_rows(path, _COLUMNS), start=2):
        inside(folder, row["file"], f"{path}, line {line}, column file")
        if not row["bytes"].isdecimal():
            raise UserError(f"{path}, line {line}, column bytes: {row['bytes']!r} is no size; remove the row")
        recorded[row["file"]] = int(row["bytes"]), row["sha256"].lower()
    return recorded


def _measure(path: Path) -> tuple[int, str]:
    try:
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise os_error(error, path) from None


def _get(url: str, part: Path, attempts: int, pause_seconds: float, timeout: float) -> None:
    if not url.lower().startswith(("http://", "https://")):
        raise UserError(f"{url!r}: no address of a list; write one that begins with http:// or https://")
    for attempt in range(attempts):
        try:
            return _continue(url, part, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what was kept is longer than the file
                part.unlink(missing_ok=True)
            elif error.code != 429 and error.code < 500:
                raise UserError(
                    f"{url}: the server answers {error.code} ({error.reason}); mend the address, or fetch "
                    f"the file by hand into {part.parent}"
                ) from None
            reason = f"the server answers {error.code}"
        except _Cut as error:
            reason = str(error)
        except ValueError as error:
            raise UserError(f"{url!r}: no address of a list ({error}); mend it") from None
        if attempt < attempts - 1:
            time.sleep(pause_seconds * 2**attempt)
    raise UserError(
        f"{url}: {reason}, {attempts} times. What was got is kept: check the network and start again, or "
        f"fetch the file by hand into {part.parent}"
    )


def _continue(url: str, part: Path, timeout: float) -> None:
    """Bring what is kept of a file to its end. Raises _Cut and HTTPError."""
    tag = part.with_suffix(".tag")  # which version of the file the part is of; without one it starts anew
    kept = part.stat().st_size if part.is_file() and tag.is_file() else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "audionas"}
    if kept:
        headers |= {"Range": f"bytes={kept}-", "If-Range": tag.read_text(encoding="utf-8")}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (http or https, see `_get`)
    with _network(), urllib.request.urlopen(request, timeout=timeout) as response, _disk(part):  # noqa: S310
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise _web_page(url)
        if response.status == 206 and not response.headers["Content-Range"].startswith(f"bytes {kept}-"):
            tag.unlink(missing_ok=True)
            raise _Cut("the server sent another part of the file")
        if response.status != 206:
            kept = 0
            tag.unlink(missing_ok=True)
            version = response.headers.get("ETag", "W/")
            if not version.startswith("W/"):  # a weak one does not promise the same bytes
                tag.write_text(version, encoding="utf-8")
        length = response.headers.get("Content-Length", "")
        whole = kept + int(length) if length.isdecimal() else None
        with (
            part.open("ab" if kept else "wb") as file,
            tqdm(total=whole, initial=kept, unit="B", unit_scale=True, desc=part.stem[1:]) as bar,
        ):
            while block := _read(response):
                file.write(block)
                bar.update(len(block))
    if whole is not None and part.stat().st_size != whole:
        raise _Cut(f"the connection ended after {part.stat().st_size} of {whole} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network():
        return response.read(_BLOCK)


@contextlib.contextmanager
def _network() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise _Cut(f"no connection ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"the connection failed ({error or type(error).__name__})") from None


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise os_error(error, path) from None


def _require_list(name: str, part: Path, url: str) -> None:
    """Raises UserError, and removes the part, where it is not the list that it should be."""
    with part.open("rb") as file:
        head = file.read(4096).decode("utf-8-sig", "replace").lstrip()
    if head.startswith("<"):
        part.unlink()
        raise _web_page(url)
    if name == ONTOLOGY:
        try:
            good = isinstance(json.loads(part.read_bytes()), list)
        except ValueError:
            good = False
    else:
        good = head.startswith("index,mid,display_name" if name == CLASS_LIST else ("#", "YTID"))
    if not good:
        part.unlink()
        raise UserError(f"{url}: gives no {name} (it begins with {head[:40]!r}); mend the address")


def _web_page(url: str) -> UserError:
    return UserError(
        f"{url}: gives a web page in place of the file; mend the address, or see in a browser what "
        "it asks for"
    )
