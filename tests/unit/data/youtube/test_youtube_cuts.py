"""YouTube as a source: the right seconds, to the sample."""

import io
import subprocess
from concurrent.futures import ThreadPoolExecutor

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from loopback import Reply
from videos import RATE, TONES, TYPES, clip, encoded, good, put, reason, recording, tones

pytestmark = pytest.mark.usefixtures("each_ffmpeg")


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


NOISE = np.random.default_rng(1).normal(0, 0.1, 8 * 48_000)
CONTAINERS = {
    "opus.webm": ["-c:a", "libopus", "-b:a", "128k"],
    "vorbis.webm": ["-c:a", "libvorbis"],
    "opus.ogg": ["-c:a", "libopus"],
    "aac.mkv": ["-c:a", "aac"],
    "mp3.mkv": ["-c:a", "libmp3lame"],
    "aac.m4a": ["-c:a", "aac"],
    "lame.mp3": ["-c:a", "libmp3lame"],
}


@pytest.mark.parametrize("name", list(CONTAINERS))
def test_a_cut_begins_where_it_should_in_what_was_encoded(server, source, tmp_path, name):
    soundfile.write(tmp_path / "a.wav", NOISE, 48_000)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", tmp_path / "a.wav"]
    subprocess.run([*command, "-af", "lowpass=5000", *CONTAINERS[name], tmp_path / name], check=True)
    put(server, "page", Reply((tmp_path / name).read_bytes(), "audio/webm"))
    one = source()
    for start in (0.0, 2.0):
        cut, _ = soundfile.read(io.BytesIO(one.get(clip(start=start, end=start + 4))))
        assert len(cut) == pytest.approx(4 * 48_000, abs=48)
        size, at = 1 << 16, round((start + 1) * 48_000)
        spectrum = np.fft.rfft(NOISE[at : at + size]) * np.conj(np.fft.rfft(cut[48_000 : 48_000 + size]))
        lag = (np.fft.irfft(spectrum).argmax() + size // 2) % size - size // 2
        assert abs(lag) <= 48 + 32, "samples at 48 kHz: Matroska's millisecond, and the filter's delay"


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
