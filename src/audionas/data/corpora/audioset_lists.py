"""Fetch AudioSet's official lists from their public address, with resumed downloads and checksums."""

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

#: Addresses at which AudioSet's authors publish the lists.
LISTS_ADDRESS = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"
ONTOLOGY_ADDRESS = "https://raw.githubusercontent.com/audioset/ontology/master/ontology.json"

CHECKSUMS = "checksums.csv"
_COLUMNS = ("file", "bytes", "sha256")
_BLOCK = 1 << 16


class _InterruptedError(Exception):
    """The connection failed, or the server is overloaded; the received bytes are kept."""


def fetch_lists(
    address: str,
    folder: str | Path,
    ontology: str = ONTOLOGY_ADDRESS,
    *,
    attempts: int = 5,
    pause_seconds: float = 1.0,
    timeout: float = 60.0,
) -> dict[str, tuple[int, str]]:
    """Fetch the official files that are missing in `folder`, and write `checksums.csv` beside them.

    Existing files are not fetched again. An incomplete file is kept as `.{name}.part` and renamed once it is
    complete. An interrupted download resumes if the server supports it and its file is unchanged.

    Args:
        address: URL of the folder with the four CSV files; `LISTS_ADDRESS` is the public one.
        ontology: URL of the file `ontology.json`.
        attempts: number of tries for each file when connections fail.
        pause_seconds: wait after a failure; doubles with each failure.
        timeout: seconds without a byte after which a request fails.

    Returns:
        Size in bytes and SHA-256 of each file, as `checksums`.

    Raises:
        UserError: an HTTP error such as 404, a web page instead of a list, no network, a full disk, or a file
            that differs from `checksums.csv`; names the address or file and the fix.
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
                    f"{url}: differs from the {name} recorded in {folder / CHECKSUMS}; delete its row there "
                    "to accept the new file"
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
    """Return size in bytes and SHA-256 of the official files in `folder`, by name; write nothing.

    Raises UserError if one of them, or another file listed in `checksums.csv`, differs from its record.
    """
    folder = Path(folder)
    recorded = _recorded(folder)
    found = {name: _measure(folder / name) for name in {*FILES, *recorded} if (folder / name).is_file()}
    for name in sorted(found):
        if recorded.get(name, found[name]) != found[name]:
            raise UserError(
                f"{folder / name}: differs from {folder / CHECKSUMS}: {found[name][0]} bytes here, "
                f"{recorded[name][0]} recorded, another SHA-256; delete the file and fetch it again, or "
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
            raise UserError(
                f"{path}, line {line}, column bytes: {row['bytes']!r} is not a size; remove the row"
            )
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
        raise UserError(f"{url!r}: not an address of a list; write one that begins with http:// or https://")
    for attempt in range(attempts):
        try:
            return _continue(url, part, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the partial file is longer than the whole
                part.unlink(missing_ok=True)
            elif error.code != 429 and error.code < 500:
                raise UserError(
                    f"{url}: the server answers {error.code} ({error.reason}); fix the address, or fetch "
                    f"the file by hand into {part.parent}"
                ) from None
            reason = f"the server answers {error.code}"
        except _InterruptedError as error:
            reason = str(error)
        except ValueError as error:
            raise UserError(f"{url!r}: not an address of a list ({error}); fix it") from None
        if attempt < attempts - 1:
            time.sleep(pause_seconds * 2**attempt)
    raise UserError(
        f"{url}: {reason}, {attempts} times. Received bytes are kept: check the network and start again, or "
        f"fetch the file by hand into {part.parent}"
    )


def _continue(url: str, part: Path, timeout: float) -> None:
    """Download the rest of a partial file. Raises _InterruptedError and HTTPError."""
    tag = part.with_suffix(".tag")  # ETag of the partial file; without it the download restarts
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
            raise _InterruptedError("the server sent another part of the file")
        if response.status != 206:
            kept = 0
            tag.unlink(missing_ok=True)
            version = response.headers.get("ETag", "W/")
            if not version.startswith("W/"):  # a weak ETag does not guarantee equal bytes
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
        raise _InterruptedError(f"the connection ended after {part.stat().st_size} of {whole} bytes")


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
        raise _InterruptedError(f"no connection ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(f"the connection failed ({error or type(error).__name__})") from None


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise os_error(error, path) from None


def _require_list(name: str, part: Path, url: str) -> None:
    """Raise UserError, and remove the partial file, if it is not the expected list."""
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
        raise UserError(f"{url}: the file is not {name} (it begins with {head[:40]!r}); fix the address")


def _web_page(url: str) -> UserError:
    return UserError(
        f"{url}: returns a web page instead of the file; fix the address, or open it in a browser "
        "to see what it requires"
    )
