"""The official lists: fetched whole, resumed when cut, pinned by checksums."""

import http.server
import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from audioset_lists import HEAD, audioset, row, section

from audionas.data.corpora import audioset_lists as official
from audionas.data.corpora.audioset_lists import (
    CHECKSUMS,
    CLASS_LIST,
    FILES,
    ONTOLOGY,
    TEST,
    TRAIN,
    UNBALANCED,
    checksums,
    fetch_lists,
)
from audionas.runtime.errors import UserError


class Files(http.server.ThreadingHTTPServer):
    """Serves `content` by name; `faults` of a name, one for each request, change what it does."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        lists = write_texts()
        self.content: dict[str, bytes] = lists
        self.faults: dict[str, list] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.version = 1
        self.address = f"http://127.0.0.1:{self.server_port}/v1"


def write_texts():
    # Longer than one block, so that a connection can be cut within it.
    rows = "".join(row(i) for i in range(4000)).encode()
    texts = {name: HEAD.encode() + rows for name in (TRAIN, TEST, UNBALANCED)}
    return texts | {
        CLASS_LIST: b"index,mid,display_name\n0,/m/1,A\n1,/m/2,B\n",
        ONTOLOGY: b'[{"id": "/m/1"}]',
    }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        server = self.server
        server.asked.append((name, self.headers["Range"]))
        faults = server.faults.get(name) or [None]
        fault = faults.pop(0)
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if fault == "hang":
            server.patience.wait(10)
            self.close_connection = True
            return None
        content, status, tag = server.content[name], 200, f'"{name}-{server.version}"'
        kind = "text/csv"
        if isinstance(fault, bytes):
            content = fault
        if fault == "typed page":
            content, kind = b"please log in", "text/html; charset=utf-8"
        at = 0
        if self.headers["Range"] and fault != "no ranges" and self.headers["If-Range"] == tag:
            at, status = int(self.headers["Range"][6:-1]), 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {at}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) - at))
        self.send_header("ETag", tag)
        self.end_headers()
        if fault == "cut":
            self.wfile.write(content[at : at + 60_000])
            self.close_connection = True
            return None
        self.wfile.write(content[at:])
        return None


@contextmanager
def serving():
    with Files() as server:
        server.patience = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.patience.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def server():
    with serving() as files:
        yield files


def fetch(server, folder, **keys):
    ontology = f"{server.address}/raw/{ONTOLOGY}"
    return fetch_lists(server.address, folder, ontology, pause_seconds=0.01, **keys)


def require_whole(server, folder):
    assert {path.name for path in folder.iterdir()} == {*FILES, CHECKSUMS}
    for name in FILES:
        assert (folder / name).read_bytes() == server.content[name]


def test_lists_are_fetched_once_and_pinned(server, tmp_path, capsys):
    folder = tmp_path / "lists"
    found = fetch(server, folder)
    require_whole(server, folder)
    assert found == checksums(folder) and set(found) == set(FILES)
    assert "balanced_train_segments.csv" in capsys.readouterr().err  # the progress bar
    assert Counter(name for name, _ in server.asked) == Counter(FILES)
    assert fetch(server, folder) == found and len(server.asked) == 5
    (folder / TEST).unlink()
    assert fetch(server, folder) == found and len(server.asked) == 6
    (folder / TEST).unlink()
    server.content[TEST] += row(9999).encode()
    with pytest.raises(
        UserError, match=rf"{TEST}: differs from the .*recorded in .*checksums\.csv; delete its row"
    ):
        fetch(server, folder)
    assert not (folder / TEST).exists()


def test_a_list_that_was_changed_is_refused(server, tmp_path):
    fetch(server, tmp_path)
    content = (tmp_path / TRAIN).read_bytes()
    (tmp_path / TRAIN).write_bytes(content.replace(b"/m/1", b"/m/2", 1))
    for act in (
        lambda: checksums(tmp_path),
        lambda: fetch(server, tmp_path),
        lambda: audioset(tmp_path).splits(),
    ):
        with pytest.raises(UserError, match=rf"{TRAIN}: .*checksums\.csv.*delete the file"):
            act()
    (tmp_path / TRAIN).write_bytes(content)
    assert set(checksums(tmp_path)) == set(FILES)
    for bad, words in (
        ("../x,1,ab", "line 2, column file: .*leaves"),
        ("x.csv,one,ab", "line 2, column bytes"),
    ):
        (tmp_path / CHECKSUMS).write_text(f"file,bytes,sha256\n{bad}\n")
        with pytest.raises(UserError, match=words):
            checksums(tmp_path)


def test_a_local_folder_needs_no_fetching(server, tmp_path):
    for name, content in server.content.items():
        (tmp_path / name).write_bytes(content)
    found = checksums(tmp_path)
    assert set(found) == set(FILES) and not (tmp_path / CHECKSUMS).exists()
    assert fetch_lists("http://127.0.0.1:9/", tmp_path) == found
    assert (tmp_path / CHECKSUMS).exists() and checksums(tmp_path) == found


def test_a_cut_download_goes_on_where_it_stopped(server, tmp_path):
    server.faults[TRAIN] = ["cut", "cut"]
    fetch(server, tmp_path)
    require_whole(server, tmp_path)
    assert [asked for name, asked in server.asked if name == TRAIN] == [None, "bytes=60000-", "bytes=120000-"]


def test_a_run_that_was_stopped_goes_on_in_the_next(server, tmp_path):
    server.faults[TRAIN] = ["cut"]
    with pytest.raises(UserError, match=rf"{TRAIN}: the connection .*kept.*start again"):
        fetch(server, tmp_path, attempts=1)
    assert not (tmp_path / TRAIN).exists()
    fetch(server, tmp_path)
    require_whole(server, tmp_path)
    assert (TRAIN, "bytes=60000-") in server.asked
    assert Counter(name for name, _ in server.asked)[CLASS_LIST] == 1


@pytest.mark.parametrize("change", ["no ranges", "new version", "longer than the file"])
def test_a_part_that_cannot_go_on_starts_anew(server, tmp_path, change):
    server.faults[TRAIN] = ["cut"]
    with pytest.raises(UserError):
        fetch(server, tmp_path, attempts=1)
    if change == "no ranges":
        server.faults[TRAIN] = ["no ranges"]
    elif change == "new version":
        server.version, server.content[TRAIN] = 2, server.content[TRAIN].replace(b"/m/1", b"/m/2")
    else:
        server.faults[TRAIN] = [416]
    fetch(server, tmp_path)
    require_whole(server, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [500, 503, 429, "hang"])
def test_passing_faults_are_tried_again(server, tmp_path, fault):
    server.faults[TRAIN] = [fault]
    fetch(server, tmp_path, timeout=1.0)
    require_whole(server, tmp_path)
    server.faults[TEST] = [fault] * 3
    (tmp_path / TEST).unlink()
    with pytest.raises(UserError, match=rf"{TEST}: .*, 3 times"):
        fetch(server, tmp_path, timeout=1.0, attempts=3)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (404, "answers 404"),
        (403, "answers 403"),
        (410, "answers 410"),
        ("typed page", "a web page instead"),
        (b"<!DOCTYPE html><p>sign in", "a web page instead"),
        (b"\xef\xbb\xbf\n <html>", "a web page instead"),
        (b"", "is not balanced"),
        (b"junk", "is not balanced.*'junk'.*fix the address"),
    ],
)
def test_what_is_no_list_is_refused_at_once(server, tmp_path, fault, words):
    server.faults[TRAIN] = [fault]
    with pytest.raises(UserError, match=f"{server.address}/{TRAIN}: .*{words}"):
        fetch(server, tmp_path)
    assert [name for name, _ in server.asked].count(TRAIN) == 1
    assert not (tmp_path / TRAIN).exists() and not (tmp_path / f".{TRAIN}.part").exists()
    fetch(server, tmp_path)
    require_whole(server, tmp_path)


def test_a_broken_ontology_is_refused(server, tmp_path):
    server.faults[ONTOLOGY] = [b'{"id": 1}', b'[{"id": ']
    for _ in range(2):
        with pytest.raises(UserError, match="is not ontology"):
            fetch(server, tmp_path)


def test_no_network_and_bad_addresses_are_said(tmp_path):
    with pytest.raises(UserError, match=r"no connection \(.*refused.*2 times.*check the network"):
        fetch_lists("http://127.0.0.1:9/lists", tmp_path, attempts=2, pause_seconds=0.01)
    for address in ("file:///etc", "lists", "ftp://x"):
        with pytest.raises(UserError, match="begins with http"):
            fetch_lists(address, tmp_path)
    with pytest.raises(UserError, match="not an address of a list"):
        fetch_lists("http://[x/lists", tmp_path)


def test_a_disk_that_takes_nothing_is_said(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/lists: Not a directory"):
        fetch(server, tmp_path / "file" / "lists")
    (tmp_path / f".{TRAIN}.part").mkdir()
    with pytest.raises(UserError, match=rf"{TRAIN}\.part: Is a directory; fix the path"):
        fetch(server, tmp_path)


def test_default_addresses_are_the_authors(tmp_path):
    assert section(tmp_path).address == official.LISTS_ADDRESS
    assert official.LISTS_ADDRESS.startswith("https://storage.googleapis.com/us_audioset/")
    assert section(tmp_path).ontology == official.ONTOLOGY_ADDRESS
    assert "/audioset/ontology/" in official.ONTOLOGY_ADDRESS
