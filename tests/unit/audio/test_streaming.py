"""Streams: any length in blocks gives the waveform of the whole file, or the same error."""

import io
import itertools
import mmap
import struct
import subprocess
import tempfile

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.audio import streaming
from audionas.audio.containers import missing_sizes
from audionas.audio.reading import DecodeError, read
from audionas.audio.streaming import open_stream, raw_stream, sample_stream, spooled, waveform

RATE = 16_000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (3 * 44_100 + 137, 2)).astype(np.float32)
WAV = {"format": "WAV", "subtype": "PCM_16"}


def encode(samples=NOISE, rate=44_100, **how):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **how)
    return file.getvalue()


def by_ffmpeg(*options):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "wav", "-i", "pipe:0"]
    with tempfile.NamedTemporaryFile(suffix=f".{options[-1]}") as file:
        command += ["-y", *options[:-1], "-f", options[-1], file.name]
        subprocess.run(command, input=encode(**WAV), check=True)
        return file.read()


def streamed(data, rate=RATE):
    """The waveform of encoded bytes, through a real file."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        with open_stream(file) as stream:
            return np.concatenate(list(waveform(stream, rate))), stream


def whole(data, rate=RATE):
    """The same from the reader of whole files."""
    recording = read(data, 10.0)
    assert len(recording.mono) == recording.frames
    return soxr.resample(recording.mono, recording.rate, rate, "HQ").clip(-1, 1)


def unknown_sizes(data, at):
    return data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]


WAV_DATA = encode(**WAV)
FILES = {
    "wav": WAV_DATA,
    "float wav": encode(format="WAV", subtype="FLOAT"),
    "wav of a pipe": unknown_sizes(unknown_sizes(WAV_DATA, 4), 40),
    "flac": encode(format="FLAC"),
    "ogg": encode(format="OGG"),
    "opus": encode(soxr.resample(NOISE, 44_100, 48_000), 48_000, format="OGG", subtype="OPUS"),
    "mp3": encode(format="MP3"),
    "mp3 in another header": b"\0" * 999 + encode(format="MP3"),
    "aiff": encode(format="AIFF"),
    "w64": encode(format="W64"),
    "caf": encode(format="CAF"),
    "au": encode(format="AU"),
    "8 channels, 96 kHz": encode(np.tile(NOISE, (1, 4)), 96_000, **WAV),
    "as the network": encode(NOISE[:, :1], RATE, **WAV),
}


@pytest.mark.parametrize("block", [1000, 65_536])
@pytest.mark.parametrize("name", FILES)
def test_a_stream_is_the_whole_file_to_the_bit(name, block, monkeypatch):
    if name != "opus":  # libsndfile 1.2.2 decodes the last packet of Opus otherwise in small blocks
        monkeypatch.setattr(streaming, "_BLOCK", block)
    got, stream = streamed(FILES[name])
    assert np.array_equal(got, whole(FILES[name]))
    assert stream.seconds is None or stream.seconds == pytest.approx(len(got) / RATE, abs=0.1)


@pytest.mark.parametrize("name", ["flac", "mp3", "mp3 in another header"])
def test_a_system_without_paths_of_descriptors_reads_the_same(name, monkeypatch):
    monkeypatch.setattr(streaming, "_named", lambda file: file.seek(0) or file)
    assert np.array_equal(streamed(FILES[name])[0], whole(FILES[name]))


@pytest.mark.parametrize(
    "options", [("-c:a", "aac", "ipod"), ("-c:a", "aac", "adts"), ("-c:a", "libopus", "webm")]
)
def test_what_ffmpeg_decodes_is_streamed_from_the_file(options):
    data = by_ffmpeg(*options)
    assert np.array_equal(streamed(data)[0], whole(data))
    assert len(streamed(data)[0]) > 2.9 * RATE


BAD = {
    "empty": b"",
    "no samples": encode(NOISE[:0], **WAV),
    "not audio": b"<html></html>" * 99,
    "half of a wav": WAV_DATA[: len(WAV_DATA) // 2],
    "half of a flac": FILES["flac"][: len(FILES["flac"]) // 2],
    "half of an ogg": FILES["ogg"][: len(FILES["ogg"]) // 2],
    "half of an m4a": by_ffmpeg("-c:a", "aac", "ipod")[:20_000],
    "a hole in a flac": FILES["flac"][:400_000] + bytes(50_000) + FILES["flac"][450_000:],
    "NaN": encode(
        np.where(np.arange(len(NOISE))[:, None] == 99_999, np.nan, NOISE), format="WAV", subtype="FLOAT"
    ),
    "low rate": encode(NOISE[:900], 900, **WAV),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_has_the_reason_of_the_whole_reader(name):
    with pytest.raises(DecodeError) as expected:
        read(BAD[name], 10.0)
    with pytest.raises(DecodeError) as error:
        streamed(BAD[name])
    assert str(error.value).startswith(str(expected.value))


def test_damage_says_where_it_is_after_the_sound_before_it():
    blocks, frames = [], 0
    with tempfile.TemporaryFile() as file:
        file.write(BAD["a hole in a flac"])
        file.flush()
        with open_stream(file) as stream, pytest.raises(DecodeError, match=r"truncated after \d\.\d s"):
            for block in waveform(stream, RATE):
                blocks.append(block)
                frames += len(block)
    assert frames > RATE // 2


def test_a_header_without_a_length_is_refused_if_it_cannot_hold_it():
    with tempfile.TemporaryFile() as file:
        file.write(FILES["wav of a pipe"])
        file.truncate((4 << 30) + 100)  # sparse
        with pytest.raises(DecodeError, match="no length"), open_stream(file):
            pass


@pytest.mark.parametrize("stated", [0x7FFFF000, 0xFFFFFFFF, 0, 3 << 30, (3 << 30) - 1])
def test_the_size_of_a_long_file_is_the_rest_of_it_unless_it_is_right(stated):
    """SoX writes 0x7FFFF000 to a pipe, which a file of 3 GiB exceeds; nothing after it would be read."""
    header = bytearray(WAV_DATA[:44])
    struct.pack_into("<I", header, 40, stated)
    length = 44 + (3 << 30)
    with tempfile.TemporaryFile() as file:
        file.write(header)
        file.truncate(length)  # sparse
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            sizes = {at: value for at, _, value in missing_sizes(data)}
    assert sizes.get(40, stated) == (3 << 30 if stated != (3 << 30) - 1 else stated)
    assert bool(sizes) == (stated not in (3 << 30, (3 << 30) - 1))


def test_channels_that_cancel_are_told_and_silence_is_not_an_error():
    opposite = np.stack([NOISE[:, 0], -NOISE[:, 0]], 1)
    with pytest.raises(DecodeError, match="channels cancel"):
        streamed(encode(opposite, format="WAV", subtype="FLOAT"))
    assert not streamed(encode(0 * NOISE, **WAV))[0].any()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=12),
    st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000]),
    st.sampled_from([16_000, 32_000]),
)
def test_the_sizes_of_blocks_change_no_sample(sizes, rate, wanted):
    edges = np.cumsum([0, *sizes])
    samples = NOISE[: edges[-1]]
    parts = [samples[a:b] for a, b in itertools.pairwise(edges)]
    if not edges[-1]:
        with pytest.raises(DecodeError, match="no samples"):
            list(waveform(sample_stream(parts, rate), wanted))
        return
    got = np.concatenate(list(waveform(sample_stream(iter(parts), rate), wanted)))
    expected = soxr.resample(samples.mean(axis=1, dtype=np.float32), rate, wanted, "HQ").clip(-1, 1)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("kind", streaming.RAW)
@pytest.mark.parametrize("channels", [1, 2])
def test_raw_samples_are_those_of_a_file(kind, channels):
    subtype = {"s16le": "PCM_16", "s32le": "PCM_32", "u8": "PCM_U8", "f32le": "FLOAT"}[kind]
    data = encode(NOISE[:, :channels], format="WAV", subtype=subtype)
    size = len(NOISE) * channels * np.dtype(streaming.RAW[kind]).itemsize
    at = data.index(b"data") + 8
    raw = io.BytesIO(data[at : at + size] + b"\1" * (size // len(NOISE) - 1))  # an incomplete sample
    got = np.concatenate(list(waveform(raw_stream(raw, 44_100, channels, kind), RATE)))
    assert np.array_equal(got, streamed(data)[0])


@pytest.mark.parametrize("name", ["wav", "flac", "ogg"])
def test_a_file_in_place_of_raw_samples_is_told(name):
    with pytest.raises(ValueError, match=rf"an encoded file \({name}\), not raw samples; omit the rate"):
        raw_stream(io.BytesIO(FILES[name]), 16_000)


@pytest.mark.parametrize(
    ("arguments", "said"), [((0,), "a rate of 0"), ((16_000, 65), "65 channels"), ((1 << 30,), "a rate of")]
)
def test_raw_samples_of_an_impossible_form_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        raw_stream(io.BytesIO(bytes(99)), *arguments)


def test_a_pipe_is_copied_to_disk_and_text_is_refused():
    with spooled(io.BytesIO(WAV_DATA)) as copy, open_stream(copy) as stream:
        assert stream.rate == 44_100
    with pytest.raises(ValueError, match="open it in binary mode"), spooled(io.StringIO("text")):
        pass
