"""Containers: what recorders, pipes and phones write is read whole, and what is cut short is seen."""

import contextlib
import io
import os
import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.audio import containers, ffmpeg
from audionas.audio.containers import completed, container, mpeg_start
from audionas.audio.decode import decode
from audionas.audio.reading import DecodeError, read
from audionas.data.shards import extension

RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)


def encode(kind, subtype="PCM_16", samples=NOISE):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind, subtype=subtype)
    return file.getvalue()


def encoded(*options):
    """NOISE by ffmpeg, written to a pipe as many programs do."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "f32le", "-ar", str(RATE)]
    command += ["-ac", "1", "-i", "pipe:0", *options, "pipe:1"]
    return subprocess.run(command, input=NOISE.tobytes(), stdout=subprocess.PIPE, check=True).stdout


def reason(data):
    with pytest.raises(DecodeError) as error:
        decode(data, RATE, RATE, 0.1)
    return str(error.value)


def put(data, form, *places):
    """The file with numbers in place of others: (name of a chunk, bytes after it, value)."""
    changed = bytearray(data)
    for name, after, value in places:
        struct.pack_into(form, changed, changed.index(name) + after, value)
    return bytes(changed)


SIZES = {
    "SoX": (0x7FFFF024, 0x7FFFF000),
    "arecord": (0x80000024, 0x80000000),
    "arecord, another": (0x7FFFFFFF, 0x7FFFFFDA),
    "ffmpeg": (0xFFFFFFFF, 0xFFFFFFFF),
    "stopped": (0, 0),
    "stopped after the header": (36, 0),
}


@pytest.mark.parametrize("program", SIZES)
def test_a_wav_file_from_a_pipe_is_whole(program):
    riff, size = SIZES[program]
    data = put(encode("WAV"), "<I", (b"RIFF", 4, riff), (b"data", 4, size))
    assert np.array_equal(read(data, 9.0).mono, read(encode("WAV"), 9.0).mono)


@pytest.mark.parametrize("size", [len(NOISE) * 2 + 2, len(NOISE) * 20, 1 << 30])
def test_a_size_that_a_file_may_have_is_believed(size):
    assert reason(put(encode("WAV"), "<I", (b"data", 4, size))) == "truncated"
    assert reason(put(encode("AU"), ">I", (b".snd", 8, size))) == "truncated"
    assert reason(put(encode("CAF"), ">q", (b"data", 4, size + 4))) == "truncated"
    wide = put(encode("RF64"), "<Q", (b"ds64", 16, size))
    assert reason(put(wide, "<I", (b"data", 4, 0xFFFFFFFF))) == "truncated"
    w64 = encode("W64")
    at = w64.index(b"data\xf3\xac")
    assert reason(w64[: at + 16] + struct.pack("<Q", size + 24) + w64[at + 24 :]) == "truncated"


def test_a_wav_file_of_a_header_and_notes_has_no_samples():
    empty = encode("WAV", samples=NOISE[:0])
    notes = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"some software "
    assert reason(empty) == reason(empty + notes) == "no samples"


@pytest.mark.parametrize("kind", ["wav", "w64", "aiff", "au", "caf", "flac", "ogg", "rf64"])
def test_what_ffmpeg_writes_to_a_pipe_is_whole(kind):
    options = ["-f", "wav", "-rf64", "always"] if kind == "rf64" else ["-f", kind]
    recording = read(encoded(*options), 9.0)
    assert (recording.rate, recording.frames) == (RATE, len(NOISE))
    if kind != "ogg":
        np.testing.assert_allclose(recording.mono, NOISE, atol=2 / 32_768)


@pytest.mark.parametrize("kind", ["WAV", "W64", "AIFF", "AU", "CAF", "RF64"])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_file_cut_short_is_seen(kind, share):
    data = encode(kind)
    assert read(data, 1.0).frames == len(NOISE)
    assert reason(data[: int(len(data) * share)]) == "truncated"


def test_sox_leaves_its_own_numbers_in_aiff():
    data = put(encode("AIFF"), ">I", (b"FORM", 4, 0x7F00002E), (b"SSND", 4, 0x7F000008))
    data = put(data, ">I", (b"COMM", 10, 0x7F000000 // 2))
    assert np.array_equal(read(data, 9.0).mono, read(encode("AIFF"), 9.0).mono)


def test_flac_without_a_length_is_whole_and_its_damage_is_seen():
    data = encoded("-c:a", "flac", "-frame_size", "16", "-f", "flac")  # 2,000 blocks: numbers of two bytes
    assert data[21] & 15 == 0 and data[22:26] == bytes(4)
    np.testing.assert_allclose(read(data, 9.0).mono, NOISE, atol=2 / 32_768)
    half = len(data) // 2
    assert reason(data[:half] + bytes(64) + data[half + 64 :]) == "truncated"
    for lost in (1, 5):
        assert reason(data[:-lost]) == "truncated"


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_is_read_with_and_without_a_tag_and_behind_other_bytes(rate, channels):
    options = ["-ar", str(rate), "-ac", str(channels), "-c:a", "libmp3lame", "-write_xing", "0", "-f", "mp3"]
    plain = encoded("-id3v2_version", "0", *options)
    assert plain[:1] == b"\xff" and extension(plain) == "mp3"
    tagged = read(encoded(*options), 1.0)
    junk = np.random.default_rng(rate).integers(0, 256, 3000, np.uint8).tobytes()
    for data in (plain, b"\0" + plain, bytes(417) + plain, junk + plain):
        recording = read(data, 1.0)
        assert recording.rate == rate and recording.channels == channels
        assert abs(recording.frames - tagged.frames) <= 1152
    assert mpeg_start(junk * 40) is None


@pytest.mark.parametrize("put", [Path.touch, os.mkfifo, lambda path: path.write_bytes(encode("WAV"))])
def test_no_file_of_the_working_folder_is_taken_for_a_part_of_the_recording(tmp_path, monkeypatch, put):
    data = encoded("-id3v2_version", "0", "-c:a", "libmp3lame", "-f", "mp3")
    expected = read(data, 1.0)
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "._")
    for sound in (data, b"ID3\x03\0\0\0\0\0\0" + data, b"\0" + data):
        assert np.array_equal(read(sound, 1.0).mono, expected.mono)
    for kind in ("wav", "flac", "ogg", "aiff", "w64", "caf", "au"):
        assert read(encoded("-f", kind), 1.0).frames == len(NOISE)
    assert reason(b"\0" * 5000) == reason(b"<html></html>" * 99) == "not audio"


@pytest.mark.parametrize(
    ("kind", "options"),
    {
        "m4a": ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4"],
        "aac": ["-c:a", "aac", "-f", "adts"],
        "webm": ["-c:a", "libopus", "-f", "webm"],
        "wma": ["-c:a", "wmav2", "-f", "asf"],
    }.items(),
)
def test_what_phones_and_browsers_record_is_decoded_by_ffmpeg(kind, options):
    data = encoded(*options)
    assert extension(data) == kind
    result = decode(data, RATE, RATE, 0.1)
    assert result.note.endswith(f"ffmpeg:{ffmpeg.version(ffmpeg.find())}")
    assert abs(result.seconds - 2) < 0.15
    power = [np.abs(np.fft.rfft(wave[4000:12_000])) ** 2 for wave in (result.waveform, NOISE)]
    ours, theirs = (p[:2000].sum() for p in power)  # below 4 kHz
    assert abs(10 * np.log10(ours / theirs)) < 1
    if kind != "wma":  # whose end nothing marks
        assert reason(data[: len(data) * 6 // 10]) in ("truncated", "damaged", "not audio")


def test_a_tag_before_aac_is_passed_over():
    adts = encoded("-c:a", "aac", "-f", "adts")
    assert container(b"ID3\x04\0\0\0\0\1\0" + bytes(128) + adts).demuxer == "aac"


def test_without_ffmpeg_the_container_is_named(monkeypatch, tmp_path):
    data = encoded("-c:a", "aac", "-f", "adts")
    monkeypatch.setenv("AUDIONAS_FFMPEG", str(tmp_path / "none"))
    assert reason(data) == "needs ffmpeg (aac)"


@pytest.mark.parametrize("name", ["secret.wav", "http://127.0.0.1:9/a.wav"])
def test_no_data_makes_ffmpeg_open_something_else(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.wav").write_bytes(encode("WAV"))
    for listing in (f"#EXTM3U\n#EXTINF:2,\n{name}\n", f"ffconcat version 1.0\nfile '{name}'\n"):
        assert reason(listing.encode()) == "not audio"
        for kind in ("mov", "matroska", "aac", "asf"):
            program = ffmpeg.find()
            with pytest.raises(ffmpeg.FfmpegError), ffmpeg.Decoding(program, listing.encode(), kind) as heard:
                list(heard.blocks(1000))


HEADS = [b"fLaC", b"RIFF\0\0\0\0WAVE", b"RF64\0\0\0\0WAVEds64", b"FORM\0\0\0\0AIFF", b"caff", b".snd"]
HEADS += [containers._W64, b"OggS", b"ID3", b"\xff\xfb\x90\x64", b""]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=200))
def test_any_bytes_have_a_kind_and_a_size(head, rest):
    data = head + rest
    assert container(data).extension
    mpeg_start(data)
    with contextlib.suppress(containers.Truncated):
        assert len(completed(data)) == len(data)
