"""The recording in many formats, a server for it, and the source that asks there."""

import shutil
import subprocess

import imageio_ffmpeg
import pytest
from loopback import Loopback
from videos import RATE, encoded, recording

from audionas.data.sources.youtube import Youtube


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """The recording in each format: YouTube's own (Opus in WebM, fragmented AAC) and others."""
    folder = tmp_path_factory.mktemp("media")
    samples = recording()
    files = {name: encoded(samples, RATE, format=name.upper()) for name in ("wav", "flac", "ogg")}
    (folder / "a.wav").write_bytes(files["wav"])
    fragments = ["-movflags", "frag_keyframe+empty_moov+default_base_moof", "-frag_duration", "1000000"]
    for name, options in {
        "webm": ["-c:a", "libopus"],
        "m4a": ["-c:a", "aac", "-aac_pns", "0", *fragments],
    }.items():
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", folder / "a.wav", *options]
        subprocess.run([*command, folder / f"a.{name}"], check=True)
        files[name] = (folder / f"a.{name}").read_bytes()
    return files


PATHS = {"pinned": imageio_ffmpeg.get_ffmpeg_exe(), "system": shutil.which("ffmpeg")}


@pytest.fixture(params=[name for name, path in PATHS.items() if path])
def each_ffmpeg(request, monkeypatch):
    """The test runs with every ffmpeg that is there."""
    monkeypatch.setenv("AUDIONAS_FFMPEG", PATHS[request.param])
    return request.param


@pytest.fixture
def server():
    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def source(server, tmp_path):
    """Makes a source that asks `server`; at the end of the test its temporary folder must be empty."""
    folder, sources = tmp_path / "temporary", []
    folder.mkdir()

    def make(**options):
        defaults = {"address": server.url("/watch/{ytid}"), "temporary": folder, "socket_seconds": 10}
        sources.append(Youtube(**{**defaults, **options}))
        return sources[-1]

    yield make
    for each in sources:
        each.close()
    assert list(folder.iterdir()) == []
