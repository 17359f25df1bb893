"""Spans of a list's files: cut to the sample, against a cut of the whole decoded file."""

import io
import struct
import subprocess
import tracemalloc

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.data.corpora import spans
from audionas.data.corpora.base import FetchError
from audionas.data.corpora.folder import Folder
from audionas.data.corpora.spans import SPANS, cut
from audionas.runtime.errors import UserError
from audionas.settings.corpora import FolderCorpus, SplitFractions

RATE = 8000
KINDS = [
    ("wav", "WAV", "PCM_16"),
    ("wav", "WAV", "PCM_U8"),
    ("wav", "WAV", "PCM_24"),
    ("wav", "WAV", "FLOAT"),
    ("wav", "WAV", "ULAW"),
    ("aiff", "AIFF", "PCM_32"),
    ("flac", "FLAC", "PCM_16"),
    ("flac", "FLAC", "PCM_24"),
    ("ogg", "OGG", "VORBIS"),
    ("ogg", "OGG", "OPUS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
]


def noise(seconds, channels=1, rate=RATE, seed=0):
    return np.random.default_rng(seed).normal(0, 0.2, (round(seconds * rate), channels)).clip(-1, 1)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[2]}")
def recording(request, tmp_path_factory):
    """A file of 3 s, and what the whole of it decodes to."""
    suffix, form, subtype = request.param
    path = tmp_path_factory.mktemp("kinds") / f"x.{suffix}"
    soundfile.write(path, noise(3, 2), RATE, format=form, subtype=subtype)
    whole, rate = soundfile.read(path, always_2d=True)
    return path, whole, rate, subtype


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 2.9), st.floats(0.01, 3))
def test_a_span_is_that_of_the_whole_file_to_the_sample(recording, start, length):
    path, whole, rate, subtype = recording
    end = min(start + length, 3.0)
    got, got_rate = soundfile.read(io.BytesIO(cut(path, start, end)), always_2d=True)
    wanted = whole[round(start * rate) : round(end * rate)]
    assert (got_rate, got.shape) == (rate, wanted.shape)
    exact = subtype in ("PCM_16", "PCM_U8", "PCM_24")
    assert np.abs(got - wanted.clip(-1, 1)).max(initial=0) <= (0 if exact else 2**-22)


def test_a_span_without_an_end_goes_on_to_the_files_end_and_one_from_zero_is_whole(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(1), RATE)
    whole, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    for start in (0.0, 0.25):
        got, _ = soundfile.read(io.BytesIO(cut(tmp_path / "x.wav", start, None)), dtype="int16")
        assert np.array_equal(got, whole[round(start * RATE) :])


def test_many_channels_are_cut_as_their_mean(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(1, 12), RATE, subtype="FLOAT")
    whole, _ = soundfile.read(tmp_path / "x.wav", always_2d=True)
    got, _ = soundfile.read(io.BytesIO(cut(tmp_path / "x.wav", 0.5, 1.0)))
    assert got.ndim == 1 and np.abs(got - whole[4000:].mean(axis=1)).max() < 2**-22


def test_what_gives_no_span_is_said(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1), RATE)
    cut(path, 0.5, 1.04)  # the list rounds up
    for start, end, words in (
        (0.5, 1.2, r"span beyond the end \(0.5 to 1.2 s of 1.000 s\)"),
        (1.0, 1.01, r"span beyond the end \(1 to 1.01 s of 1.000 s\)"),
        (7.0, None, r"span beyond the end \(7 s on of 1.000 s\)"),
    ):
        with pytest.raises(FetchError, match=words):
            cut(path, start, end)
    soundfile.write(tmp_path / "nan.wav", [0.0] * 4000 + [np.nan] + [0.0] * 4000, RATE, subtype="FLOAT")
    cut(tmp_path / "nan.wav", 0.0, 0.5)
    with pytest.raises(FetchError, match="non-finite"):
        cut(tmp_path / "nan.wav", 0.25, 1.0)
    for name in ("page.wav", "page.raw", "empty.wav"):
        (tmp_path / name).write_bytes(b"<html></html>" * ("page" in name))
        with pytest.raises(FetchError, match="not audio"):
            cut(tmp_path / name, 0.0, 1.0)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_span_is_cut_of_what_was_written_to_a_pipe(tmp_path, size):
    """SoX, arecord and ffmpeg leave such sizes."""
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1), RATE)
    whole, _ = soundfile.read(path, dtype="int16")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    path.write_bytes(data)
    got, _ = soundfile.read(io.BytesIO(cut(path, 0.25, 0.75)), dtype="int16")
    assert np.array_equal(got, whole[2000:6000])


def test_a_span_is_cut_of_flac_that_does_not_tell_its_length(tmp_path):
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(3), RATE)
    whole, _ = soundfile.read(path, dtype="int16")
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36 bits of STREAMINFO that tell it
    data[22:26] = bytes(4)
    path.write_bytes(data)
    for start, end in ((0.0, 0.5), (1.25, 2.0), (2.5, 3.0)):
        got, _ = soundfile.read(io.BytesIO(cut(path, start, end)), dtype="int16")
        assert np.array_equal(got, whole[round(start * RATE) : round(end * RATE)])


def test_a_span_of_a_format_that_only_ffmpeg_reads_names_the_format_and_no_false_reason(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(1), RATE)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", tmp_path / "x.wav"]
    subprocess.run([*command, tmp_path / "x.m4a"], check=True)
    with pytest.raises(FetchError, match=r"no span is cut of this format \(m4a\)"):
        cut(tmp_path / "x.m4a", 0.1, 0.5)


def test_a_span_of_a_long_recording_takes_the_memory_of_the_span(tmp_path):
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 32_000, 2, subtype="PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros((32_000 * 10, 2), np.int16))
    tracemalloc.start()
    try:
        cut(tmp_path / "long.wav", 590.0, 600.0)
        assert tracemalloc.get_traced_memory()[1] < 4e6  # all of it: 77 MB
    finally:
        tracemalloc.stop()


def test_a_long_mp3_of_variable_rate_is_cut_where_it_is_decoded(tmp_path):
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    wave = noise(8, 1, 44_100) * np.repeat([1, 0.01], 4 * 44_100)[:, None]
    soundfile.write(tmp_path / "x.wav", wave, 44_100)
    command = [ffmpeg, "-loglevel", "error", "-i", tmp_path / "x.wav", "-q:a", "4", tmp_path / "x.mp3"]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("this ffmpeg makes no MP3")
    whole, _ = soundfile.read(tmp_path / "x.mp3")
    for start in (0.0, 1.3, 3.999, 6.2):
        got, _ = soundfile.read(io.BytesIO(cut(tmp_path / "x.mp3", start, start + 1)))
        assert np.abs(got - whole[round(start * 44_100) :][:44_100].clip(-1, 1)).max() < 2**-20


# -- lists


def folder(tmp_path, text, **keys):
    audio = tmp_path / "audio"
    if not audio.exists():
        audio.mkdir()
        for i in range(6):
            soundfile.write(audio / f"{i}.wav", noise(2, seed=i), RATE, subtype="PCM_16")
    (tmp_path / "list.csv").write_text(text)
    section = FolderCorpus(
        name="folder",
        lists=str(tmp_path / "list.csv"),
        audio=str(audio),
        labels_column="labels",
        split=SplitFractions(train=0.6, valid=0.2, test=0.2),
        **keys,
    )
    return Folder(section)


@pytest.mark.parametrize("columns", SPANS, ids=",".join)
def test_several_spans_of_a_file_are_clips_of_one_recording(tmp_path, columns):
    text = f"file,labels,{','.join(columns)}\n"
    text += "".join(f"{i}.wav,{'ab'[j % 2]},{j / 4},{j / 4 + 0.25}\n" for i in range(6) for j in range(4))
    corpus = folder(tmp_path, text)
    splits = corpus.splits()
    clips = [clip for part in splits.values() for clip in part]
    assert len({clip.clip_id for clip in clips}) == len(clips) == 24
    assert clips[0].clip_id == f"{clips[0].origin[0]}_0_250" and clips[0].source == clips[0].origin
    homes = [{clip.source for clip in part} for part in splits.values()]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 6
    for clip in clips:
        whole, _ = soundfile.read(tmp_path / "audio" / clip.origin, dtype="int16")
        got, _ = soundfile.read(io.BytesIO(corpus.fetch(clip)), dtype="int16")
        assert np.array_equal(got, whole[round(clip.start * RATE) : round(clip.end * RATE)])


def test_an_empty_span_is_the_whole_file_as_it_is(tmp_path):
    corpus = folder(
        tmp_path, "file,labels,start,end\n" + "".join(f"{i}.wav,{'ab'[i % 2]},,\n" for i in range(6))
    )
    for part in corpus.splits().values():
        for clip in part:
            assert (clip.start, clip.end, clip.clip_id) == (None, None, clip.origin[0])
            assert corpus.fetch(clip) == (tmp_path / "audio" / clip.origin).read_bytes()


@pytest.mark.parametrize(
    ("head", "row", "words"),
    [
        ("start,end", "1.0,0.5", "line 2, columns start and end: '1.0' to '0.5' is not a span"),
        ("start,end", "0,nan", "'0' to 'nan' is not a span"),
        ("start,end", "-1,1", "is not a span"),
        ("start,end", '"0,5","1,0"', "'0,5' to '1,0' is not a span; .*a decimal point"),
        ("start,end", "0:10,0:20", "is not a span; write increasing seconds"),
        ("start,end", "0,4000", "at most 3600 apart"),
        ("Onset,duration", "0,1", "the column 'onset' needs a column 'offset'"),
        ("offset,duration", "0,1", "the column 'offset' needs a column 'onset'"),
        ("start,end,onset,offset", "0,1,0,1", "columns start,end and onset,offset both define spans"),
    ],
)
def test_bad_spans_are_refused_with_their_place(tmp_path, head, row, words):
    with pytest.raises(UserError, match=words):
        folder(tmp_path, f"file,labels,{head}\n0.wav,a,{row}\n")


def test_the_same_span_twice_and_spans_of_one_file_with_two_sources_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"line 3, column file: '0\.wav' is already in line 2"):
        folder(tmp_path, "file,labels,start,end\n0.wav,a,0,1\n./0.wav,b,0.0,1.00\n")
    with pytest.raises(
        UserError, match=r"line 3, column source: '0\.wav' has the source 'y' here and 'x' in line 2"
    ):
        folder(tmp_path, "file,labels,start,end,source\n0.wav,a,0,1,x\n0.wav,b,1,2,y\n")


def test_spans_that_differ_by_less_than_a_millisecond_have_ids_of_their_own(tmp_path):
    rows = "".join(f"{i}.wav,{'ab'[j]},0,{1 + j / 4000}\n" for i in range(6) for j in range(2))
    clips = [c for part in folder(tmp_path, "file,labels,start,end\n" + rows).splits().values() for c in part]
    assert len({clip.clip_id for clip in clips}) == 12


def test_no_span_is_held_for_longer_than_it_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(spans, "_BLOCK", 100)  # in many blocks, the same
    soundfile.write(tmp_path / "x.wav", noise(1), RATE)
    whole, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    got, _ = soundfile.read(io.BytesIO(cut(tmp_path / "x.wav", 0.1, 0.777)), dtype="int16")
    assert np.array_equal(got, whole[800:6216])
