"""The hub source against a hub on loopback that huggingface_hub asks: what is moved, and every fault."""

import io
import os
import random
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hub_server import Fault, HubServer
from huggingface_hub import constants

from audionas.corpora.base import Clip
from audionas.errors import UserError
from audionas.sources.base import SourceError
from audionas.sources.hub import Hub

PARTS = {"bal_train": range(20), "eval": range(20, 40), "unbal_train": range(40, 60)}
GROUP = 5  # clips in a row group
SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("labels", pa.list_(pa.string())),
        ("human_labels", pa.list_(pa.string())),
    ]
)


def flac(number: int, seconds: float = 2.0) -> bytes:
    file = io.BytesIO()
    wave = np.random.default_rng(number).normal(0, 0.1, round(16_000 * seconds))
    soundfile.write(file, wave, 16_000, format="FLAC")
    return file.getvalue()


def ytid(number: int) -> str:
    return f"{('--', '-', '_')[number % 3]}{number:x}PJHxphWEs"[:11].ljust(11, "x")


SOUNDS = {ytid(number): flac(number) for number in range(60)}


def clip(name: str) -> Clip:
    return Clip(f"Y{name}_30", name, name, ("/m/09x0r",), 30.0, 40.0)


def parquet(sounds: dict[str, bytes | None]) -> bytes:
    audio = [{"bytes": data, "path": f"audio/x/{name}.flac"} for name, data in sounds.items()]
    columns = [list(sounds), audio, [["/m/09x0r"]] * len(sounds), [["Speech"]] * len(sounds)]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=GROUP, write_page_checksum=True)
    return file.getvalue()


def tar(members: list[tuple[str | tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if data:
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data) if data else None)
    return file.getvalue()


def part(numbers) -> dict[str, bytes]:
    return {ytid(number): SOUNDS[ytid(number)] for number in numbers}


PARQUET = {f"data/{name}/00.parquet": parquet(part(numbers)) for name, numbers in PARTS.items()}
TAR = {
    f"data/{name}00.tar": tar([(f"audio/{name}/{i}.flac", s) for i, s in part(numbers).items()])
    for name, numbers in PARTS.items()
}
OTHERS = {"README.md": b"# AudioSet", "data/eval_segments.csv": b"# YTID\n"}


@pytest.fixture
def server():
    with HubServer(PARQUET | OTHERS) as hub:
        yield hub


@pytest.fixture
def tars():
    with HubServer(TAR | OTHERS) as hub:
        yield hub


def opened(server, cache, **options) -> Hub:
    return Hub(server.name, cache, **{"endpoint": server.endpoint, "timeout": 5.0} | options)


def chunks(path: str) -> list[tuple[int, int]]:
    """Where the audio bytes of every row group stand in a parquet file."""
    metadata = pq.ParquetFile(io.BytesIO(PARQUET[path])).metadata
    places = []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        columns = [row_group.column(i) for i in range(row_group.num_columns)]
        audio = next(column for column in columns if column.path_in_schema == "audio.bytes")
        start = min(audio.data_page_offset, audio.dictionary_page_offset or audio.data_page_offset)
        places.append((start, start + audio.total_compressed_size))
    return places


def groups_read(server, path: str) -> list[int]:
    """Row groups of which audio was asked, in order. The end of the file, which holds its index, apart."""
    end = len(PARQUET[path])
    return [
        group
        for begin, stop in server.ranges(path)
        for group, (start, last) in enumerate(chunks(path))
        if stop != end and begin < last and stop > start
    ]


def reason(hub: Hub, name: str) -> str:
    with pytest.raises(SourceError) as caught:
        hub.get(clip(name))
    return caught.value.reason


# -- what is moved


def test_three_clips_of_sixty_move_their_row_groups_and_little_more(server, tmp_path):
    wanted = [ytid(number) for number in (3, 4, 27)]
    with opened(server, tmp_path) as hub:
        assert hub.revision == server.sha
        assert server.sent == {}, "nothing of a file is moved before a clip is asked for"
        assert reason(hub, "AAAAAAAAAAA") == "not there"
        indexing = sum(server.sent.values())
        assert not any(groups_read(server, path) for path in PARQUET), "the ids alone make the index"
        assert [hub.get(clip(name)) for name in wanted] == [SOUNDS[name] for name in wanted]
    assert groups_read(server, "data/bal_train/00.parquet") == [0]
    assert groups_read(server, "data/eval/00.parquet") == [1]
    assert groups_read(server, "data/unbal_train/00.parquet") == []
    whole = sum(map(len, PARQUET.values()))
    footers = 64 * 1024  # what pyarrow reads of a file's end
    two_groups = 2 * GROUP * max(map(len, SOUNDS.values()))
    assert indexing < 3 * footers + 10_000
    assert sum(server.sent.values()) < indexing + 2 * footers + two_groups + 10_000 < whole / 2


def test_all_clips_in_order_read_every_row_group_once(server, tmp_path):
    clips = [clip(name) for name in [*SOUNDS, "AAAAAAAAAAA"]]
    random.Random(1).shuffle(clips)
    hub = opened(server, tmp_path)
    ordered = hub.order(clips)
    assert sorted(map(repr, ordered)) == sorted(map(repr, clips))
    assert ordered[-1].source == "AAAAAAAAAAA" and reason(hub, "AAAAAAAAAAA") == "not there"
    assert all(hub.get(one) == SOUNDS[one.source] for one in ordered[:-1])
    assert all(groups_read(server, path) == [0, 1, 2, 3] for path in PARQUET)


def test_threads_that_want_the_same_row_group_share_one_read(server, tmp_path):
    hub = opened(server, tmp_path)
    names = [ytid(number) for number in range(GROUP)]
    start = threading.Barrier(GROUP)

    def get(name):
        start.wait()
        return hub.get(clip(name))

    with ThreadPoolExecutor(GROUP) as pool:
        assert list(pool.map(get, names)) == [SOUNDS[name] for name in names]
    assert groups_read(server, "data/bal_train/00.parquet") == [0]


def test_tar_members_are_found_by_headers_and_moved_one_by_one(tars, tmp_path):
    hub = opened(tars, tmp_path)
    assert reason(hub, "AAAAAAAAAAA") == "not there"
    assert all(len(tars.ranges(path)) <= 22 for path in TAR), "a request a header, one for the end"
    assert sum(tars.sent.values()) < 62 * 4096 + 3 * 4096
    tars.forget()
    wanted = [ytid(number) for number in (0, 27, 59)]
    assert [hub.get(clip(name)) for name in wanted] == [SOUNDS[name] for name in wanted]
    assert sum(tars.sent.values()) == sum(len(SOUNDS[name]) for name in wanted)
    assert all(len(tars.ranges(path)) == 1 for path in TAR)


def test_files_limits_the_index_to_the_parts_that_are_named(server, tars, tmp_path):
    for hub_server, path in (server, "data/bal_train/00.parquet"), (tars, "data/bal_train00.tar"):
        hub = opened(hub_server, tmp_path, files=["data/bal_train*"])
        assert hub.get(clip(ytid(1))) == SOUNDS[ytid(1)]
        assert reason(hub, ytid(45)) == "not there"
        assert set(hub_server.sent) == {path}
    with pytest.raises(UserError, match=r"corpus\.hub\.files \(data/none\*\)"):
        opened(server, tmp_path, files=["data/none*"])


def test_nothing_is_printed(server, tmp_path, capfd):
    assert opened(server, tmp_path).get(clip(ytid(1))) == SOUNDS[ytid(1)]
    assert capfd.readouterr() == ("", "")


def test_hf_endpoint_is_obeyed(server, tmp_path):
    code = (
        "import sys; from audionas.sources.hub import Hub; from audionas.corpora.base import Clip;"
        "hub = Hub(sys.argv[1], sys.argv[2]);"
        "sys.stdout.buffer.write(hub.get(Clip('Y', sys.argv[3], '', ())))"
    )
    command = [sys.executable, "-c", code, server.name, str(tmp_path), ytid(0)]
    done = subprocess.run(
        command, env=os.environ | {"HF_ENDPOINT": server.endpoint}, capture_output=True, check=True
    )
    assert done.stdout == SOUNDS[ytid(0)] and ytid(0).startswith("--")


# -- the index in the cache


@pytest.mark.parametrize("layout", ["server", "tars"])
def test_a_second_run_reads_no_index(layout, request, tmp_path):
    hub_server = request.getfixturevalue(layout)
    opened(hub_server, tmp_path).order([clip(ytid(0))])
    assert hub_server.sent
    hub_server.forget()
    again = opened(hub_server, tmp_path)
    assert [one.source for one in again.order([clip(ytid(9)), clip(ytid(2))])] == [ytid(2), ytid(9)]
    assert hub_server.sent == {}
    assert again.get(clip(ytid(2))) == SOUNDS[ytid(2)]


def test_an_index_that_broke_off_is_taken_up_where_it_was(server, tmp_path):
    server.fault = lambda asked: Fault(503) if asked.file.startswith("data/unbal_train") else None
    hub = opened(server, tmp_path)
    with pytest.raises(SourceError, match="HTTP 503"):
        hub.order([clip(ytid(0))])
    server.fault = lambda asked: None
    server.forget()
    assert hub.get(clip(ytid(50))) == SOUNDS[ytid(50)], "the same object goes on, too"
    assert set(server.sent) == {"data/unbal_train/00.parquet"}


def test_a_changed_mirror_is_indexed_again_where_it_changed(server, tmp_path):
    old = opened(server, tmp_path)
    assert old.get(clip(ytid(1))) == SOUNDS[ytid(1)]
    server.forget()
    moved = dict(reversed(part(PARTS["bal_train"]).items())) | {"NEWxxxxxxxx": flac(99)}
    server.commit(PARQUET | {"data/bal_train/00.parquet": parquet(moved)})
    new = opened(server, tmp_path)
    assert new.revision == server.sha != old.revision
    assert new.get(clip(ytid(1))) == SOUNDS[ytid(1)] and new.get(clip("NEWxxxxxxxx")) == flac(99)
    assert set(server.sent) == {"data/bal_train/00.parquet"}


def test_of_a_clip_that_stands_twice_the_first_is_taken(tmp_path):
    again = {name: flac(100 + number, 0.1) for number, name in enumerate(part(range(20)))}
    with HubServer(PARQUET | {"data/bal_train/01.parquet": parquet(again)}) as server:
        hub = opened(server, tmp_path)
        assert all(hub.get(clip(name)) == SOUNDS[name] for name in again)


def test_a_damaged_index_file_is_read_again(server, tmp_path):
    opened(server, tmp_path).order([clip(ytid(0))])
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert opened(server, tmp_path).get(clip(ytid(30))) == SOUNDS[ytid(30)]
    server.forget()
    opened(server, tmp_path).order([clip(ytid(0))])
    assert server.sent == {}


def test_an_index_of_other_content_gives_no_wrong_clip(server, tmp_path):
    hub = opened(server, tmp_path)
    hub.order([clip(ytid(0))])
    for path in tmp_path.glob("*.npz"):
        with np.load(path) as saved:
            ids, at = saved["ids"], saved["at"]
        np.savez(path, ids=ids, at=at[::-1])
    assert reason(opened(server, tmp_path), ytid(1)) == "decode"


# -- hostile and damaged content


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


# -- refusals


def test_what_the_user_can_mend_is_said_at_the_start(server, tmp_path, monkeypatch):
    def refused(name=server.name, **options):
        with pytest.raises(UserError) as caught:
            Hub(name, tmp_path, **{"endpoint": server.endpoint} | options)
        return str(caught.value)

    assert refused("lab/Other").startswith(
        "corpus.hub.repository: lab/Other: HTTP 404 (server: RepoNotFound)"
    )
    assert "corpus.hub.revision (v9)" in refused(revision="v9")
    assert "write owner/name" in refused("lab/../../x")
    assert "corpus.hub.endpoint: 'hub.local'" in refused(endpoint="hub.local")
    for status in (401, 403):
        server.fault = lambda asked, status=status: Fault(status) if asked.part == "api" else None
        assert f"HTTP {status}" in refused() and "HF_TOKEN" in refused()
    server.fault = lambda asked: None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refused()


def test_a_gated_repository_wants_a_token_that_storage_never_sees(tmp_path):
    with HubServer(PARQUET, token="hf_secret") as server:  # noqa: S106
        with pytest.raises(UserError, match=r"HTTP 401 \(server: GatedRepo\).*accept its terms.*HF_TOKEN"):
            opened(server, tmp_path)
        hub = opened(server, tmp_path, token="hf_secret")  # noqa: S106
        server.forget()
        assert hub.get(clip(ytid(0))) == SOUNDS[ytid(0)]
        assert {asked.authorized for asked in server.asked if asked.part == "resolve"} == {True}
        assert {asked.authorized for asked in server.asked if asked.part == "storage"} == {False}
        server.token = "hf_other"  # noqa: S105
        server.expire()
        with pytest.raises(UserError, match="HF_TOKEN"):
            hub.get(clip(ytid(30)))


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (("Retry-After", "120"), (120, 120)),
        (("Retry-After", formatdate(time.time() + 3600, usegmt=True)), (3000, 3600)),
        (("RateLimit", '"resolvers";r=0;t=55'), (55, 55)),
        (("Retry-After", "soon"), None),
    ],
)
@pytest.mark.parametrize("place", ["api", "resolve", "storage"])
def test_rate_limits_are_told_at_once_with_the_time_to_wait(server, tmp_path, place, header, wait):
    server.fault = lambda asked: Fault(429, headers=(header,)) if asked.part == place else None
    with pytest.raises(SourceError) as caught:
        opened(server, tmp_path, files=["data/eval/*"]).get(clip(ytid(20)))
    assert caught.value.reason == "rate-limited"
    if wait is None:
        assert caught.value.retry_after is None
    else:
        assert wait[0] <= caught.value.retry_after <= wait[1]
    assert sum(asked.part == place for asked in server.asked) == 1, "nobody asks again before time"
    server.fault = lambda asked: None
    assert opened(server, tmp_path).get(clip(ytid(20))) == SOUNDS[ytid(20)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(503, headers=(("Retry-After", "100"),)),
        Fault(
            200, body=b"<html>Log in to the hotel's network</html>", headers=(("Content-Type", "text/html"),)
        ),
        Fault(206, body=b"x" * 100, headers=(("Content-Range", "bytes 0-99/100"),)),
        Fault(416),
        Fault(hang=True),
        Fault(cut=0),
        Fault(cut=1000),
        Fault(drip=0.02),
        Fault(shift=512),
    ],
    ids=repr,
)
@pytest.mark.parametrize("layout", ["server", "tars"])
def test_a_network_that_fails_is_network_and_well_when_asked_again(layout, request, tmp_path, fault):
    hub_server = request.getfixturevalue(layout)
    hub = opened(hub_server, tmp_path, timeout=0.3)
    hub.order([clip(ytid(0))])
    hub_server.fault = lambda asked: fault if asked.part == "storage" else None
    assert reason(hub, ytid(22)) == "network"
    hub_server.fault = lambda asked: None
    assert hub.get(clip(ytid(22))) == SOUNDS[ytid(22)]


@pytest.mark.parametrize("place", ["api", "resolve"])
@pytest.mark.parametrize("fault", [Fault(500), Fault(hang=True), Fault(200, body=b"<html></html>")], ids=repr)
def test_a_hub_that_does_not_answer_is_network(server, tmp_path, place, fault):
    server.fault = lambda asked: fault if asked.part == place else None
    with pytest.raises(SourceError) as caught:
        opened(server, tmp_path, timeout=0.3).get(clip(ytid(0)))
    assert caught.value.reason == "network"


def test_a_hub_that_is_gone_is_network(tmp_path):
    with HubServer(PARQUET) as server:
        hub = opened(server, tmp_path)
        hub.order([clip(ytid(0))])
    with pytest.raises(SourceError) as caught:
        opened(server, tmp_path, timeout=1.0)
    assert caught.value.reason == "network"


def test_a_connection_cut_once_is_taken_up_where_it_broke(server, tmp_path):
    hub = opened(server, tmp_path)
    hub.order([clip(ytid(0))])
    server.forget()
    path, cuts = "data/eval/00.parquet", []
    start, end = chunks(path)[1]

    def fault(asked):
        if asked.part == "storage" and asked.start == start and not cuts:
            cuts.append(asked)
            return Fault(cut=100_000)
        return None

    server.fault = fault
    assert hub.get(clip(ytid(25))) == SOUNDS[ytid(25)]
    assert cuts and (start + 100_000, end) in server.ranges(path)
    assert groups_read(server, path) == [1, 1]


def test_a_signed_address_that_ran_out_is_asked_for_anew(server, tmp_path):
    hub = opened(server, tmp_path)
    hub.order([clip(ytid(0))])
    for number in (0, 25):
        server.expire()
        assert hub.get(clip(ytid(number))) == SOUNDS[ytid(number)]
    server.forget()
    assert hub.get(clip(ytid(30))) == SOUNDS[ytid(30)]
    assert not [asked for asked in server.asked if asked.part == "resolve"], "an address serves many ranges"
