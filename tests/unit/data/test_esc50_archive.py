"""The ESC-50 archive is somebody else's: bounded before it is read, refused in words."""

import struct
import tracemalloc
import zipfile

import pytest

from audionas.data.corpora import esc50
from audionas.data.corpora.base import FetchError
from audionas.data.corpora.esc50 import Esc50
from audionas.runtime.errors import UserError
from audionas.settings.corpora import Esc50Corpus, SplitFolds

LIST = "filename,fold,category\n" + "".join(
    f"{i}-{i}0-A-{k}.wav,{i},{'cat' if k else 'dog'}\n" for i in range(1, 6) for k in range(2)
)


def made(tmp_path, members, text=LIST, method=zipfile.ZIP_DEFLATED):
    path = tmp_path / "esc.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("ESC-50-master/meta/esc50.csv", text)
        for name, data in members.items():
            file.writestr(f"ESC-50-master/audio/{name}", data)
    return path


def corpus(path):
    split = SplitFolds(train=[1, 2, 3], valid=[4], test=[5])
    return Esc50(Esc50Corpus(name="esc50", lists=str(path), audio=str(path), split=split))


def fetch(path, name):
    found = corpus(path)
    (clip,) = [clip for clip, _ in found._clips if clip.origin == name]
    return found.fetch(clip)


def _peak(act) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_member_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    path = made(tmp_path, {"1-10-A-0.wav": bytes(1 << 26), "2-20-A-0.wav": b"sound"})

    def act():
        with pytest.raises(
            FetchError, match=r"damaged in the archive \(too large \(67,108,864 bytes, of at most 33,554,432"
        ):
            fetch(path, "1-10-A-0.wav")

    assert _peak(act) < 4e6
    assert fetch(path, "2-20-A-0.wav") == b"sound"


def test_a_member_that_holds_more_than_it_says_is_refused(tmp_path):
    path = made(tmp_path, {"1-10-A-0.wav": bytes(1 << 26)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 1 << 26), struct.pack("<I", 1000)))

    def act():
        with pytest.raises(FetchError, match=r"damaged in the archive \(Bad CRC-32"):
            fetch(path, "1-10-A-0.wav")

    assert _peak(act) < 4e6


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_of_which_no_part_can_be_read_are_refused(tmp_path, method):
    with pytest.raises(UserError, match=r"esc50\.csv: damaged \(compressed in the way"):
        corpus(made(tmp_path, {}, method=method))


def test_a_long_list_is_refused(tmp_path):
    path = made(tmp_path, {}, "filename,fold,category\n" + "\n" * (1 << 23))
    with pytest.raises(
        UserError, match=r"esc50\.csv: damaged \(too large \(8,388,631 bytes, of at most 4,194,304"
    ):
        corpus(path)


def test_an_archive_of_very_many_members_is_refused_before_they_are_listed(tmp_path, monkeypatch):
    path = made(tmp_path, {f"{i}.wav": b"" for i in range(300)})
    monkeypatch.setattr(esc50, "_LARGEST_DIRECTORY", 5_000)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("listed"))
    with pytest.raises(UserError, match=r"esc\.zip: its directory has [\d,]+ bytes"):
        corpus(path)


def test_what_is_no_such_archive_is_refused(tmp_path):
    whole = made(tmp_path, {}).read_bytes()
    path = tmp_path / "esc.zip"
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)
    for bad in (
        b"",
        b"PK\5\6",
        whole[:-4],
        whole[:-22] + locator + whole[-22:],
        whole + b"PK\5\6" + bytes(4),
    ):
        path.write_bytes(bad)
        with pytest.raises(UserError, match="not a zip archive, or damaged"):
            corpus(path)


def test_a_flipped_byte_and_an_encrypted_member_are_reasons_and_no_tracebacks(tmp_path):
    path = made(tmp_path, {"1-10-A-0.wav": b"sound" * 9}, method=zipfile.ZIP_STORED)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"soundsound", b"sounDsound"))
    with pytest.raises(FetchError, match=r"damaged in the archive \(Bad CRC-32"):
        fetch(path, "1-10-A-0.wav")
    path.write_bytes(whole.replace(b"filename", b"filenamE"))
    with pytest.raises(UserError, match=r"esc50\.csv: damaged \(Bad CRC-32"):
        corpus(path)
    at = whole.index(b"PK\1\2", whole.index(b"PK\1\2") + 4)  # of the second member
    path.write_bytes(whole[: at + 8] + b"\1" + whole[at + 9 :])
    with pytest.raises(FetchError, match=r"damaged in the archive .*encrypted"):
        fetch(path, "1-10-A-0.wav")


@pytest.mark.parametrize(
    "name", ["1-/../../x-A-0.wav", "../1-1-A-0.wav", "/1-1-A-0.wav", "1-..\\..\\x-A-0.wav"]
)
def test_names_that_leave_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"esc50\.csv, line 2"):
        corpus(made(tmp_path, {}, f"filename,fold,category\n{name},1,dog\n"))


def test_categories_that_look_alike_are_refused_and_blanks_are_nothing(tmp_path):
    with pytest.raises(UserError, match=r"esc50\.csv, line 12: the labels 'Dog' and 'dog' \(line 2\)"):
        corpus(made(tmp_path, {}, LIST + "1-99-A-0.wav,1,Dog\n"))
    found = corpus(made(tmp_path, {}, LIST + "\n1-99-A-0.wav,1.0,dog \n"))
    assert [name for name, _ in found.classes()] == ["cat", "dog"]
    with pytest.raises(UserError, match=r"esc50\.csv, line 14, column fold: 'x'"):
        corpus(made(tmp_path, {}, LIST + "\n\n1-99-A-0.wav,x,dog\n"))
