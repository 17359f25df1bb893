"""AudioSet's lists read strictly: hostile ones, and what spreadsheets make of them, are refused."""

import re

import pytest
from audioset_lists import HEAD, audioset, row, write, ytid

from audionas.data.corpora.audioset import read_classes
from audionas.data.corpora.audioset_lists import CLASS_LIST, TEST, TRAIN, UNBALANCED
from audionas.data.corpora.segments import parse_segments
from audionas.runtime.errors import UserError


def refused(tmp_path, line, key="train", **keys):
    lists = {key: [row(1), line]}
    write(tmp_path, **lists)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        audioset(tmp_path, **keys).splits()
    assert sorted(tmp_path.rglob("*")) == before
    return str(caught.value)


BAD_IDS = [
    "../../etc/x",
    "a b c d e f",
    "a" * 300,
    "abc\0defghij",
    "/etc/passwd",
    "..",
    "abcdefghij\u00e9",
    "abcdefghij",
    '""',
]


@pytest.mark.parametrize("key", ["train", "test", "pool"])
@pytest.mark.parametrize("video", BAD_IDS)
def test_bad_ids_are_refused_with_file_and_line(tmp_path, video, key):
    message = refused(tmp_path, row(video, 50), key)
    name = {"train": TRAIN, "test": TEST, "pool": UNBALANCED}[key]
    assert message.startswith(f"{tmp_path / name}, line 5, column YTID: ") and len(message) < 500


def test_own_lists_take_other_ids_but_no_worse_ones(tmp_path):
    for video in BAD_IDS:
        write(tmp_path, **{"own.csv": [row("abc"), row(video)]})
        if video == "abcdefghij":
            assert len(audioset(tmp_path, train_list="own.csv").splits()["train"]) == 2
        else:
            with pytest.raises(UserError, match=r"own\.csv, line 5, column YTID"):
                audioset(tmp_path, train_list="own.csv").splits()


def test_ids_that_look_like_options_are_genuine(tmp_path):
    for video in ("--PJHxphWEs", "-0123456789", "-----------"):
        write(tmp_path, train=[row(video)])
        (clip,) = audioset(tmp_path).splits()["train"]
        assert clip.source == clip.origin == video and clip.clip_id == f"Y{video}_0"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (row(2, 40, 30), "column end_seconds: '40.000' to '30.000'"),
        (row(2, 40, 40), "column end_seconds"),
        (f'{ytid(2)}, 40.0, 40.0001, "/m/1"\n', "column end_seconds"),
        (row(2, -5), "column end_seconds"),
        (f'{ytid(2)}, nan, 10, "/m/1"\n', "column end_seconds: 'nan'"),
        (f'{ytid(2)}, 0, NaN, "/m/1"\n', "column end_seconds"),
        (f'{ytid(2)}, 0, inf, "/m/1"\n', "column end_seconds"),
        (f'{ytid(2)}, 1e300, 1e301, "/m/1"\n', "column end_seconds"),
        (f'{ytid(2)}, x, 10, "/m/1"\n', "column start_seconds: 'x'"),
        (row(2, labels="/m/9"), "column positive_labels: '/m/9' is not in class_labels_indices"),
        (row(2, labels=""), "column positive_labels: no label"),
        (f"{ytid(2)}, 0.0, 10.0\n", "3 fields"),
        (f"{ytid(2)}, 0.0, 10.0, /m/1,/m/2\n", "5 fields"),
        (f'{ytid(2)}, 0.0, 10.0, "/m/1\n', "not readable as CSV"),
        # What spreadsheets make of a list.
        ("-1.23E+05, 0, 10, /m/1\n", "column YTID: '-1.23E[+]05' was an id; a spreadsheet"),
        ('"1,23E+10", 0, 10, /m/1\n', "was an id; a spreadsheet"),
        ("#NAME?, 0, 10, /m/1\n", "column YTID: '#NAME[?]' was an id; a spreadsheet"),
        ('"#NAME?",0,10,"/m/1"\n', "was an id; a spreadsheet"),
        ("#REF!;0;10;/m/1\n", "was an id; a spreadsheet"),
        ("#N/A,0,10,/m/1\n", "was an id; a spreadsheet"),
        ("123456789,0,10,/m/1\n", "'123456789' has 9 characters"),
        (f'{ytid(2)};30.000;40.000;"/m/1,/m/2"\n', "semicolons"),
        (f'{ytid(2)};30,000;40,000;"/m/1,/m/2"\n', "was an id; a spreadsheet"),
        (f"{ytid(2)};30,000;40,000;/m/1\n", "semicolons"),
        (f"{ytid(2)}\t30.000\t40.000\t/m/1\n", "tabs"),
        (f'{ytid(2)},"30,000","40,000",/m/1\n', "column start_seconds: '30,000'.*a decimal point"),
        (f'{ytid(2)}, 30.000, 40.000," ""/m/1"""\n', "column positive_labels: quotes within.*a spreadsheet"),
        (f'{ytid(2)},30,40," ""/m/1","/m/2"""\n', "5 fields"),
    ],
)
def test_bad_rows_are_refused_with_file_line_and_mend(tmp_path, line, words):
    message = refused(tmp_path, line)
    assert message.startswith(f"{tmp_path / TRAIN}, line 5") and re.search(words, message), message
    message = refused(tmp_path, line, "pool")
    assert message.startswith(f"{tmp_path / UNBALANCED}, line 5") and re.search(words, message), message


def test_rewritten_but_unambiguous_lists_read_the_same(tmp_path):
    original = [row("--PJHxphWEs", 30, labels="/m/1,/m/2"), row(2, labels="/m/2")]
    expected = list(parse_segments(write(tmp_path, train=original) / TRAIN))
    text = HEAD + "".join(original)
    for changed in (
        text.replace("\n", "\r\n"),
        "\ufeff" + text,
        text.replace(", ", ","),
        text.replace("# YTID", "YTID").replace("# ", '"# '),
        text.replace("\n# num", ",,,\n# num") + "\n\n",
        re.sub(r"^(-?[-\w]+),", r'"\1",', text, flags=re.MULTILINE),
    ):
        (tmp_path / TRAIN).write_text(changed, newline="")
        assert list(parse_segments(tmp_path / TRAIN)) == expected


def test_other_encodings_are_refused(tmp_path):
    write(tmp_path)
    for content in ((HEAD + row(1)).encode("utf-16"), (HEAD + row("\u00e9")).encode("latin-1")):
        (tmp_path / TRAIN).write_bytes(content)
        with pytest.raises(UserError, match=f"{TRAIN}, .*line .*UTF-8"):
            audioset(tmp_path).splits()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(1), row(2), row(1)], r"line 6: .*'00000000001'.*in lines 4, 6"),
        ([row(1), row(2), row(1, 5)], r"line 6: .*overlap or repeat in lines 4, 6"),
        ([row(1, 5), row(1, 0, 5.001)], r"line 5: .*overlap or repeat in lines 4, 5"),
        ([row(1, 0, 100), row(1, 20), row(1, 40)], r"line 6: .*overlap or repeat in lines 4, 5, 6"),
    ],
)
def test_double_and_overlapping_rows_are_refused(tmp_path, rows, words):
    write(tmp_path, train=rows)
    with pytest.raises(UserError, match=f"{TRAIN}, {words}"):
        audioset(tmp_path).splits()
    write(tmp_path, train=[row(99)], pool=rows)
    with pytest.raises(UserError, match=f"{UNBALANCED}, {words}"):
        audioset(tmp_path, valid_clips=len(rows)).splits()


def test_spans_of_one_video_that_do_not_overlap_are_taken(tmp_path):
    write(tmp_path, train=[row(1, 10), row(1, 0), row(1, 30)])
    assert len(audioset(tmp_path).splits()["train"]) == 3


def test_bad_class_list_is_refused(tmp_path):
    path = tmp_path / CLASS_LIST
    path.write_text("index,mid,display_name\n0,/m/1,A\n2,/m/2,B\n")
    with pytest.raises(UserError, match="line 3, column index: '2' instead of 1"):
        read_classes(path)
    path.write_text("index,mid,display_name\n0,/m/1,A\n1,/m/1,B\n")
    with pytest.raises(UserError, match="line 3, column mid"):
        read_classes(path)
    path.write_text('\ufeffindex,mid,display_name\r\n0,/m/1,"A, b"\r\n')
    assert read_classes(path) == [("/m/1", "A, b")]
    path.write_text("index;mid;display_name\n0;/m/1;A\n")
    with pytest.raises(UserError, match="no column 'index'"):
        read_classes(path)
