"""What YouTube says, through yt-dlp's own extractor, read as reasons."""

import pytest
from loopback import Reply
from videos import GONE, TONES, clip, good, player, reason, tones
from yt_dlp.extractor.youtube import YoutubeIE

from audionas.data.sources import youtube
from audionas.data.sources.base import SourceError
from audionas.data.sources.failures import read_message

BOT = "Sign in to confirm you\u2019re not a bot"


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
