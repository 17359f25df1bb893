"""Mirrors with hostile and damaged content: a defined reason for each, and nothing is unpacked."""

import io
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hub_server import HubServer
from mirror import OTHERS, PARQUET, SOUNDS, TAR, chunks, clip, flac, opened, parquet, reason, tar, ytid

from audionas.runtime.errors import UserError


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a b", "", "x" * 300, "ü" * 11, "\0" * 11, "--PJHxphWE"]
)
def test_ids_that_are_not_there(server, tmp_path, name):
    assert reason(opened(server, tmp_path), name) == "not there"


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, 5000  # a size that no data follows
    return member


def test_hostile_tar_members_are_passed_over_and_nothing_is_unpacked(tmp_path):
    names = [f"hostile{i:04d}" for i in range(10)]
    evil, good, deep = flac(7), flac(8), flac(9)
    content = tar(
        [
            (f"/{names[0]}.flac", evil),
            (f"../{names[1]}.flac", evil),
            (f"audio/../../{names[2]}.flac", evil),
            (f"..\\..\\x/{names[3]}.flac", evil),
            (special(f"audio/{names[4]}.flac", tarfile.SYMTYPE, "/etc/passwd"), b""),
            (special(f"audio/{names[5]}.flac", tarfile.LNKTYPE, "audio/../../x"), b""),
            (special(f"audio/{names[6]}.flac", tarfile.FIFOTYPE), b""),
            (special(f"audio/{names[7]}.flac", tarfile.DIRTYPE), b""),
            (f"audio/{names[8]}.sh", evil),
            (f"audio/{names[9]}.flac", b""),
            ("audio/" + "long/" * 60 + "--longpath0.flac", deep),
            ("audio/--goodclip0.flac", good),
            ("audio/again/--goodclip0.flac", evil),
        ]
    )
    with HubServer({"data/eval00.tar": content}) as server:
        hub = opened(server, tmp_path / "cache")
        assert [reason(hub, name) for name in names] == ["not there"] * 10
        assert hub.get(clip("--goodclip0")) == good, "the first of two with one id"
        assert hub.get(clip("--longpath0")) == deep
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".npz"]


def test_a_damaged_tar_gives_what_stands_before_the_damage_and_is_not_remembered(tmp_path):
    content = bytearray(TAR["data/eval00.tar"])
    with tarfile.open(fileobj=io.BytesIO(bytes(content))) as archive:
        header = archive.getmembers()[10].offset
    content[header : header + 512] = os.urandom(512)
    with HubServer(
        {"data/eval00.tar": bytes(content), "data/eval01.tar": TAR["data/bal_train00.tar"]}
    ) as server:
        hub = opened(server, tmp_path)
        assert hub.get(clip(ytid(29))) == SOUNDS[ytid(29)]
        assert reason(hub, ytid(30)) == "not there"
        assert hub.get(clip(ytid(0))) == SOUNDS[ytid(0)]
    assert len(list(tmp_path.glob("*.npz"))) == 1


@pytest.mark.parametrize("layout", ["parquet", "tar"])
def test_bytes_that_are_no_audio_are_decode(tmp_path, layout):
    sound = flac(1)
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 0xFF
    soundless = io.BytesIO()
    soundfile.write(soundless, np.zeros(0), 16_000, format="WAV")
    mp3 = io.BytesIO()
    soundfile.write(mp3, np.random.default_rng(1).normal(0, 0.1, 32_000), 16_000, format="MP3")
    bad = {
        "htmlxxxxxxx": b"<html>Sign in</html>" * 500,
        "zerosxxxxxx": bytes(5000),
        "halfxxxxxxx": sound[: len(sound) // 2],
        "flippedxxxx": bytes(flipped),
        "headxxxxxxx": sound[:60],
        "soundless--": soundless.getvalue(),
        "halfmp3xxxx": mp3.getvalue()[: len(mp3.getvalue()) // 2],  # decodes, to too few frames
        "promised---": sound[:22] + (64_000).to_bytes(4, "big") + sound[26:],  # frames, by its header
    }
    everything = bad | {"goodxxxxxxx": sound}
    if layout == "parquet":
        bad |= {"emptyxxxxxx": b"", "nullxxxxxxx": None}
        files = {"data/eval/00.parquet": parquet(bad | everything)}
    else:
        files = {"data/eval00.tar": tar([(f"audio/{name}.flac", data) for name, data in everything.items()])}
    with HubServer(files) as server:
        hub = opened(server, tmp_path)
        assert {name: reason(hub, name) for name in bad} == dict.fromkeys(bad, "decode")
        assert hub.get(clip("goodxxxxxxx")) == sound


def test_a_damaged_page_is_decode_and_a_parquet_file_cut_short_hides_no_other(tmp_path):
    path = "data/bal_train/00.parquet"
    content = bytearray(PARQUET[path])
    start, end = chunks(path)[1]
    content[(start + end) // 2] ^= 0xFF
    files = {path: bytes(content), "data/eval/00.parquet": PARQUET["data/eval/00.parquet"][:100_000]}
    with HubServer(files) as server:
        hub = opened(server, tmp_path)
        assert {reason(hub, ytid(number)) for number in range(5, 10)} == {"decode"}
        assert hub.get(clip(ytid(0))) == SOUNDS[ytid(0)] and hub.get(clip(ytid(10))) == SOUNDS[ytid(10)]
        assert reason(hub, ytid(20)) == "not there"


@pytest.mark.parametrize(
    "table",
    [
        {"video_id": [1, 2]},
        {"id": ["a"], "audio": [b"x"]},
        {"video_id": ["a"], "audio": [b"x"]},
        {"video_id": [None, "a b", "../x"], "audio": [{"bytes": b"x"}] * 3},
    ],
)
def test_a_repository_of_something_else_is_refused(tmp_path, table):
    file = io.BytesIO()
    pq.write_table(pa.table(table), file)
    with (
        HubServer({"data/x.parquet": file.getvalue()}) as server,
        pytest.raises(UserError, match=r"corpus\.hub\.repository: lab/AudioSet: none of its 1 parquet"),
    ):
        opened(server, tmp_path).order([clip("a")])
    with HubServer(OTHERS) as server, pytest.raises(UserError, match="none of the 2 files at main"):
        opened(server, tmp_path)
