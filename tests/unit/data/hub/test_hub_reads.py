"""The hub source reads what is wanted and little more; where the clips stand is read once."""

import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hub_server import Fault, HubServer
from mirror import (
    GROUP,
    PARQUET,
    PARTS,
    SOUNDS,
    TAR,
    clip,
    flac,
    groups_read,
    opened,
    parquet,
    part,
    reason,
    ytid,
)

from audionas.data.sources.base import SourceError
from audionas.runtime.errors import UserError


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
        "import sys; from audionas.data.sources.hub import Hub; from audionas.data.corpora.base import Clip;"
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
