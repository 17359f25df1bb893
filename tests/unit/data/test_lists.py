"""Lists as people have them: names compared as a reader would, mistakes named with their lines."""

import csv
import io
import os
import unicodedata
from collections import Counter

import pytest
import soundfile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from audionas.data.corpora.base import FetchError
from audionas.data.corpora.folder import Folder
from audionas.data.ledger import iter_numbered
from audionas.data.names import clean, comparable
from audionas.runtime.errors import UserError
from audionas.settings.corpora import FolderCorpus, SplitFolds, SplitFractions

FOLDS = SplitFolds(train=[1, 2, 3], valid=[4], test=[5])
FRACTIONS = SplitFractions(train=0.6, valid=0.2, test=0.2)


def tone() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, [0.1, -0.1] * 400, 8000, format="FLAC")
    return file.getvalue()


def folder(tmp_path, text, split=FRACTIONS, files=(), **keys):
    audio = tmp_path / "audio"
    audio.mkdir(exist_ok=True)
    for name in files:
        (audio / name).parent.mkdir(exist_ok=True, parents=True)
        (audio / name).write_bytes(tone())
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    keys = {"labels_column": "labels"} | keys
    return Folder(FolderCorpus(name="folder", lists=str(path), audio=str(audio), split=split, **keys))


def refused(tmp_path, text, *args, **keys) -> str:
    with pytest.raises(UserError) as caught:
        folder(tmp_path, text, *args, **keys).splits()
    return str(caught.value)


def clips(corpus):
    return [clip for part in corpus.splits().values() for clip in part]


def homes(corpus) -> dict[str, set[str]]:
    """Splits in which each file lies."""
    found: dict[str, set[str]] = {}
    for split, part in corpus.splits().items():
        for clip in part:
            found.setdefault(clip.origin, set()).add(split)
    return found


# -- names


BLANKS = ["", " ", "\t", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u202f "]


@settings(max_examples=300, deadline=None)
@given(st.text("aBé中 -_.ß", min_size=1, max_size=12), st.sampled_from(BLANKS), st.sampled_from(BLANKS))
def test_names_are_compared_as_a_reader_would(text, before, after):
    assume(clean(text) == text)
    for form in ("NFC", "NFD", "NFKC"):
        written = before + unicodedata.normalize(form, text) + after
        assert clean(written) == unicodedata.normalize("NFC", text)
        assert comparable(written) == comparable(text) == comparable(text.upper())
    assert clean(clean(text)) == clean(text)
    assert comparable(text + "x") != comparable(text)


@pytest.mark.parametrize(
    "spelt", ["./00.flac", ".//00.flac", " 00.flac", "00.flac\u00a0", "x/../00.flac", ".\\00.flac"]
)
def test_a_file_in_two_spellings_is_refused_with_both_lines(tmp_path, spelt):
    text = f"file,labels\n00.flac,dog\n01.flac,cat\n{spelt},dog\n"
    message = refused(tmp_path, text)
    assert "list.csv, line 4, column file: '00.flac' is already in line 2; keep one row" in message


def test_a_file_in_two_unicode_forms_is_refused_and_found_in_either(tmp_path):
    name = "gr\u00fcn.flac"
    text = f"file,labels\n{name},dog\n{unicodedata.normalize('NFD', name)},cat\n"
    assert "line 3, column file" in refused(tmp_path, text)
    rows = f"file,labels\n{name},dog\nb.flac,cat\nc.flac,cat\n"
    corpus = folder(tmp_path, rows, files=[unicodedata.normalize("NFD", name)])
    (clip,) = [clip for clip in clips(corpus) if clip.origin == name]
    assert corpus.fetch(clip) == tone()


@pytest.mark.parametrize("other", [" tape0", "tape0\u00a0", "Tape0", "tape\u200b0", "\uff54ape0"])
def test_sources_that_look_alike_are_one_recording_and_the_rows_are_named(tmp_path, other):
    rows = [f"{i}{j}.flac,{'dog' if i % 2 else 'cat'},{s}{i}" for i in range(12) for j, s in enumerate("st")]
    text = "\n".join(["file,labels,source", *(row.replace(",t", ",s") for row in rows)])
    odd = text.replace("00.flac,cat,s0", "00.flac,cat,tape0").replace(
        "01.flac,cat,s0", f"01.flac,cat,{other}"
    )
    corpus = folder(tmp_path, odd)
    for first, second in [(f"{i}0.flac", f"{i}1.flac") for i in range(12)]:
        assert len(homes(corpus)[first] | homes(corpus)[second]) == 1
    assert {clip.source for clip in clips(corpus) if clip.origin in ("00.flac", "01.flac")} == {"tape0"}
    told = corpus.warnings()
    if clean(other) == "tape0":
        assert told == []  # blanks around a name are nothing of it
    else:
        (warning,) = told
        assert "(line 3) as 'tape0' (line 2)" in warning and "one recording" in warning


def test_sources_that_folds_part_are_refused_though_they_differ_in_case(tmp_path):
    rows = "".join(f"{i}.flac,{'ab'[i % 2]},{'Tape' if i == 3 else f's{i}'},{i % 5 + 1}\n" for i in range(10))
    rows += "x.flac,a,tape,5\n"
    assert "source recording 'Tape'" in refused(tmp_path, "file,labels,source,fold\n" + rows, FOLDS)


@pytest.mark.parametrize("other", ["Dog", "d\u200bog", "\uff44og"])
def test_labels_that_look_alike_are_refused_with_both_lines(tmp_path, other):
    message = refused(tmp_path, f'file,labels\n0.flac,dog\n1.flac,"cat,{other}"\n2.flac,cat\n')
    assert "list.csv, line 3: the labels" in message and "'dog' (line 2)" in message
    assert "differ only in case, Unicode form or blanks" in message


def test_blanks_around_a_label_are_nothing_of_it(tmp_path):
    corpus = folder(tmp_path, 'file,labels\n0.flac,dog \n1.flac,"\u00a0dog , cat"\n2.flac,cat\n')
    assert corpus.classes() == [("cat", "cat"), ("dog", "dog")] and corpus.warnings() == []


@pytest.mark.parametrize(
    ("rows", "odd"),
    [
        (["dog", "dog;cat", "cat"], "'dog;cat' (line 3) look"),
        (["dog;cat", "dog;bird"], "'dog;cat' (line 2), 'dog;bird' (line 3) look"),
        (["dog", "Cat|DOG"], "'Cat|DOG' (line 3) look"),
        (["['dog']", "cat"], "\"['dog']\" (line 2) look"),
        (["\"['dog', 'cat']\"", "cat"], "\"['dog'\" (line 2), \"'cat']\" (line 2) look"),
    ],
)
def test_labels_that_hold_several_are_refused_and_named(tmp_path, rows, odd):
    text = "file,labels\n" + "".join(f"{i}.flac,{row}\n" for i, row in enumerate(rows))
    message = refused(tmp_path, text)
    assert odd in message and "separate labels by commas" in message


def test_a_class_whose_own_name_holds_a_bar_stays_with_a_warning(tmp_path):
    corpus = folder(tmp_path, "file,labels\n0.flac,a|b\n1.flac,None\n2.flac,NA\n3.flac,Music (pop)\n")
    assert [name for name, _ in corpus.classes()] == ["Music (pop)", "NA", "None", "a|b"]
    (warning,) = corpus.warnings()
    assert "taken as one label each: 'a|b' (line 2)" in warning


def test_clips_without_a_label_are_taken_and_counted_with_their_lines(tmp_path):
    text = "file,labels,fold\n0.flac,dog,1\n\n1.flac,,1\n2.flac,cat,4\n3.flac,dog,5\n4.flac,\u00a0,5\n"
    corpus = folder(tmp_path, text, SplitFolds(train=[1], valid=[4], test=[5]))
    assert [clip.labels for clip in corpus.splits()["train"]] == [("dog",), ()]
    (warning,) = corpus.warnings()
    assert "clips without a label: 2 (line 4, 7)" in warning
    assert "no clip has a label" in refused(tmp_path, "file,labels\n0.flac,\n1.flac,\n")


# -- lines and headers


def test_the_line_is_right_after_blank_lines_and_quoted_line_breaks(tmp_path):
    good = "".join(f"0{i}.flac,dog,tape0{i}\n" for i in range(5))
    text = 'file,labels,source\n"a\n.flac",dog,x\n' + good + "\n\n\n05.flac,dog,tape05\n/x.flac,cat,tape10\n"
    assert "list.csv, line 13, column file: the path '/x.flac' leaves" in refused(tmp_path, text)
    assert text.splitlines()[12].startswith("/x.flac")


LINES = st.lists(st.sampled_from(["a,b", '"a\nb",c', "", '"x\r\ny","\n"', "1,2"]), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(LINES, st.sampled_from(["\n", "\r\n"]))
def test_every_row_has_the_line_on_which_it_begins(tmp_path_factory, rows, end):
    path = tmp_path_factory.getbasetemp() / "numbered.csv"
    text = "x,y" + end + "".join(row + end for row in rows)
    path.write_bytes(text.encode())
    wanted, line = [], 2
    for row in rows:
        if row:
            wanted.append((line, next(csv.reader(io.StringIO(row, newline="")))))
        line += 1 + row.count("\n")
    assert [(line, list(row.values())) for line, row in iter_numbered(path)] == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "file;labels;source\n0.flac;dog;x\n",
            "separated by semicolons, not by commas; save it as CSV",
        ),
        ("file\tlabels\n0.flac\tdog\n", "separated by tabs"),
        ("sep=,\nfile,labels\n0.flac,dog\n", "'sep=, '|a spreadsheet's marker; remove it"),
        ("filename,labels\n0.flac,dog\n", "no column 'file' among filename, labels; rename 'filename'"),
        ("file,label\n0.flac,dog\n", "no column 'labels' among file, label; rename 'label'"),
        ("file,labels,file\n0.flac,dog,1.flac\n", "line 1: the column 'file' appears twice"),
        ("file,labels\n0.flac,dog,cat\n", "line 2: expected 2 fields and found 3; put quotes"),
        ("file,labels\n,dog\n", "line 2, column file: empty; name the audio file"),
        ("file,labels\n0.flac,dog\n".encode("utf-16"), "looks like UTF-16.* save it as CSV UTF-8"),
        ("file,labels\n0.flac,dog\n".encode("utf-16-le"), "looks like UTF-16"),
        (
            "file,labels\ngr\u00fcn.flac,dog\n".encode("cp1252"),
            "not readable as CSV in UTF-8.*save it as CSV UTF-8",
        ),
    ],
)
def test_what_is_wrong_with_a_list_is_said_as_it_is(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as caught:
        folder(tmp_path, text)
    assert "list.csv" in str(caught.value) and "delete" not in str(caught.value)


@pytest.mark.parametrize(
    "header", ["file, labels , source", "\ufefffile,labels,source", "File,LABELS,Source"]
)
def test_headers_are_read_without_blanks_and_in_any_case(tmp_path, header):
    rows = "".join(f"{i}.flac,{'ab'[i % 2]},tape{i // 2}\n" for i in range(10))
    corpus = folder(tmp_path, f"{header},,\n" + rows.replace("\n", ",,\n") + ",,,,\n")
    assert Counter(clip.source for clip in clips(corpus)) == {f"tape{i}": 2 for i in range(5)}


# -- folds


def test_columns_that_are_not_read_are_named(tmp_path):
    """A span or a recording under another name would be ignored without a word."""
    rows = "".join(f"{i}.flac,a,{i},1,2\n" for i in range(6))
    told = folder(tmp_path, "file,labels,fold,Begin Time (s),tape\n" + rows).warnings()
    assert len(told) == 1 and "columns that are not read: 'Begin Time (s)', 'tape'; a span" in told[0]
    rows = "".join(f"{i}.flac,a,{i},1,2\n" for i in range(6))
    assert not folder(tmp_path, "File,labels, fold,Start,end\n" + rows).warnings()


@pytest.mark.parametrize("form", ["{}.0", " {}", "{}\u00a0", "{}.", "+{}"])
def test_folds_are_read_as_spreadsheets_and_pandas_write_them(tmp_path, form):
    rows = "".join(f"{i}.flac,{'ab'[i % 2]},{form.format(i % 5 + 1)}\n" for i in range(10))
    splits = folder(tmp_path, "file,labels,fold\n" + rows, FOLDS).splits()
    assert {name: len(part) for name, part in splits.items()} == {"train": 6, "valid": 2, "test": 2}


def test_a_fold_that_is_not_used_is_not_read(tmp_path):
    rows = "".join(f"{i}.flac,{'ab'[i % 2]},{'' if i == 4 else 'later'}\n" for i in range(10))
    assert len(clips(folder(tmp_path, "file,labels,fold\n" + rows))) == 10
    assert "line 2, column fold: 'later'" in refused(tmp_path, "file,labels,fold\n" + rows, FOLDS)


# -- files


def row_of(tmp_path, name, **keys):
    corpus = folder(tmp_path, f"file,labels\n{name},dog\nb.flac,cat\nc.flac,cat\n", **keys)
    (clip,) = [clip for clip in clips(corpus) if clip.labels == ("dog",)]
    return corpus, clip


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        ("sub\\00.flac", "00.flac"),
        ("KITCHEN/00.FLAC", "kitchen/00.flac"),
        ("00.wav", "00.flac"),
        ("other/00.flac", "kitchen/00.flac"),
        ("cafe\u0301 .flac", "Caf\u00e9.flac"),
    ],
)
def test_a_missing_file_is_named_with_one_that_is_like_it(tmp_path, listed, there):
    corpus, clip = row_of(tmp_path, listed, files=[there])
    with pytest.raises(FetchError) as caught:
        corpus.fetch(clip)
    name = unicodedata.normalize("NFC", listed).replace("\\", "/")
    assert str(caught.value) == f"no such file ({name}; {there} is there)"


def test_backslashes_lead_where_slashes_do(tmp_path):
    corpus, clip = row_of(tmp_path, "sub\\00.flac", files=["sub/00.flac"])
    assert corpus.fetch(clip) == tone() and clip.origin == "sub/00.flac"


def test_absolute_paths_within_the_folder_are_taken(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "audio")
    for root in (tmp_path / "audio", tmp_path / "audio" / ".", tmp_path / "audio//sub/.."):
        corpus, clip = row_of(tmp_path, f"{root}/00.flac", files=["00.flac"])
        assert clip.origin == "00.flac" and clip.clip_id == "00" and corpus.fetch(clip) == tone()
    message = refused(tmp_path, f"file,labels\n{tmp_path}/audio2/00.flac,dog\n")
    assert "leaves" in message and "set corpus.audio" in message


def test_what_the_system_does_not_let_be_read_is_a_reason(tmp_path):
    for name, words in (("x" * 300 + ".wav", "File name too long"), ("00.flac/x.wav", "no such file")):
        corpus, clip = row_of(tmp_path, name, files=["00.flac"])
        with pytest.raises(FetchError, match=words):
            corpus.fetch(clip)


def test_a_list_that_is_no_file_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "audio").mkdir()
    keys = {"name": "folder", "audio": str(tmp_path / "audio"), "split": FRACTIONS}
    os.mkfifo(tmp_path / "pipe.csv")
    for name, words in (("pipe.csv", "a pipe or a device, not a file"), ("audio", "Is a directory; fix the")):
        with pytest.raises(UserError, match=words):
            Folder(FolderCorpus(lists=str(tmp_path / name), **keys))


def test_links_of_the_users_own_folder_are_followed_to_audio_alone(tmp_path):
    disk = tmp_path / "disk"
    (disk / "tapes").mkdir(parents=True)
    (disk / "tapes" / "00.flac").write_bytes(tone())
    (disk / "id_rsa").write_bytes(b"-----BEGIN PRIVATE KEY-----")
    audio = tmp_path / "audio"
    audio.mkdir()
    (audio / "00.flac").symlink_to(disk / "tapes" / "00.flac")
    (audio / "tapes").symlink_to(disk / "tapes")
    (audio / "key.wav").symlink_to(disk / "id_rsa")
    (audio / "gone.wav").symlink_to(disk / "gone")
    for name in ("00.flac", "tapes/00.flac"):
        corpus, clip = row_of(tmp_path, name)
        assert corpus.fetch(clip) == tone()
    for name, words in (
        ("key.wav", r"not audio \(key.wav: a link out of the folder\)"),
        ("gone.wav", r"no such file \(gone.wav: a link that leads nowhere\)"),
        ("tapes", r"not readable \(tapes: not a file\)"),
    ):
        corpus, clip = row_of(tmp_path, name)
        with pytest.raises(FetchError, match=words):
            corpus.fetch(clip)
