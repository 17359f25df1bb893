"""Getting clips from sources that fail, limit the rate and are killed."""

import http.server
import io
import itertools
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from projects import ROOT

from audionas.data.corpora.base import Clip
from audionas.data.sources.acquire import acquire
from audionas.data.sources.base import Source, SourceError
from audionas.data.sources.journal import Journal
from audionas.runtime.errors import UserError
from audionas.settings.corpora import Download

QUICK = Download(workers=4, pause_seconds=0.05, longest_pause_seconds=0.2, pauses=3, failures=8)


def sound(number: int, seconds: float = 0.2) -> bytes:
    file = io.BytesIO()
    wave = np.random.default_rng(number).normal(0, 0.1, round(8000 * seconds))
    soundfile.write(file, wave, 8000, format="FLAC")
    return file.getvalue()


def clips(count: int) -> list[Clip]:
    return [Clip(f"Y{i:011d}_0", f"{i:011d}", "", ("/m/1",), 0.0, 10.0) for i in range(count)]


class Scripted(Source):
    """Answers as a function of the clip and of how often it was asked."""

    def __init__(self, name, script):
        self.name, self.script, self.asked, self.lock = name, script, Counter(), threading.Lock()

    def get(self, clip):
        with self.lock:
            self.asked[clip.clip_id] += 1
            times = self.asked[clip.clip_id]
        answer = self.script(int(clip.source), times)
        if isinstance(answer, Exception):
            raise answer
        return answer


def outcomes(journal, wanted):
    answers = [journal.result(clip.clip_id) for clip in wanted]
    return [answer.source if answer.got else answer.reason for answer in answers]


def test_sources_are_asked_in_order_and_the_telling_reason_is_kept(tmp_path):
    first = Scripted("local", lambda i, _: sound(i) if i % 3 == 0 else SourceError("not there"))
    second = Scripted(
        "youtube", lambda i, _: sound(i) if i % 3 == 1 else SourceError("private", "It is private")
    )
    wanted, seen = clips(9), []
    with Journal(tmp_path) as journal:
        acquire(wanted, [first, second], journal, QUICK, progress=seen.append)
        assert outcomes(journal, wanted) == ["local", "youtube", "private"] * 3
        assert journal.path(wanted[1].clip_id).read_bytes() == sound(1)
    assert Counter(seen) == {"ok": 6, "private": 3}
    assert set(second.asked) == {clip.clip_id for clip in wanted if int(clip.source) % 3}
    with Journal(tmp_path) as journal:  # another process: everything is known
        acquire(wanted, [first, second], journal, QUICK)
        assert outcomes(journal, wanted) == ["local", "youtube", "private"] * 3
    assert sum(first.asked.values()) == 9 and sum(second.asked.values()) == 6


def test_bytes_that_are_no_clip_are_asked_of_the_next_source(tmp_path):
    bad = {0: b"<html>sign in</html>", 1: sound(1)[:900], 2: sound(2, 0.01), 3: b""}
    silent = io.BytesIO()
    soundfile.write(silent, np.zeros(8000), 8000, format="WAV")
    bad[4] = silent.getvalue()
    first, second = (
        Scripted("hub", lambda i, _: bad[i]),
        Scripted("youtube", lambda *_: SourceError("removed")),
    )
    with Journal(tmp_path) as journal:
        acquire(clips(5), [first], journal, QUICK, min_seconds=0.1)
        assert outcomes(journal, clips(5)) == ["decode", "decode", "too short", "decode", "silent"]
        acquire(clips(5), [first, second], journal, QUICK, min_seconds=0.1)
        assert outcomes(journal, clips(5)) == ["removed"] * 5
        assert not list(journal.clips.iterdir())


def test_a_network_failure_is_tried_again_and_is_passing(tmp_path):
    def script(i, times):
        return SourceError("network", "reset") if i == 2 or times < 3 else sound(i)

    source = Scripted("youtube", script)
    with Journal(tmp_path) as journal:
        patience = QUICK.model_copy(update={"failures": 100})
        acquire(clips(6), [source], journal, patience)
        assert outcomes(journal, clips(6)) == ["youtube"] * 2 + ["network"] + ["youtube"] * 3
        assert set(source.asked.values()) == {3}
        source.script = lambda i, _: sound(i)
        acquire(clips(6), [source], journal, patience)
        assert (
            outcomes(journal, clips(6)) == ["youtube"] * 6
            and journal.result(clips(6)[2].clip_id).attempts == 2
        )


def test_a_network_that_is_down_stops_the_run_and_marks_few(tmp_path):
    source = Scripted("youtube", lambda i, _: sound(i) if i < 20 else SourceError("network", "no route"))
    with Journal(tmp_path) as journal:
        with pytest.raises(UserError, match=r"youtube: 9 requests in a row failed.*no route.*start again"):
            acquire(clips(1000), [source], journal, QUICK)
        assert sum(answer.got for answer in journal.results.values()) == 20
        assert len(journal.results) < 40


def test_a_rate_limit_pauses_all_workers_and_the_clip_is_got_in_the_end(tmp_path):
    limited, gate = threading.Event(), []

    def script(i, times):
        if i == 10 and times <= 2:
            limited.set()
            return SourceError("rate-limited", "429", retry_after=0.2)
        gate.append((i, time.monotonic(), limited.is_set()))
        return sound(i)

    with Journal(tmp_path) as journal:
        acquire(clips(30), [Scripted("youtube", script)], journal, QUICK)
        assert outcomes(journal, clips(30)) == ["youtube"] * 30
    times = sorted(at for _, at, _ in gate)
    assert max(b - a for a, b in itertools.pairwise(times)) > 0.15  # nothing was asked meanwhile


def test_limits_and_failures_while_a_source_orders_its_clips_are_borne(tmp_path):
    class Indexed(Scripted):
        def order(self, wanted):
            self.orders.append(len(wanted))
            if len(self.orders) < 4:
                raise SourceError(("rate-limited", "network")[len(self.orders) % 2], "busy")
            return list(reversed(wanted))

    source = Indexed("hub", lambda i, _: sound(i))
    source.orders = []
    with Journal(tmp_path) as journal:
        acquire(clips(5), [source], journal, QUICK)
        assert outcomes(journal, clips(5)) == ["hub"] * 5 and source.orders == [5] * 4


def test_what_is_under_way_when_a_run_stops_is_kept(tmp_path):
    begun = threading.Barrier(2)

    def script(i, _):
        if i < 2:
            begun.wait()
            if i == 0:
                raise KeyboardInterrupt
            time.sleep(0.2)
        return sound(i)

    with Journal(tmp_path) as journal:
        with pytest.raises(KeyboardInterrupt):
            acquire(clips(2), [Scripted("youtube", script)], journal, QUICK)
        assert [journal.result(clip.clip_id).got for clip in clips(2)] == [False, True]
        assert journal.path(clips(2)[1].clip_id).read_bytes() == sound(1)


def test_a_rate_limit_without_end_stops_the_run_and_fails_no_thousands(tmp_path):
    source = Scripted(
        "youtube", lambda i, _: sound(i) if i < 10 else SourceError("rate-limited", "not a bot")
    )
    with Journal(tmp_path) as journal:
        with pytest.raises(UserError, match=r"youtube limits the rate \(not a bot\).*3 pauses.*cookies"):
            acquire(clips(1000), [source], journal, QUICK)
        assert sum(answer.got for answer in journal.results.values()) == 10
        assert [a.reason for a in journal.results.values() if not a.got] == ["rate-limited"]
    assert sum(source.asked.values()) < 60


@pytest.mark.parametrize(
    "moment", ["half a file", "a file without a line", "a line without its name", "half a line"]
)
def test_what_a_killed_process_began_is_ended(tmp_path, moment):
    wanted = clips(3)
    source = Scripted("hub", lambda i, _: sound(i))
    with Journal(tmp_path) as journal:
        acquire(wanted[:2], [source], journal, QUICK)
        path = journal.path(wanted[1].clip_id)
    lines = (tmp_path / "journal.csv").read_bytes().splitlines(keepends=True)
    asked_again = 0
    if moment == "half a file":
        (path.parent / f".{path.name}@hub.abc.tmp").write_bytes(sound(1)[:100])
        path.unlink()
        (tmp_path / "journal.csv").write_bytes(b"".join(line for line in lines if b"0001_0" not in line))
        asked_again = 1
    elif moment == "a file without a line":
        path.rename(path.with_name(f"{path.name}@hub"))
        (tmp_path / "journal.csv").write_bytes(b"".join(line for line in lines if b"0001_0" not in line))
    elif moment == "a line without its name":
        path.rename(path.with_name(f"{path.name}@hub"))
    else:
        (tmp_path / "journal.csv").write_bytes(b"".join(lines) + wanted[2].clip_id.encode() + b",hub,netw")
    with Journal(tmp_path) as journal:
        acquire(wanted, [source], journal, QUICK)
        assert outcomes(journal, wanted) == ["hub"] * 3
        assert sorted(p.name for p in journal.clips.iterdir()) == [clip.clip_id for clip in wanted]
        assert all(journal.path(clip.clip_id).read_bytes() == sound(int(clip.source)) for clip in wanted)
        assert [journal.result(clip.clip_id).attempts for clip in wanted] == [1, 1, 1]
    assert sum(source.asked.values()) == 3 + asked_again


KILLED = textwrap.dedent("""
    import sys, urllib.request
    from pathlib import Path
    sys.path[:0] = sys.argv[2].split(":")
    from test_acquire import clips, Web, QUICK
    from audionas.data.sources.acquire import acquire
    from audionas.data.sources.journal import Journal

    with Journal(Path(sys.argv[3])) as journal:
        print("ready", flush=True)
        acquire(clips(300), [Web(sys.argv[1])], journal, QUICK)
""")


class Web(Source):
    """A server's files by YouTube id."""

    name = "web"

    def __init__(self, address):
        self.address = address

    def get(self, clip):
        with urllib.request.urlopen(f"{self.address}/{clip.source}") as answer:  # noqa: S310 (loopback)
            return answer.read()


@pytest.mark.slow
def test_killed_at_twenty_instants_nothing_is_lost_or_got_twice(tmp_path):
    requests, wanted = [], [math.inf]
    reached, resumed = threading.Event(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            if len(requests) >= wanted[0]:
                reached.set()
                resumed.wait()
            time.sleep(0.005)
            body = sound(int(self.path[1:]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [sys.executable, "-c", KILLED, f"http://127.0.0.1:{server.server_port}"]
    command += [f"{Path(__file__).parent}:{ROOT / 'tests/support'}", str(tmp_path / "killed")]
    random.seed(0)
    kills, environment = 20, {**os.environ, "no_proxy": "*"}
    for _ in range(kills):  # each after so many more requests; the last of them wait for it
        reached.clear()
        resumed.clear()
        wanted[0] = len(requests) + random.randint(1, 9)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert reached.wait(600)
        time.sleep(random.uniform(0.0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        wanted[0] = math.inf
        resumed.set()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    made = len(requests)
    assert made <= 300 + kills * QUICK.workers

    subprocess.run(
        [*command[:-1], str(tmp_path / "whole")], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    server.shutdown()
    with Journal(tmp_path / "killed") as killed, Journal(tmp_path / "whole") as whole:
        assert killed.results == whole.results and len(whole.results) == 300
        for clip in clips(300):
            assert killed.path(clip.clip_id).read_bytes() == whole.path(clip.clip_id).read_bytes()
        assert len(list(killed.clips.iterdir())) == 300
