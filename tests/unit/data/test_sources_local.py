"""A local copy of AudioSet: found in every usual layout, in place, and never outside its folder."""

import io
import os
import pathlib
import stat
import struct
import tarfile
import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.data.corpora.base import Clip
from audionas.data.sources.base import SourceError
from audionas.data.sources.local import Local
from audionas.runtime.errors import UserError

YTID = "--PJHxphWEs"


def clip(ytid=YTID, start=30.0, end=40.0):
    return Clip(f"Y{ytid}_{round(start * 1000)}", ytid, ytid, ("/m/1",), start, end)


def tree(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def tarred(path, *names):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name.encode())
            tar.addfile(member, io.BytesIO(name.encode()))
    return path


def zipped(path, *names, compression=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def reason(source, wanted):
    with pytest.raises(SourceError) as caught:
        source.get(wanted)
    return caught.value.reason


LAYOUTS = [
    f"{YTID}.wav",
    f"Y{YTID}.wav",
    f"{YTID}_30.ogg",
    f"{YTID}_30.0.m4a",
    f"Y{YTID}_30.000.WAV",
    f"{YTID}_30000.opus",
    f"{YTID}_30_40.flac",
    f"{YTID}_30.0_40.0.webm",
    f"{YTID}_30.000_40.000.flac",
    f"Y{YTID}_30000_40000.mp3",
    f"Speech/{YTID}.wav",
    f"audio/train/a class, with spaces/Y{YTID}_30000_40000.flac",
]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_found_loose_in_tars_and_in_zips(tmp_path, name):
    loose = tree(tmp_path / "loose", name)
    inside_tar = tarred(tmp_path / "tars/part/a.tar", name)
    inside_zip = zipped(tmp_path / "zips/A.ZIP", name)
    for place in (loose, tmp_path / "tars", inside_tar, tmp_path / "zips", inside_zip):
        with Local(place) as source:
            assert source.get(clip()) == name.encode()
            assert reason(source, clip("--pjhxPHweS")) == "not there"  # ids differ by case


def test_a_file_of_another_span_is_not_taken(tmp_path):
    tree(
        tmp_path, f"{YTID}_50_60.wav", f"{YTID}_3_4.wav", f"{YTID}_30_41.wav", f"{YTID}_30000.txt", "._x.wav"
    )
    source = Local(tmp_path)
    assert reason(source, clip()) == "not there"
    assert source.get(clip(start=50.0, end=60.0)) == f"{YTID}_50_60.wav".encode()
    assert len(source) == 3


def test_the_most_exact_name_is_taken_then_the_first_path(tmp_path):
    exact = [f"{YTID}_30.000_40.000.wav", f"Y{YTID}_30000_40000.wav", f"{YTID}_30.wav", f"{YTID}.wav"]
    tree(tmp_path, *(f"b/{name}" for name in exact))
    for name in exact:
        assert Local(tmp_path).get(clip()) == f"b/{name}".encode()
        tree(tmp_path, f"c/{name}")
        assert Local(tmp_path).get(clip()) == f"b/{name}".encode()
        tree(tmp_path, f"a/{name}")
        assert Local(tmp_path).get(clip()) == f"a/{name}".encode()
        tarred(tmp_path / "0.tar", f"z/{name}")
        assert Local(tmp_path).get(clip()) == f"z/{name}".encode()
        (tmp_path / "0.tar").unlink()
        for folder in "abc":
            (tmp_path / folder / name).unlink()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("-_aZ09", min_size=11, max_size=11),
            st.integers(0, 600_000).map(lambda ms: ms / 1000),
            st.sampled_from(["s", "f", "ms"]),
            st.booleans(),
        ),
        unique_by=lambda each: each[0],
        min_size=1,
        max_size=12,
    )
)
def test_any_id_and_span_is_found_again(tmp_path_factory, wanted):
    def name(ytid, start, style, y):
        end = start + 10
        span = {"s": f"{start:.3f}_{end:.3f}", "f": f"{start}_{round(end, 3)}"}.get(
            style, f"{round(start * 1000)}_{round(end * 1000)}"
        )
        return f"{'Y' * y}{ytid}_{span}.wav"

    folder = tmp_path_factory.mktemp("any")
    names = [name(*each) for each in wanted]
    tarred(folder / "half.tar", *names[::2])
    tree(folder, *names[1::2])
    source = Local(folder)
    for each, expected in zip(wanted, names, strict=True):
        assert source.get(clip(each[0], each[1], round(each[1] + 10, 3))) == expected.encode()


def test_the_same_choice_whatever_order_the_disk_lists_in(tmp_path, monkeypatch):
    tree(tmp_path, *(f"{folder}/{YTID}.{kind}" for folder in "dacb" for kind in ("wav", "ogg")))
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    first = Local(tmp_path).get(clip())
    monkeypatch.setattr(os, "scandir", Reversed)
    assert Local(tmp_path).get(clip()) == first == f"a/{YTID}.ogg".encode()


# -- what leaves the folder


HOSTILE = ["../x.wav", "/tmp/x.wav", "a/../../x.wav", "..\\x.wav", "C:\\x.wav", "C:/x.wav", "../../notes.txt"]  # noqa: S108


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("make", [tarred, zipped])
def test_members_that_leave_are_refused_and_nothing_is_written(tmp_path, make, name):
    path = make(tmp_path / "in" / f"a.{make.__name__[:3]}", f"{YTID}.wav", name)
    before = sorted(tmp_path.rglob("*"))
    for place in (path, path.parent):
        with pytest.raises(UserError) as caught:
            Local(place)
        assert str(path) in str(caught.value) and repr(name) in str(caught.value)
        assert "leaves" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "kind", "target", "refused"),
    [
        ("a/x.wav", tarfile.SYMTYPE, "/etc/passwd", True),
        ("a/x.wav", tarfile.SYMTYPE, "../../x.wav", True),
        ("a/x.wav", tarfile.LNKTYPE, "../x.wav", True),
        ("a/x.wav", tarfile.SYMTYPE, f"../{YTID}.wav", False),
        ("a/x.wav", tarfile.LNKTYPE, f"{YTID}.wav", False),
        ("a/x.wav", tarfile.FIFOTYPE, "", False),
    ],
)
def test_links_in_tars(tmp_path, name, kind, target, refused):
    path = tarred(tmp_path / "a.tar", f"{YTID}.wav")
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        tar.addfile(member)
    if refused:
        with pytest.raises(UserError, match=r"a\.tar: 'a/x\.wav' is a link to .* leaves"):
            Local(path)
    else:
        source = Local(path)
        assert source.get(clip()) == f"{YTID}.wav".encode()
        assert reason(source, clip("x")) == "not there"


@pytest.mark.parametrize(
    ("target", "refused"), [("/etc/passwd", 1), ("../../x", 1), ("x" * 5000, 1), ("b", 0)]
)
def test_links_in_zips(tmp_path, target, refused):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("a/x.wav")
        member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, target)
    if refused:
        with pytest.raises(UserError, match=r"a\.zip: 'a/x\.wav' is a link to .* leaves"):
            Local(path)
    else:
        assert reason(Local(path), clip("x")) == "not there"


def test_links_on_disk_that_leave_are_refused(tmp_path):
    secret = tree(tmp_path, "secret.wav", "elsewhere/x.wav")
    folder = tree(tmp_path / "audio", "b/real.wav")
    (folder / f"{YTID}.wav").symlink_to("b/real.wav")
    (folder / "loop").symlink_to("..", target_is_directory=True)
    with pytest.raises(UserError, match="loop: a link that leaves"):
        Local(folder)
    (folder / "loop").unlink()
    (folder / "b/loop").symlink_to(folder, target_is_directory=True)
    (folder / "gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(folder / "pipe.wav")
    source = Local(folder)
    assert source.get(clip()) == b"b/real.wav" and len(source) == 2
    for target in (secret / "secret.wav", tmp_path / "elsewhere"):
        (folder / "out.wav").symlink_to(target)
        with pytest.raises(UserError, match=r"out\.wav: a link that leaves"):
            Local(folder)
        (folder / "out.wav").unlink()
    # A file that becomes such a link after the listing is not followed either.
    (folder / "b/real.wav").unlink()
    (folder / "b/real.wav").symlink_to(secret / "secret.wav")
    with pytest.raises(UserError, match="leaves"):
        source.get(clip("real"))
    # The folder itself may be given by a link.
    (folder / "b/real.wav").unlink()
    (tmp_path / "link").symlink_to(folder)
    assert reason(Local(tmp_path / "link"), clip()) == "not there"


# -- faults


def test_nothing_there_is_refused_and_an_empty_folder_is_not(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        Local(tmp_path / "none")
    with pytest.raises(UserError, match=r"corpus\.audio: empty"):
        Local("")
    (tmp_path / "x.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"nor a \.tar or \.zip"):
        Local(tmp_path / "x.gz")
    assert reason(Local(tmp_path), clip()) == "not there"


def test_damaged_archives_are_refused(tmp_path):
    names = [f"{i:011d}.wav" for i in range(20)]
    whole = {"tar": tarred(tmp_path / "w.tar", *names).read_bytes()}
    whole["zip"] = zipped(tmp_path / "w.zip", *names, compression=zipfile.ZIP_STORED).read_bytes()
    bad = tmp_path / "bad"
    bad.mkdir()
    torn = bytearray(whole["tar"])
    torn[10 * 1024 : 10 * 1024 + 512] = b"\xff" * 512  # the header of the eleventh
    cases = {
        "cut.tar": whole["tar"][:5000],
        "torn.tar": bytes(torn),
        "empty.tar": b"",
        "junk.tar": os.urandom(4096),
        "cut.zip": whole["zip"][:-30],
        "junk.zip": b"junk",
    }
    with tarfile.open(tmp_path / "gz.tar", "w:gz") as tar:
        tar.add(tmp_path / "w.zip", "x.wav")
    cases["gzipped.tar"] = (tmp_path / "gz.tar").read_bytes()
    for name, content in cases.items():
        (bad / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: not a plain archive, or damaged"):
            Local(bad)
        (bad / name).unlink()


@pytest.mark.parametrize("link", [False, True])
def test_a_member_of_a_zip_that_holds_more_than_it_says_is_not_unpacked(tmp_path, link):
    member = zipfile.ZipInfo(f"{YTID}.wav")
    member.external_attr = (stat.S_IFLNK if link else stat.S_IFREG) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, bytes(1 << 26), zipfile.ZIP_DEFLATED)
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(struct.pack("<I", 1 << 26), struct.pack("<I", 1000)))
    tracemalloc.start()
    try:
        with pytest.raises(UserError if link else SourceError, match="CRC-32"), Local(tmp_path) as source:
            source.get(clip())
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_encrypted_zips_are_refused(tmp_path):
    content = bytearray(zipped(tmp_path / "a.zip", f"{YTID}.wav").read_bytes())
    at = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[at + 8] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"a\.zip: .* is encrypted"):
        Local(tmp_path)


def test_what_cannot_be_read_is_a_reason_and_never_other_bytes(tmp_path):
    zipped(tmp_path / "a.zip", f"{YTID}.wav", compression=zipfile.ZIP_STORED)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b".wav", 50)] ^= 1  # in the data: the checksum no longer agrees
    (tmp_path / "a.zip").write_bytes(bytes(content))
    tree(tmp_path, "gone.wav", "folder.wav")
    tarred(tmp_path / "b.tar", "intar.wav")
    source = Local(tmp_path)
    assert reason(source, clip()) == "decode"
    (tmp_path / "gone.wav").unlink()
    assert reason(source, clip("gone")) == "not there"
    (tmp_path / "folder.wav").unlink()
    (tmp_path / "folder.wav").mkdir()
    assert reason(source, clip("folder")) == "decode"
    assert source.get(clip("intar")) == b"intar.wav"
    tarred(tmp_path / "b.tar", "other.wav", "intar.wav")
    with pytest.raises(UserError, match=r"b\.tar: changed since"):
        source.get(clip("intar"))


@pytest.mark.parametrize("gone", ["", "b.tar"])
def test_a_disk_that_goes_away_fails_no_clip(tmp_path, gone):
    place = tree(tmp_path / "disk", "loose.wav")
    tarred(place / "b.tar", "intar.wav")
    source = Local(place)
    (place / gone).rename(tmp_path / "away")
    with pytest.raises(UserError, match=f"{place / gone}: removed since it was listed"):
        source.get(clip("intar" if gone else "loose"))


def test_a_file_too_large_for_a_clip_is_not_read(tmp_path):
    with (tmp_path / f"{YTID}.wav").open("wb") as file:
        file.truncate(3 << 30)  # sparse: takes no room
    assert reason(Local(tmp_path), clip()) == "decode"


# -- many


def test_threads_get_their_own_bytes(tmp_path):
    ids = [f"{i:011d}" for i in range(300)]
    names = [f"{ytid}.wav" for ytid in ids]
    tarred(tmp_path / "a.tar", *names[:100])
    zipped(tmp_path / "b.zip", *names[100:200])
    tree(tmp_path, *names[200:])
    barrier = threading.Barrier(8)

    def ask(number):
        barrier.wait()
        return [source.get(clip(ytid)) for ytid in ids[number:] + ids[:number]]

    with Local(tmp_path) as source, ThreadPoolExecutor(8) as pool:
        for number, got in enumerate(pool.map(ask, range(8))):
            assert got == [f"{ytid}.wav".encode() for ytid in ids[number:] + ids[:number]]


@pytest.mark.slow
def test_the_index_is_small(tmp_path):
    count = 20_000
    tarred(tmp_path / "a.tar", *(f"class {i % 50}/Y{i:011d}.wav" for i in range(count)))
    tracemalloc.start()
    try:
        source = Local(tmp_path)
        kept, peak = tracemalloc.get_traced_memory()
        # The process's table of interned names is none of the index; pathlib may make it grow at any time.
        names = [tracemalloc.Filter(inclusive=True, filename_pattern=pathlib.__file__)]
        table = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(names).traces)
        kept, peak = kept - table, peak - table
    finally:
        tracemalloc.stop()
    assert len(source) == count
    assert kept / count < 250 and peak < 1.5 * kept, (kept / count, peak / kept)  # 2 M files: under 0.5 GB
