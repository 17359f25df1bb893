"""Files that are not recordings: pipes, sockets, devices, and files of any size."""

import io
import os
import signal
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_data_stages import (
    make_config,
    project,  # noqa: F401 (a fixture)
)

from audionas.data.corpora.base import Clip, FetchError
from audionas.data.corpora.esc50 import Esc50
from audionas.data.corpora.folder import Folder, fetch_file
from audionas.data.corpora.sf2 import SoundFont
from audionas.data.ledger import DOWNLOAD, read_rows
from audionas.data.sources.base import SourceError
from audionas.data.sources.local import Local
from audionas.runtime.errors import UserError
from audionas.runtime.files import LARGEST_RECORDING, UnfitFileError, read_bounded
from audionas.settings.corpora import Esc50Corpus, SplitFolds
from audionas.systems.common import download, segments

SPARSE = 200_000_000_000
REASONS = {
    "pipe": "not a regular file (a pipe)",
    "socket": "not a regular file (a socket)",
    "device": "not a regular file (a device)",
    "folder": "not a regular file (a folder)",
    "sparse": f"too large ({SPARSE:,} bytes, of at most {LARGEST_RECORDING:,})",
}


def put(path, kind):
    """Create a file of this kind."""
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(os.path.relpath(path))  # the path of a socket must be short
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "sparse":
            with path.open("wb") as file:
                file.truncate(SPARSE)


@pytest.mark.parametrize("kind", REASONS)
def test_it_is_not_read_and_its_kind_is_told(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "a.wav", kind)
    with pytest.raises(UnfitFileError) as error:
        read_bounded("a.wav")
    assert str(error.value) == REASONS[kind]
    with pytest.raises(UserError, match="SoundFont"):
        SoundFont("a.wav", 16_000)
    if kind != "device":  # a link out of the folder is rejected earlier
        with pytest.raises(FetchError) as refused:
            fetch_file(tmp_path, Clip("a", "a", "a.wav", ("x",)))
        assert str(refused.value) == REASONS[kind]


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"sound")
    seen = (tmp_path / "a.wav").stat()
    (tmp_path / "a.wav").unlink()
    os.mkfifo(tmp_path / "a.wav")
    monkeypatch.setattr(os, "stat", lambda path: seen)
    with pytest.raises(UnfitFileError, match="a pipe"):
        read_bounded(tmp_path / "a.wav")


def test_a_file_that_grows_while_it_is_read_is_bounded(tmp_path):
    (tmp_path / "a.wav").write_bytes(bytes(100))
    assert len(read_bounded(tmp_path / "a.wav", 100)) == 100
    with pytest.raises(UnfitFileError, match="too large"):
        read_bounded(tmp_path / "a.wav", 99)


def test_a_local_copy_is_bounded_too(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound")
    with Local(tmp_path) as source:
        (tmp_path / "a.wav").unlink()
        put(tmp_path / "a.wav", "pipe")
        with pytest.raises(SourceError, match=r"a\.wav: not a regular file \(a pipe\)"):
            source.get(Clip("a", "a", "a", ()))


def test_members_of_the_published_archive_are_bounded(tmp_path):
    name, path = "1-100-A-0.wav", tmp_path / "esc50.zip"
    rows = "filename,fold,category\n" + "".join(
        f"{fold}-100{fold}-A-0.wav,{fold},dog\n" for fold in (1, 2, 3)
    )
    rows += f"{name},1,dog\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ESC-50-master/meta/esc50.csv", rows)
        archive.writestr(f"ESC-50-master/audio/{name}", b"sound")
    content = bytearray(path.read_bytes())
    member = content.rindex(b"PK\1\2")  # the central directory, whose sizes are trusted
    content[member + 24 : member + 28] = struct.pack("<I", 0xFFFF_FFF0)
    path.write_bytes(content)
    split = SplitFolds(train=[1], valid=[2], test=[3])
    corpus = Esc50(Esc50Corpus(name="esc50", lists=str(path), audio=str(path), split=split))
    with pytest.raises(FetchError, match=r"too large|are read"):
        corpus.fetch(Clip("a", "100", name, ("dog",)))
    lists = content.index(b"PK\1\2")
    content[lists + 24 : lists + 28] = struct.pack("<I", 0xFFFF_FFF0)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"esc50"):
        Esc50(Esc50Corpus(name="esc50", lists=str(path), audio=str(path), split=split))


def test_the_download_names_them_in_the_ledger_and_gets_the_others(project):  # noqa: F811
    for name, kind in (("page", "pipe"), ("nan", "sparse")):
        (project / f"audio/{name}.wav").unlink()
        put(project / f"audio/{name}.wav", kind)
    config = make_config()
    segments.run(config)
    download.run(config, "train")
    rows = {row["clip_id"]: row for row in read_rows(project / "data/raw/train/ledger.csv", DOWNLOAD)}
    assert (
        rows["page"]["reason"].startswith(("not a regular file", "not readable"))
        and rows["nan"]["reason"] == REASONS["sparse"]
    )
    assert rows["good10"]["status"] == rows["good12"]["status"] == "ok"


def _fetch_or_die(self, clip):
    if clip.clip_id == "good11":
        os.kill(os.getpid(), signal.SIGKILL)
    return fetch_file(Path("audio"), clip)


class Deadly(Folder):
    """A folder with a file that kills its reader."""

    fetch = _fetch_or_die


def test_a_clip_that_kills_its_reader_is_named_in_the_ledger(project, monkeypatch):  # noqa: F811
    config = make_config()
    segments.run(config)
    monkeypatch.setattr(download, "open_corpus", lambda section, seconds: Deadly(section))
    download.run(config, "train")
    rows = {row["clip_id"]: row for row in read_rows(project / "data/raw/train/ledger.csv", DOWNLOAD)}
    assert rows["good11"]["reason"] == "the process that read it was killed"
    assert rows["good10"]["status"] == rows["good12"]["status"] == "ok"


def test_hours_are_no_reason_to_refuse(tmp_path):
    from audionas.audio.decode import decode

    hours = io.BytesIO()
    quiet = np.zeros(3 * 3600 * 8000, np.int16)
    quiet[:8000] = np.random.default_rng(0).integers(-9999, 9999, 8000)
    soundfile.write(hours, quiet, 8000, format="WAV")
    (tmp_path / "long.wav").write_bytes(hours.getvalue())
    assert decode(read_bounded(tmp_path / "long.wav"), 8000, 8000).seconds == 3 * 3600
