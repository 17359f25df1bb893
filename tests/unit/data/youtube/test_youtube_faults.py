"""Servers that refuse, lie, break off or fall silent: the right reason for each."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from loopback import Loopback, Reply
from videos import RATE, SECONDS, TONES, TYPES, clip, good, put, reason, tones

from audionas.data.sources.base import SourceError, read_retry_after

pytestmark = pytest.mark.usefixtures("each_ffmpeg")

REFUSED = {
    "404": (Reply(status=404), "removed"),
    "410": (Reply(status=410), "removed"),
    "401": (Reply(status=401), "private"),
    "403": (Reply(status=403), "network"),
    "429": (Reply(status=429), "rate-limited"),
    "451": (Reply(status=451), "geo-blocked"),
    "500": (Reply(status=500), "network"),
    "503": (Reply(status=503), "network"),
    "html": (Reply(b"<html><head><title>Log in</title></head></html>", "text/html"), "decode"),
    "html that says it is audio": (Reply(b"<html><body>Log in</body></html>", "audio/ogg"), "decode"),
    "empty": (Reply(b"", "audio/ogg"), "decode"),
    "no audio": (Reply(bytes(range(256)) * 99, "audio/ogg"), "decode"),
    "mute": (Reply(mute=True), "network"),
}


@pytest.mark.parametrize("how", ["direct", "page"])
@pytest.mark.parametrize("fault", list(REFUSED))
def test_a_refusal_has_its_reason(server, source, how, fault):
    reply, expected = REFUSED[fault]
    put(server, how, reply)
    assert reason(source()) == expected


@pytest.mark.parametrize("how", ["direct", "page"])
@pytest.mark.parametrize("name", list(TYPES))
@pytest.mark.parametrize("ranges", [True, False])
def test_damaged_media_give_no_clip(server, source, media, name, how, ranges):
    data, at = media[name], int(len(media[name]) * 0.4)
    if name == "wav":  # a WAV file has nothing to see damage of its samples by
        damaged = b"RIFX" + data[4:]
    else:
        damaged = data[:at] + bytes(len(data) // 20) + data[at + len(data) // 20 :]
    one = source()
    put(server, how, Reply(damaged, TYPES[name], ranges=ranges))
    assert reason(one) == "decode"
    put(server, how, Reply(data[:at], TYPES[name], ranges=ranges))
    assert reason(one) in ("decode", "too short")
    put(server, how, good(media, name, ranges=ranges))
    assert tones(one.get(clip()))[0] == TONES[2:4], "and the next clip is well"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flac", "ogg", "webm", "m4a"])
def test_a_flipped_bit_never_gives_other_seconds(server, source, media, name):
    one = source()
    for share in np.linspace(0.1, 0.6, 11):
        damaged = bytearray(media[name])
        damaged[int(len(damaged) * share)] ^= 16
        put(server, "page", Reply(bytes(damaged), TYPES[name]))
        try:
            found, samples, rate = tones(one.get(clip()))
        except SourceError as error:
            assert error.reason in ("decode", "too short")
        else:
            assert (found, samples) == (TONES[2:4], 2 * rate)


@pytest.mark.parametrize("how", ["direct", "page"])
@pytest.mark.parametrize("name", list(TYPES))
@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_cut_in_the_middle_is_the_network(server, source, media, name, how, reset, ranges):
    put(server, how, good(media, name, cut=len(media[name]) * 2 // 5, reset=reset, ranges=ranges))
    assert reason(source()) == "network"


def test_a_page_cut_in_the_middle_is_the_network(server, source):
    server.serve("/watch/a", Reply(b"<html>" + b" " * 5000, "text/html", cut=3000))
    assert reason(source()) == "network"


@pytest.mark.parametrize("how", ["direct", "page"])
@pytest.mark.parametrize("fault", [{"hang": True}, {"stall": 3000}])
def test_silence_ends(server, source, media, how, fault):
    put(server, how, good(media, "ogg", **fault))
    assert reason(source(socket_seconds=0.3, total_seconds=2)) == "network"


@pytest.mark.parametrize("how", ["direct", "page"])
def test_a_drip_ends(server, source, media, how):
    put(server, how, good(media, "ogg", drip=0.05))
    assert reason(source(total_seconds=1)) == "network"
    assert server.sent < len(media["ogg"])


def test_silence_and_drips_of_a_page_end(server, source):
    page = b"<html>" + b" " * 200
    server.serve("/watch/a", Reply(page, "text/html", stall=100))
    assert reason(source(socket_seconds=0.3)) == "network"
    server.serve("/watch/a", Reply(page, "text/html", drip=0.02))
    assert reason(source(total_seconds=0.5)) == "network"
    assert server.sent < 100 + len(page)


def test_nobody_listens(source):
    with Loopback() as gone:
        address = gone.url("/watch/{ytid}")
    assert reason(source(address=address)) == "network"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Reply(status=403), "network"),
        (Reply(status=404), "removed"),
        (Reply(status=429), "rate-limited"),
        (Reply(status=500), "network"),
        (Reply(mute=True), "network"),
        (Reply(hang=True), "network"),
    ],
)
def test_what_only_ffmpeg_meets_has_its_reason_too(server, source, media, fault, expected):
    put(server, "page", good(media), fault)
    assert reason(source(socket_seconds=0.5, total_seconds=5)) == expected


@pytest.mark.parametrize("how", ["direct", "page"])
def test_too_many_requests_then_well(server, source, media, how):
    put(server, how, Reply(status=429, headers={"Retry-After": "7"}), good(media))
    one = source()
    with pytest.raises(SourceError) as caught:
        one.get(clip())
    assert (caught.value.reason, caught.value.retry_after) == ("rate-limited", 7.0)
    assert len(server.paths()) == (1 if how == "direct" else 2), "nothing is tried twice"
    assert tones(one.get(clip()))[0] == TONES[2:4]


def test_retry_after_is_read_in_both_its_forms():
    later = datetime.now(UTC) + timedelta(minutes=30)
    assert 0 < read_retry_after(format_datetime(later, usegmt=True)) <= 1800
    assert read_retry_after(format_datetime(later - timedelta(hours=1), usegmt=True)) == 0
    assert read_retry_after(" 120 ") == 120
    assert [read_retry_after(value) for value in (None, "", "soon", "-1", "1e9", "\u0663")] == [None] * 6
    assert read_retry_after("9" * 400) == read_retry_after("100000") == 86_400
    assert read_retry_after("Wed, 01 Jan 2031 00:00:00 +99999999999") in (None, 86_400)


def test_too_short(server, source, media):
    put(server, "page", good(media))
    one = source()
    assert reason(one, "a", 6.0, 10.0) == "too short"
    assert reason(one, "a", 8.5, 10.0) == "too short"
    assert reason(one, "a", 500.0, 510.0) == "too short"
    assert tones(one.get(clip("a", 0.0, 8.5)))[1] == SECONDS * RATE, "94 % of the span is enough"
    assert tones(source(least_share=0.5).get(clip("a", 6.0, 10.0)))[0] == TONES[6:]
    assert reason(source(least_share=0.0), "a", 7.95, 10.0) == "too short"


@pytest.mark.parametrize("content_type", ["application/vnd.apple.mpegurl", "audio/ogg"])
def test_a_playlist_reads_no_file_of_this_machine(server, source, media, tmp_path, content_type):
    (tmp_path / "secret.wav").write_bytes(media["wav"])
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:8\n#EXTINF:8,\nfile://{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n"
    put(server, "direct", Reply(playlist.encode(), content_type))
    assert reason(source()) in ("decode", "network")
