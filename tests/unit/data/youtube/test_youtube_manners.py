"""How the YouTube source behaves: cookies, proxies, pauses, options, and what it leaves behind."""

import io
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg
import pytest
from loopback import Reply
from videos import GONE, TONES, clip, good, player, put, reason, tones
from yt_dlp.extractor.youtube import YoutubeIE

from audionas.data.sources import youtube
from audionas.data.sources.base import SourceError
from audionas.runtime.errors import UserError

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


@pytest.mark.parametrize("playlist", [False, True])
def test_no_secret_is_an_argument_of_ffmpeg(server, source, media, tmp_path, monkeypatch, playlist):
    """Anyone may read a process's arguments; a playlist may name any host, and gets no cookie either."""
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(f"# Netscape HTTP Cookie File\n\n{COOKIE.replace('secret', 'sesame')}")
    wrapper, told = tmp_path / "ffmpeg", tmp_path / "told"
    wrapper.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{told}"\nexec "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@"\n'
    )
    wrapper.chmod(0o755)
    put(server, "direct", good(media, headers={"Set-Cookie": "visitor=open-sesame"}))
    find = youtube._Client.extract_info

    def extract(self, *args, **options):
        info = find(self, *args, **options)
        protocol = {"protocol": "m3u8_native"} if playlist else {}
        return info | protocol | {"http_headers": {"User-Agent": "x", "Authorization": "Basic open-sesame"}}

    monkeypatch.setattr(youtube._Client, "extract_info", extract)
    with source(cookies=cookies) as one:
        one._ffmpeg = str(wrapper)
        assert tones(one.get(clip()))[0] == TONES[2:4]
    assert "-map_metadata" in told.read_text() and "sesame" not in told.read_text()
    media_seen = [request.headers for request in server.seen if request.path == "/watch/a"]
    assert "SID=sesame" in media_seen[-1].get("Cookie", "") or playlist


@pytest.mark.parametrize("key", ["proxy", "address"])
def test_a_password_in_the_parameters_is_refused_and_not_told(source, key):
    with pytest.raises(UserError, match=rf"corpus\.youtube\.{key}: .*environment|remove it") as caught:
        source(**{key: "http://me:topsecret@proxy.invalid/{ytid}"})
    assert "topsecret" not in str(caught.value)


def test_what_ffmpeg_says_of_a_signed_address_is_kept_without_the_signature(server, source, media):
    put(server, "page", good(media))
    server.serve(
        "/watch/a", Reply(b'<title>t</title><audio src="/media?sig=topsecret"></audio>', "text/html")
    )
    server.serve("/media?sig=topsecret", good(media, cut=100, reset=True))
    with pytest.raises(SourceError) as caught:
        source().get(clip())
    assert "topsecret" not in str(caught.value) + caught.value.detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"# Netscape HTTP Cookie File\n{COOKIE}127.0.0.1 FALSE / FALSE 0 SID topsecret\n", "line 3"),
        (
            f"# Netscape HTTP Cookie File\n{COOKIE.replace('0', 'soon').replace('secret', 'topsecret')}",
            "line 2",
        ),
        (COOKIE, "export it again"),
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
    with pytest.raises(UserError, match=r"none\.txt.*fix the path"):
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
    mine = [record for record in caplog.records if record.name == "audionas.data.sources.youtube"]
    assert mine and {record.levelno for record in mine} == {logging.DEBUG}
    assert sorted(home.rglob("*")) == before and list(here.iterdir()) == []


def test_the_pinned_ffmpeg_is_used_unless_the_user_names_another(
    server, source, media, tmp_path, monkeypatch
):
    wrapper = tmp_path / "ffmpeg"
    wrapper.write_text(
        f'#!/bin/sh\necho >> "{tmp_path}/used"\nexec "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    put(server, "direct", good(media))
    assert tones(source().get(clip()))[0] == TONES[2:4]
    assert not Path(tmp_path, "used").exists(), "what PATH names is not used"
    monkeypatch.setenv("AUDIONAS_FFMPEG", str(wrapper))
    one = source()
    assert tones(one.get(clip()))[0] == TONES[2:4]
    assert Path(tmp_path, "used").exists()
    assert re.fullmatch(r"youtube \(ffmpeg [\w.+~-]+\)", one.label)


def test_an_ffmpeg_must_be_there(source, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIONAS_FFMPEG", str(tmp_path / "none"))
    with pytest.raises(UserError, match="cannot be run; set AUDIONAS_FFMPEG"):
        source()
    monkeypatch.delenv("AUDIONAS_FFMPEG")

    def none():
        raise RuntimeError("no ffmpeg")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    with pytest.raises(UserError, match="set AUDIONAS_FFMPEG"):
        source()


def test_a_pipe_in_the_place_of_cookies_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "cookies.txt")
    with pytest.raises(UserError, match=r"cookies\.txt is not a cookies file"):
        youtube.Youtube(cookies=tmp_path / "cookies.txt")


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "2000"}])
def test_a_file_without_a_length_is_copied_no_further_than_the_limit(tmp_path, monkeypatch, headers):
    answer = Answer(bytes(1 << 20))
    answer.headers = headers
    monkeypatch.setattr(youtube, "_ask", lambda *_: answer)
    monkeypatch.setattr(youtube, "_LARGEST", 1000)
    with pytest.raises(SourceError, match="more than 1000 bytes"):
        youtube.Youtube()._fetch(None, {}, tmp_path / "whole")
    assert (tmp_path / "whole").stat().st_size <= youtube._BLOCK


class Answer(io.BytesIO):
    """A server's."""
