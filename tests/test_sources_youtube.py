"""YouTube as a source: the right seconds to the sample, and the right reason for all that goes wrong."""

import io
import logging
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from loopback import Loopback, Reply
from yt_dlp.extractor.youtube import YoutubeIE

from audionas.corpora.base import Clip
from audionas.errors import UserError
from audionas.sources import youtube
from audionas.sources.answers import read_message
from audionas.sources.base import SourceError, read_retry_after
from audionas.sources.youtube import Youtube

RATE, SECONDS = 22_050, 8
TONES = [300 + 100 * second for second in range(SECONDS)]  # Hz, one a second
TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "webm": "audio/webm",
    "m4a": "audio/mp4",
}


def recording(channels=1, rate=RATE):
    """int16 [samples, channels]: another tone every second, seeded noise, channels of other loudness."""
    t = np.arange(SECONDS * rate) / rate
    wave = np.sin(2 * np.pi * np.array(TONES)[t.astype(int)] * t) * 0.5
    wave += np.random.default_rng(0).normal(0, 0.01, len(wave))
    return np.stack([(wave * 32_000 / (n + 1)).astype(np.int16) for n in range(channels)], axis=1)


def encoded(samples, rate, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
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


def clip(ytid="a", start=2.0, end=4.0):
    return Clip("c", source=ytid, origin=ytid, labels=(), start=start, end=end)


def put(server, how, *replies, ytid="a"):
    """Serve replies at the address itself, or the first of them on a page with an audio element."""
    if how == "page":
        page = b'<html><head><title>t</title></head><body><audio src="/media"></audio></body></html>'
        server.serve(f"/watch/{ytid}", Reply(page, "text/html"))
        server.serve("/media", *replies)
    else:
        server.serve(f"/watch/{ytid}", *replies)


def good(media, name="flac", **faults):
    return Reply(media[name], TYPES[name], **faults)


def reason(source, *args):
    with pytest.raises(SourceError) as caught:
        source.get(clip(*args))
    return caught.value.reason


def tones(data):
    """The loudest frequency of each second, in Hz, and the number of samples."""
    samples, rate = soundfile.read(io.BytesIO(data))
    whole = len(samples) // rate * rate
    spectra = np.abs(np.fft.rfft(samples[:whole].reshape(-1, rate), axis=1))
    return list(spectra.argmax(axis=1)), len(samples), rate


# -- what is got


@pytest.mark.parametrize("how", ["direct", "page"])
@pytest.mark.parametrize("name", list(TYPES))
@pytest.mark.parametrize("ranges", [True, False])
def test_the_wanted_seconds_are_cut(server, source, media, name, how, ranges):
    put(server, how, good(media, name, ranges=ranges))
    found, samples, rate = tones(source().get(clip()))
    assert found == TONES[2:4]
    assert rate == (48_000 if name == "webm" else RATE)  # Opus knows no other
    assert samples == 2 * rate


@pytest.mark.parametrize(
    ("start", "end"), [(2.0, 4.0), (0.0, 2.0), (1.2, 3.5), (0.4, 0.9), (7.0, 8.0), (6.0, None), (None, None)]
)
@pytest.mark.parametrize("name", ["wav", "flac"])
def test_lossless_audio_is_the_same_to_the_bit(server, source, media, name, start, end):
    put(server, "page", good(media, name))
    data = source().get(clip(start=start, end=end))
    samples, _ = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    first, last = round((start or 0) * RATE), None if end is None else round(end * RATE)
    assert np.array_equal(samples, recording()[first:last])
    assert data == source().get(clip(start=start, end=end)), "the same bytes each time"
    assert b"Lavf" not in data, "nor do they tell ffmpeg's version"


@pytest.mark.parametrize("name", ["webm", "m4a"])
def test_a_lossy_cut_is_what_is_heard_there_in_the_whole(server, source, media, name):
    put(server, "page", good(media, name))
    one = source()
    whole, rate = soundfile.read(io.BytesIO(one.get(clip(start=None, end=None))))
    cut, _ = soundfile.read(io.BytesIO(one.get(clip())))
    # WebM's times are rounded to a millisecond; without the frames before the start would be off.
    lags = range(-rate // 500, rate // 500 + 1)
    assert min(np.abs(cut - whole[2 * rate + lag : 4 * rate + lag]).max() for lag in lags) < 0.01


def test_channels_and_rate_stay(server, source):
    samples = recording(channels=2, rate=32_000)
    put(server, "page", Reply(encoded(samples, 32_000, format="WAV"), "audio/wav"))
    got, rate = soundfile.read(io.BytesIO(source().get(clip())), dtype="int16")
    assert rate == 32_000
    assert np.array_equal(got, samples[64_000:128_000])


@pytest.mark.parametrize(
    "ytid", ["--PJHxphWEs", "-0RWZT-miFs", "../../etc", "a b&c=d#e?f", "{ytid}", "x" * 300]
)
def test_an_id_is_never_anything_but_an_id(server, source, media, ytid):
    put(server, "direct", good(media), ytid=ytid)
    assert tones(source().get(clip(ytid)))[0] == TONES[2:4]
    assert set(server.paths()) == {f"/watch/{ytid}"}


def test_only_a_part_of_a_long_recording_is_read(server, source):
    long = np.random.default_rng(0).normal(0, 3000, 600 * 8000).astype(np.int16)
    put(server, "page", Reply(encoded(long, 8000, format="WAV"), "audio/wav"))
    before = server.sent
    got, _ = soundfile.read(io.BytesIO(source().get(clip(start=300.0, end=310.0))), dtype="int16")
    assert np.array_equal(got, long[2_400_000:2_480_000])
    assert server.sent - before < len(long) * 2


def test_threads_do_not_mix(server, source, media):
    for number in range(6):
        put(server, "direct", good(media), ytid=f"v{number}")
    one = source()
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda n: tones(one.get(clip(f"v{n}", float(n), n + 2.0)))[0], range(6)))
    assert got == [TONES[n : n + 2] for n in range(6)]


def test_the_first_recording_of_a_page_counts(server, source, media):
    page = (
        b'<html><head><title>t</title></head><body><audio src="/media"></audio><audio src="/other"></audio>'
    )
    server.serve("/watch/a", Reply(page, "text/html"))
    server.serve("/media", good(media))
    assert tones(source().get(clip()))[0] == TONES[2:4]


@pytest.fixture
def stream(server, media, tmp_path):
    """Serves the recording as an HLS playlist of one-second segments."""
    (tmp_path / "a.m4a").write_bytes(media["m4a"])
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        "-i",
        "a.m4a",
        "-c",
        "copy",
        "-hls_time",
        "1",
    ]
    subprocess.run(
        [*command, "-hls_list_size", "0", "-hls_segment_filename", "%d.ts", "a.m3u8"],
        cwd=tmp_path,
        check=True,
    )
    playlist = (tmp_path / "a.m3u8").read_bytes()
    server.serve("/watch/a", Reply(playlist, "application/vnd.apple.mpegurl"))
    for segment in tmp_path.glob("*.ts"):
        server.serve(f"/watch/{segment.name}", Reply(segment.read_bytes(), "video/mp2t"))


def test_a_stream_is_cut_too(server, source, stream):
    assert tones(source().get(clip()))[0] == TONES[2:4]
    assert "/watch/6.ts" not in server.paths()


@pytest.mark.parametrize("fault", [Reply(status=500), Reply(status=403), Reply(mute=True)])
def test_a_stream_with_a_hole_gives_no_clip(server, source, stream, fault):
    for number in (2, 3):
        server.serve(f"/watch/{number}.ts", fault)
    assert reason(source()) == "network"


# -- what goes wrong

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


# -- what YouTube says, through yt-dlp's own extractor


def player(status, said, more=""):
    """A player response of YouTube's with an error screen."""
    screen = {"reason": {"simpleText": said}, "subreason": {"simpleText": more}}
    return {
        "playabilityStatus": {
            "status": status,
            "reason": said,
            "errorScreen": {"playerErrorMessageRenderer": screen},
        }
    }


BOT = "Sign in to confirm you\u2019re not a bot"
GONE = "Video unavailable"


@pytest.mark.parametrize(
    ("status", "said", "more", "expected"),
    [
        ("ERROR", GONE, "", "removed"),
        ("ERROR", GONE, "This video has been removed by the uploader", "removed"),
        ("ERROR", "This video has been removed for violating YouTube's Terms of Service", "", "removed"),
        (
            "ERROR",
            GONE,
            "This video is no longer available because the YouTube account associated with this video has "
            "been terminated.",
            "removed",
        ),
        ("ERROR", GONE, "This video is no longer available due to a copyright claim by X", "removed"),
        ("ERROR", "This video is not available", "", "removed"),
        ("ERROR", GONE, "This content isn\u2019t available.", "removed"),
        (
            "LOGIN_REQUIRED",
            "Private video",
            "Sign in if you've been granted access to this video",
            "private",
        ),
        ("LOGIN_REQUIRED", "This video is private", "", "private"),
        (
            "UNPLAYABLE",
            "Join this channel to get access to members-only content like this video.",
            "",
            "private",
        ),
        ("UNPLAYABLE", "This video requires payment to watch.", "", "private"),
        (
            "UNPLAYABLE",
            GONE,
            "The uploader has not made this video available in your country",
            "geo-blocked",
        ),
        (
            "UNPLAYABLE",
            GONE,
            "This video contains content from X, who has blocked it in your country on copyright grounds",
            "geo-blocked",
        ),
        (
            "LOGIN_REQUIRED",
            "Sign in to confirm your age",
            "This video may be inappropriate for some users.",
            "age-restricted",
        ),
        ("LOGIN_REQUIRED", BOT, "This helps protect our community. Learn more", "rate-limited"),
        ("UNPLAYABLE", "This content isn't available, try again later.", "", "rate-limited"),
        ("UNPLAYABLE", GONE, "This content isn't available, try again later.", "rate-limited"),
        ("LIVE_STREAM_OFFLINE", "This live event will begin in 2 hours.", "", "network"),
        ("UNPLAYABLE", "The page needs to be reloaded.", "", "network"),
        ("OK", "", "", "network"),
    ],
)
def test_what_youtube_says_has_its_reason(source, monkeypatch, status, said, more, expected):
    def answer(*_):
        return "", {}, {}, False, [player(status, said, more)], None

    monkeypatch.setattr(YoutubeIE, "_initial_extract", answer)
    one = source(address=youtube.ADDRESS)
    with pytest.raises(SourceError) as caught:
        one.get(clip("--PJHxphWEs"))
    assert caught.value.reason == expected
    assert "--PJHxphWEs" in caught.value.detail


@pytest.mark.parametrize(
    ("status", "expected"), [(404, "network"), (410, "network"), (429, "rate-limited"), (403, "network")]
)
def test_an_address_that_youtube_gave_up_is_no_removed_video(server, source, monkeypatch, status, expected):
    server.serve("/api", Reply(status=status))

    def ask(self, *_):
        self._download_webpage(server.url("/api"), "a")

    monkeypatch.setattr(YoutubeIE, "_initial_extract", ask)
    assert reason(source(address=youtube.ADDRESS), "--PJHxphWEs") == expected


def test_media_that_youtube_does_not_find_are_no_removed_video(server, source, monkeypatch, media):
    server.serve("/media", good(media), good(media), Reply(status=404))

    def describe(self, url):
        return {"id": "a", "title": "t", "url": server.url("/media"), "ext": "flac", "vcodec": "none"}

    monkeypatch.setattr(YoutubeIE, "_real_extract", describe)
    one = source(address=youtube.ADDRESS)
    assert reason(one, "--PJHxphWEs") == "network", "ffmpeg"
    assert reason(one, "--PJHxphWEs") == "network", "yt-dlp"
    server.serve("/media", good(media))
    assert tones(one.get(clip("--PJHxphWEs")))[0] == TONES[2:4]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "[youtube] a: All player responses are invalid. Your IP is likely being blocked by Youtube",
            "rate-limited",
        ),
        ("Please solve this. YouTube is requiring a captcha challenge before playback", "rate-limited"),
        ("This video is not available from your location due to geo restriction", "geo-blocked"),
        ("This video is DRM protected", "private"),
        ("[youtube] a: Requested format is not available. Use --list-formats", "network"),
        ("[youtube] a: Failed to extract any player response", "network"),
        ("This content isn\u2019t available", "removed"),
        ("", "network"),
    ],
)
def test_what_yt_dlp_says_has_its_reason(said, expected):
    assert read_message(said) == expected


def test_an_exception_that_nobody_foresaw_is_the_network(source, monkeypatch):
    def fail(*_):
        raise RecursionError("a page without end")

    monkeypatch.setattr(YoutubeIE, "_initial_extract", fail)
    assert reason(source(address=youtube.ADDRESS), "--PJHxphWEs") == "network"


# -- how it behaves

COOKIE = "127.0.0.1\tFALSE\t/\tFALSE\t0\tSID\tsecret\n"


def test_cookies_go_with_every_request_and_the_file_stays(server, source, media, tmp_path):
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(f"# Netscape HTTP Cookie File\n\n{COOKIE}")
    before = cookies.read_bytes()
    put(server, "page", good(media, headers={"Set-Cookie": "visitor=1"}))
    with source(cookies=cookies) as one:
        one.get(clip())
    assert len(server.seen) > 2
    assert all("SID=secret" in request.headers["Cookie"] for request in server.seen)
    assert cookies.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"# Netscape HTTP Cookie File\n{COOKIE}127.0.0.1 FALSE / FALSE 0 SID topsecret\n", "line 3"),
        (
            f"# Netscape HTTP Cookie File\n{COOKIE.replace('0', 'soon').replace('secret', 'topsecret')}",
            "line 2",
        ),
        (COOKIE, "export it anew"),
        ("[{}]", "line 1"),
    ],
)
def test_a_bad_cookies_file_is_refused_without_telling_its_secret(source, tmp_path, capfd, text, message):
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(text)
    with pytest.raises(UserError, match=rf"cookies\.txt.*{message}") as caught:
        source(cookies=cookies)
    assert "secret" not in str(caught.value) + "".join(capfd.readouterr())


def test_a_missing_cookies_file_is_refused(source, tmp_path):
    with pytest.raises(UserError, match=r"none\.txt.*mend the path"):
        source(cookies=tmp_path / "none.txt")


def test_all_requests_go_through_the_proxy(server, source, media):
    page = (
        b'<html><head><title>t</title></head><body><audio src="http://media.invalid/x"></audio></body></html>'
    )
    server.serve("http://video.invalid/watch/a", Reply(page, "text/html"))
    for address in ("http://media.invalid/x", "http://media.invalid:80/x"):  # ffmpeg writes the port
        server.serve(address, good(media))
    one = source(address="http://video.invalid/watch/{ytid}", proxy=server.url(""))
    assert tones(one.get(clip()))[0] == TONES[2:4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "https://youtube.invalid/"}, "youtube.address"),
        ({"address": "--exec={ytid}"}, "youtube.address"),
        ({"proxy": "socks5://localhost:9050"}, "youtube.proxy"),
    ],
)
def test_parameters_that_cannot_be_are_refused(source, options, message):
    with pytest.raises(UserError, match=message):
        source(**options)


def test_client_options_reach_the_extractor(source, monkeypatch):
    seen = []

    def look(self, *_):
        seen.append(self._configuration_arg("player_client"))
        return "", {}, {}, False, [player("ERROR", GONE)], None

    monkeypatch.setattr(YoutubeIE, "_initial_extract", look)
    one = source(address=youtube.ADDRESS, client={"youtube": {"player_client": ["tv", "web"]}})
    assert reason(one, "--PJHxphWEs") == "removed"
    assert seen == [["tv", "web"]]


def test_pauses_are_kept_by_all_threads_together(source, monkeypatch):
    slept = []
    monkeypatch.setattr(youtube.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(youtube.time, "sleep", slept.append)
    one = source(pause_seconds=2.0)
    with ThreadPoolExecutor(4) as pool:
        waits = list(pool.map(lambda _: one.wait_for_turn(), range(4)))
    assert sorted(slept) == sorted(waits) == [0.0, 2.0, 4.0, 6.0]


def test_pauses_do_not_count(server, source, media, monkeypatch):
    put(server, "direct", good(media))
    one, clock, paused = source(pause_seconds=1.0), youtube.time.monotonic, []

    def pause():
        paused.append(1000.0)
        return 1000.0

    monkeypatch.setattr(one, "wait_for_turn", pause)
    monkeypatch.setattr(youtube.time, "monotonic", lambda: clock() + sum(paused))
    assert tones(one.get(clip()))[0] == TONES[2:4]
    assert len(paused) == 2


def test_media_that_are_to_come_are_waited_for_or_given_up(server, source, media, monkeypatch):
    put(server, "direct", good(media))
    now, slept = youtube.time.time(), []
    find = youtube._Client.extract_info

    def wait(seconds):
        def extract(self, *args, **options):
            return {**find(self, *args, **options), "available_at": now + seconds}

        monkeypatch.setattr(youtube._Client, "extract_info", extract)

    monkeypatch.setattr(youtube.time, "sleep", lambda seconds: slept.append(seconds))
    wait(60)
    assert tones(source().get(clip()))[0] == TONES[2:4]
    assert 0 < max(slept) <= 60
    wait(600)
    assert reason(source(total_seconds=100)) == "network"


def test_it_is_quiet_and_writes_nothing_elsewhere(
    server, source, media, tmp_path, monkeypatch, capfd, caplog
):
    home, here = tmp_path / "home", tmp_path / "here"
    (home / ".config/yt-dlp").mkdir(parents=True)
    here.mkdir()
    (home / ".config/yt-dlp/config").write_text("--proxy http://127.0.0.1:1\n--verbose\n")
    before = sorted(home.rglob("*"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.chdir(here)
    caplog.set_level(logging.DEBUG)
    one = source()
    put(server, "page", good(media))
    one.get(clip())
    put(server, "page", Reply(media["ogg"][:9000], "audio/ogg"))
    assert reason(one) in ("decode", "too short")
    assert reason(one, "other") == "removed"

    def remember(self, *_):
        self.cache.store("youtube-player", "code", {})
        return "", {}, {}, False, [player("ERROR", GONE)], None

    monkeypatch.setattr(YoutubeIE, "_initial_extract", remember)
    assert reason(source(address=youtube.ADDRESS), "--PJHxphWEs") == "removed"
    assert capfd.readouterr() == ("", "")
    mine = [record for record in caplog.records if record.name == "audionas.sources.youtube"]
    assert mine and {record.levelno for record in mine} == {logging.DEBUG}
    assert sorted(home.rglob("*")) == before and list(here.iterdir()) == []


def test_the_systems_ffmpeg_comes_first_and_one_must_be_there(server, source, media, tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / "ffmpeg"
    wrapper.write_text(
        f'#!/bin/sh\necho >> "{tmp_path}/used"\nexec "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    put(server, "direct", good(media))
    assert tones(source().get(clip()))[0] == TONES[2:4]
    assert Path(tmp_path, "used").exists()

    def none():
        raise RuntimeError("no ffmpeg")

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    with pytest.raises(UserError, match="ffmpeg"):
        source()
