"""AudioSet's lists: fetched whole, read strictly, drawn from with a seed in constant memory."""

import http.server
import re
import threading
import tracemalloc
from collections import Counter
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.config import AudiosetCorpus
from audionas.corpora import official
from audionas.corpora.audioset import Audioset, choose_classes, read_classes
from audionas.corpora.base import Clip
from audionas.corpora.draw import draw
from audionas.corpora.official import (
    CHECKSUMS,
    CLASS_LIST,
    FILES,
    ONTOLOGY,
    TEST,
    TRAIN,
    UNBALANCED,
    checksums,
    fetch_lists,
)
from audionas.corpora.opening import open_corpus
from audionas.corpora.segments import parse_segments
from audionas.errors import UserError

HEAD = (
    "# Segments csv created\n# num_ytids=1, num_segs=1\n# YTID, start_seconds, end_seconds, positive_labels\n"
)


def section(folder, **keys):
    return AudiosetCorpus(**{"name": "audioset", "lists": str(folder), "audio": "", "valid_clips": 5, **keys})


def audioset(folder, **keys):
    return Audioset(section(folder, **keys))


def ytid(number):
    return f"{number:011d}"


def row(number, start=0, end=None, labels="/m/1,/m/2"):
    video = number if isinstance(number, str) else ytid(number)
    return f'{video}, {start:.3f}, {start + 10 if end is None else end:.3f}, "{labels}"\n'


def write(folder, classes=2, **lists):
    """A folder of lists; `train`, `test` and `pool` are the rows of the official ones."""
    folder.mkdir(exist_ok=True)
    lines = [f'{i},/m/{i + 1},"Class {i + 1}, thing"\n' for i in range(classes)]
    (folder / CLASS_LIST).write_text("index,mid,display_name\n" + "".join(lines))
    names = {"train": TRAIN, "test": TEST, "pool": UNBALANCED}
    defaults = {
        "train": map(row, range(10)),
        "test": map(row, range(10, 20)),
        "pool": map(row, range(20, 60)),
    }
    for key, rows in {**defaults, **lists}.items():
        (folder / names.get(key, key)).write_text(HEAD + "".join(rows))
    return folder


def ids(clips):
    return [clip.clip_id for clip in clips]


# -- the genuine lists


def test_official_lists_parse(shared_data):
    corpus = audioset(shared_data / "audioset")
    train, test = corpus.read(TRAIN), corpus.read(TEST)
    assert (len(train), len(test), len(corpus.classes())) == (22_160, 20_371, 527)
    assert sum(len(clip.labels) for clip in train) == 52_882  # the header's num_positive_labels
    assert len({clip.clip_id for clip in train + test}) == 22_160 + 20_371
    assert train[0] == Clip(
        "Y--PJHxphWEs_30000", "--PJHxphWEs", "--PJHxphWEs", ("/m/09x0r", "/t/dd00088"), 30.0, 40.0
    )


def test_official_lists_split_and_cut_down(shared_data, tmp_path):
    for name in (CLASS_LIST, TRAIN, TEST):
        (tmp_path / name).write_bytes((shared_data / "audioset" / name).read_bytes())
    # The unbalanced list is not here; the evaluation list stands in for it, and 600 of train for the test.
    lines = (tmp_path / TRAIN).read_text().splitlines(keepends=True)
    (tmp_path / UNBALANCED).write_bytes((tmp_path / TEST).read_bytes())
    (tmp_path / "train.csv").write_text("".join(lines[:-600]))
    (tmp_path / "test.csv").write_text("".join(lines[-600:]))
    corpus = audioset(
        tmp_path,
        train_list="train.csv",
        test_list="test.csv",
        valid_clips=5000,
        stratified=True,
        clips={"train": 700, "test": None},
    )
    splits = corpus.splits()
    assert {name: len(clips) for name, clips in splits.items()} == {"train": 700, "valid": 5000, "test": 600}
    for split, least in (("train", 1), ("valid", 5000 // 527)):
        counts = Counter(label for clip in splits[split] for label in clip.labels)
        assert len(counts) == 527 and min(counts.values()) >= least


# -- the splits


def test_validation_is_drawn_apart_from_train_and_test(tmp_path):
    # Other segments of videos of train and test must not be drawn either.
    write(tmp_path, pool=[row(i, 20) for i in range(5, 40)])
    splits = audioset(tmp_path).splits()
    assert list(splits) == ["train", "valid", "test"]
    assert ids(splits["train"]) == [f"Y{ytid(i)}_0" for i in range(10)]
    assert ids(splits["test"]) == [f"Y{ytid(i)}_0" for i in range(10, 20)]
    assert len(splits["valid"]) == 5 and {clip.source for clip in splits["valid"]} <= set(
        map(ytid, range(20, 40))
    )
    assert audioset(tmp_path).splits() == splits
    assert audioset(tmp_path, seed=1).splits()["valid"] != splits["valid"]
    with pytest.raises(UserError, match=rf"{UNBALANCED}: 20 segments are free .* asks for 21"):
        audioset(tmp_path, valid_clips=21).splits()
    (tmp_path / UNBALANCED).unlink()
    with pytest.raises(UserError, match=rf"{UNBALANCED}: no such file.*corpus\.valid_list"):
        audioset(tmp_path).splits()


def test_lists_of_ones_own(tmp_path):
    write(tmp_path, **{"a.csv": [row("lab-take_1")], "b.csv": [row("x" * 64)], "c.csv": [row("-y")]})
    own = {"train_list": "a.csv", "valid_list": "b.csv", "test_list": "c.csv"}
    splits = audioset(tmp_path, **own).splits()
    assert [ids(clips) for clips in splits.values()] == [
        ["Ylab-take_1_0"],
        [splits["valid"][0].clip_id],
        ["Y-y_0"],
    ]
    assert re.fullmatch(r"[\w-]{1,80}", splits["valid"][0].clip_id)
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        audioset(tmp_path, train_list="none.csv").splits()
    for name in ("../a.csv", "/etc/passwd"):
        with pytest.raises(UserError, match="leaves"):
            audioset(tmp_path, test_list=name).splits()


def test_a_video_in_two_splits_is_refused_with_both_lines(tmp_path):
    write(tmp_path, test=[row(50), row(3, 100)])
    with pytest.raises(UserError) as caught:
        audioset(tmp_path).splits()
    assert f"{tmp_path / TEST}, line 5" in str(caught.value) and f"{TRAIN}, line 7" in str(caught.value)


def test_only_some_classes(tmp_path):
    labels = ["/m/1", "/m/2", "/m/1,/m/3", "/m/3", "/m/2,/m/3,/m/1"] * 8
    rows = [row(i, labels=text) for i, text in enumerate(labels)]
    write(tmp_path, classes=3, train=rows[:10], test=rows[10:20], pool=rows[20:])
    corpus = audioset(tmp_path, only_classes=["Class 3, thing", "/m/1"], valid_clips=16)
    assert corpus.classes() == [("/m/1", "Class 1, thing"), ("/m/3", "Class 3, thing")]
    splits = corpus.splits()
    assert [len(clips) for clips in splits.values()] == [8, 16, 8]
    assert [clip.labels for clip in splits["train"][:4]] == [
        ("/m/1",),
        ("/m/1", "/m/3"),
        ("/m/3",),
        ("/m/3", "/m/1"),
    ]
    with pytest.raises(UserError, match="16 segments are free"):
        audioset(tmp_path, only_classes=["/m/1", "/m/3"], valid_clips=17).splits()
    with pytest.raises(UserError, match=r"corpus\.only_classes: 'Clas 3, thing' names 0 .*'Class 3, thing'"):
        audioset(tmp_path, only_classes=["Clas 3, thing"])
    with pytest.raises(UserError, match=r"names 2 classes .* one of \['/m/1', '/m/2'\]"):
        choose_classes([("/m/1", "Bell"), ("/m/2", "Bell")], ["Bell"])


def test_a_number_of_clips_keeps_every_class(tmp_path):
    rows = [row(i, labels="/m/1" if i % 40 else f"/m/{2 + i // 40}") for i in range(200)]
    pool = [row(i) for i in range(300, 400)]
    write(tmp_path, classes=6, train=rows, test=[row(i) for i in range(200, 210)], pool=pool)
    corpus = audioset(tmp_path, clips={"train": 6, "valid": 3, "test": None})
    splits = corpus.splits()
    assert [len(clips) for clips in splits.values()] == [6, 3, 10]
    assert {label for clip in splits["train"] for label in clip.labels} == {f"/m/{i}" for i in range(1, 7)}
    with pytest.raises(
        UserError, match=r"corpus\.clips\.train: 5 clips cannot hold .* 6 classes; give at least 6"
    ):
        audioset(tmp_path, clips={"train": 5}).splits()
    # Cutting train down changes neither validation nor what it is drawn from.
    whole = audioset(tmp_path).splits()["valid"]
    assert audioset(tmp_path, clips={"train": 6}).splits()["valid"] == whole
    assert audioset(tmp_path, clips={"train": 1000}).splits()["train"] == audioset(tmp_path).splits()["train"]


# -- the draw


@st.composite
def pools(draw_from):
    classes = draw_from(st.integers(1, 8))
    labels = st.lists(st.integers(1, classes).map("/m/{}".format), min_size=1, max_size=3, unique=True)
    every = draw_from(st.lists(labels, min_size=1, max_size=60))
    return [Clip(f"Y{ytid(i)}_0", ytid(i), "", tuple(each), 0.0, 10.0) for i, each in enumerate(every)]


@settings(max_examples=150, deadline=None)
@given(pools(), st.integers(1, 70), st.integers(0, 3), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_draw(pool, number, seed, least, shuffler):
    counts = Counter(label for clip in pool for label in clip.labels)
    try:
        drawn = draw(iter(pool), number, seed, least, "here")
    except UserError as error:
        needed = int(re.fullmatch(r"here: .*give at least (\d+)", str(error))[1])
        assert number < needed <= least * len(counts)
        drawn, number = draw(pool, needed, seed, least), needed
    assert len(drawn) == min(number, len(pool))
    assert drawn == [clip for clip in pool if clip in drawn], "not once each, in the list's order"
    got = Counter(label for clip in drawn for label in clip.labels)
    assert all(got[label] >= min(least, count) for label, count in counts.items())
    shuffled = shuffler.sample(pool, len(pool))
    assert set(draw(shuffled, number, seed, least)) == set(drawn), "depends on the list's order"
    assert set(drawn) <= set(draw(pool, number + 1, seed, least)), "a larger draw is another one"


@pytest.mark.parametrize("seed", range(20))
def test_the_rarest_class_comes_first_so_that_few_clips_keep_all(seed):
    labels = [("/m/1",)] * 5 + [("/m/1", "/m/2")]
    pool = [Clip(f"Y{ytid(i)}_0", ytid(i), "", each) for i, each in enumerate(labels)]
    assert draw(pool, 1, seed, 1) == [pool[5]]


def test_the_draw_is_even():
    pool = [Clip(f"Y{ytid(i)}_0", ytid(i), "", ("/m/1",)) for i in range(100)]
    times = Counter(clip for seed in range(400) for clip in draw(pool, 25, seed))
    # Each of 100 is drawn in a quarter of 400 draws: 100 times, with a standard deviation of 8.7.
    assert len(times) == 100 and min(times.values()) > 60 and max(times.values()) < 140


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.booleans(),
    st.integers(3, 30),
    st.lists(st.sampled_from(["/m/1", "/m/2", "/m/3", "/m/1,/m/3"]), min_size=60, max_size=90),
)
def test_drawn_splits_are_disjoint_of_the_right_size_and_the_same_again(
    tmp_path_factory, seed, stratified, valid_clips, labels
):
    rows = [row(i, labels=text) for i, text in enumerate(labels)]
    # The pool shares videos with both others.
    folder = write(
        tmp_path_factory.mktemp("lists"), 3, train=rows[:15], test=rows[15:30], pool=rows[10:20] + rows[25:]
    )
    keys = {"seed": seed, "stratified": stratified, "valid_clips": valid_clips}
    splits = audioset(folder, **keys).splits()
    sources = [{clip.source for clip in clips} for clips in splits.values()]
    assert sum(map(len, sources)) == len(set.union(*sources)) == 30 + valid_clips
    assert audioset(folder, **keys).splits() == splits
    if stratified:
        free = Counter(label for text in labels[30:] for label in text.split(","))
        got = Counter(label for clip in splits["valid"] for label in clip.labels)
        least = valid_clips // 3
        assert all(got[label] >= min(least, count) for label, count in free.items())


@pytest.mark.slow
def test_the_pool_is_read_in_constant_memory(tmp_path):
    peaks, sizes = [], []
    for count in (20_000, 200_000):
        write(tmp_path, 20, pool=(row(100 + i, 30, labels=f"/m/{i % 20 + 1}") for i in range(count)))
        corpus = audioset(tmp_path, valid_clips=1000, stratified=True)
        tracemalloc.start()
        try:
            valid = corpus.splits()["valid"]
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        sizes.append((tmp_path / UNBALANCED).stat().st_size)
        assert len(valid) == 1000
    assert sizes[1] > 9 * sizes[0] > 1_000_000
    assert peaks[1] < 1.2 * peaks[0] and peaks[1] < sizes[1] / 5, (peaks, sizes)


# -- hostile lists


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
        (f'{ytid(2)},"30,000","40,000",/m/1\n', "column start_seconds: '30,000'.*a point for decimals"),
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
        ([row(1), row(2), row(1, 5)], r"line 6: .*overlap in lines 4, 6"),
        ([row(1, 5), row(1, 0, 5.001)], r"line 5: .*overlap in lines 4, 5"),
        ([row(1, 0, 100), row(1, 20), row(1, 40)], r"line 6: .*overlap in lines 4, 5, 6"),
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
    with pytest.raises(UserError, match="line 3, column index: '2' where 1 is next"):
        read_classes(path)
    path.write_text("index,mid,display_name\n0,/m/1,A\n1,/m/1,B\n")
    with pytest.raises(UserError, match="line 3, column mid"):
        read_classes(path)
    path.write_text('\ufeffindex,mid,display_name\r\n0,/m/1,"A, b"\r\n')
    assert read_classes(path) == [("/m/1", "A, b")]
    path.write_text("index;mid;display_name\n0;/m/1;A\n")
    with pytest.raises(UserError, match="no column 'index'"):
        read_classes(path)


# -- fetching


class Files(http.server.ThreadingHTTPServer):
    """Serves `content` by name; `faults` of a name, one for each request, change what it does."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        lists = write_texts()
        self.content: dict[str, bytes] = lists
        self.faults: dict[str, list] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.version = 1
        self.address = f"http://127.0.0.1:{self.server_port}/v1"


def write_texts():
    # Longer than one block, so that a connection can be cut within it.
    rows = "".join(row(i) for i in range(4000)).encode()
    texts = {name: HEAD.encode() + rows for name in (TRAIN, TEST, UNBALANCED)}
    return texts | {
        CLASS_LIST: b"index,mid,display_name\n0,/m/1,A\n1,/m/2,B\n",
        ONTOLOGY: b'[{"id": "/m/1"}]',
    }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        server = self.server
        server.asked.append((name, self.headers["Range"]))
        faults = server.faults.get(name) or [None]
        fault = faults.pop(0)
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if fault == "hang":
            server.patience.wait(10)
            self.close_connection = True
            return None
        content, status, tag = server.content[name], 200, f'"{name}-{server.version}"'
        kind = "text/csv"
        if isinstance(fault, bytes):
            content = fault
        if fault == "typed page":
            content, kind = b"please log in", "text/html; charset=utf-8"
        at = 0
        if self.headers["Range"] and fault != "no ranges" and self.headers["If-Range"] == tag:
            at, status = int(self.headers["Range"][6:-1]), 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {at}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) - at))
        self.send_header("ETag", tag)
        self.end_headers()
        if fault == "cut":
            self.wfile.write(content[at : at + 60_000])
            self.close_connection = True
            return None
        self.wfile.write(content[at:])
        return None


@contextmanager
def serving():
    with Files() as server:
        server.patience = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.patience.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def server():
    with serving() as files:
        yield files


def fetch(server, folder, **keys):
    ontology = f"{server.address}/raw/{ONTOLOGY}"
    return fetch_lists(server.address, folder, ontology, pause_seconds=0.01, **keys)


def require_whole(server, folder):
    assert {path.name for path in folder.iterdir()} == {*FILES, CHECKSUMS}
    for name in FILES:
        assert (folder / name).read_bytes() == server.content[name]


def test_lists_are_fetched_once_and_pinned(server, tmp_path, capsys):
    folder = tmp_path / "lists"
    found = fetch(server, folder)
    require_whole(server, folder)
    assert found == checksums(folder) and set(found) == set(FILES)
    assert "balanced_train_segments.csv" in capsys.readouterr().err  # the progress bar
    assert Counter(name for name, _ in server.asked) == Counter(FILES)
    assert fetch(server, folder) == found and len(server.asked) == 5
    (folder / TEST).unlink()
    assert fetch(server, folder) == found and len(server.asked) == 6
    (folder / TEST).unlink()
    server.content[TEST] += row(9999).encode()
    with pytest.raises(UserError, match=rf"{TEST}: not the .*checksums\.csv records; delete its row"):
        fetch(server, folder)
    assert not (folder / TEST).exists()


def test_a_list_that_was_changed_is_refused(server, tmp_path):
    fetch(server, tmp_path)
    content = (tmp_path / TRAIN).read_bytes()
    (tmp_path / TRAIN).write_bytes(content.replace(b"/m/1", b"/m/2", 1))
    for act in (
        lambda: checksums(tmp_path),
        lambda: fetch(server, tmp_path),
        lambda: audioset(tmp_path).splits(),
    ):
        with pytest.raises(UserError, match=rf"{TRAIN}: .*checksums\.csv.*delete the file"):
            act()
    (tmp_path / TRAIN).write_bytes(content)
    assert set(checksums(tmp_path)) == set(FILES)
    for bad, words in (
        ("../x,1,ab", "line 2, column file: .*leaves"),
        ("x.csv,one,ab", "line 2, column bytes"),
    ):
        (tmp_path / CHECKSUMS).write_text(f"file,bytes,sha256\n{bad}\n")
        with pytest.raises(UserError, match=words):
            checksums(tmp_path)


def test_a_local_folder_needs_no_fetching(server, tmp_path):
    for name, content in server.content.items():
        (tmp_path / name).write_bytes(content)
    found = checksums(tmp_path)
    assert set(found) == set(FILES) and not (tmp_path / CHECKSUMS).exists()
    assert fetch_lists("http://127.0.0.1:9/", tmp_path) == found
    assert (tmp_path / CHECKSUMS).exists() and checksums(tmp_path) == found


def test_a_cut_download_goes_on_where_it_stopped(server, tmp_path):
    server.faults[TRAIN] = ["cut", "cut"]
    fetch(server, tmp_path)
    require_whole(server, tmp_path)
    assert [asked for name, asked in server.asked if name == TRAIN] == [None, "bytes=60000-", "bytes=120000-"]


def test_a_run_that_was_stopped_goes_on_in_the_next(server, tmp_path):
    server.faults[TRAIN] = ["cut"]
    with pytest.raises(UserError, match=rf"{TRAIN}: the connection .*kept.*start again"):
        fetch(server, tmp_path, attempts=1)
    assert not (tmp_path / TRAIN).exists()
    fetch(server, tmp_path)
    require_whole(server, tmp_path)
    assert (TRAIN, "bytes=60000-") in server.asked
    assert Counter(name for name, _ in server.asked)[CLASS_LIST] == 1


@pytest.mark.parametrize("change", ["no ranges", "new version", "longer than the file"])
def test_a_part_that_cannot_go_on_starts_anew(server, tmp_path, change):
    server.faults[TRAIN] = ["cut"]
    with pytest.raises(UserError):
        fetch(server, tmp_path, attempts=1)
    if change == "no ranges":
        server.faults[TRAIN] = ["no ranges"]
    elif change == "new version":
        server.version, server.content[TRAIN] = 2, server.content[TRAIN].replace(b"/m/1", b"/m/2")
    else:
        server.faults[TRAIN] = [416]
    fetch(server, tmp_path)
    require_whole(server, tmp_path)


@pytest.mark.parametrize("fault", [500, 503, 429, "hang"])
def test_passing_faults_are_tried_again(server, tmp_path, fault):
    server.faults[TRAIN] = [fault]
    fetch(server, tmp_path, timeout=0.3)
    require_whole(server, tmp_path)
    server.faults[TEST] = [fault] * 3
    (tmp_path / TEST).unlink()
    with pytest.raises(UserError, match=rf"{TEST}: .*, 3 times"):
        fetch(server, tmp_path, timeout=0.3, attempts=3)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (404, "answers 404"),
        (403, "answers 403"),
        (410, "answers 410"),
        ("typed page", "a web page in place"),
        (b"<!DOCTYPE html><p>sign in", "a web page in place"),
        (b"\xef\xbb\xbf\n <html>", "a web page in place"),
        (b"", "gives no balanced"),
        (b"junk", "gives no balanced.*'junk'.*mend the address"),
    ],
)
def test_what_is_no_list_is_refused_at_once(server, tmp_path, fault, words):
    server.faults[TRAIN] = [fault]
    with pytest.raises(UserError, match=f"{server.address}/{TRAIN}: .*{words}"):
        fetch(server, tmp_path)
    assert [name for name, _ in server.asked].count(TRAIN) == 1
    assert not (tmp_path / TRAIN).exists() and not (tmp_path / f".{TRAIN}.part").exists()
    fetch(server, tmp_path)
    require_whole(server, tmp_path)


def test_a_broken_ontology_is_refused(server, tmp_path):
    server.faults[ONTOLOGY] = [b'{"id": 1}', b'[{"id": ']
    for _ in range(2):
        with pytest.raises(UserError, match="gives no ontology"):
            fetch(server, tmp_path)


def test_no_network_and_bad_addresses_are_said(tmp_path):
    with pytest.raises(UserError, match=r"no connection \(.*refused.*2 times.*check the network"):
        fetch_lists("http://127.0.0.1:9/lists", tmp_path, attempts=2, pause_seconds=0.01)
    for address in ("file:///etc", "lists", "ftp://x"):
        with pytest.raises(UserError, match="begins with http"):
            fetch_lists(address, tmp_path)
    with pytest.raises(UserError, match="no address of a list"):
        fetch_lists("http://[x/lists", tmp_path)


def test_a_disk_that_takes_nothing_is_said(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/lists: Not a directory"):
        fetch(server, tmp_path / "file" / "lists")
    (tmp_path / f".{TRAIN}.part").mkdir()
    with pytest.raises(UserError, match=rf"{TRAIN}\.part: Is a directory; make room"):
        fetch(server, tmp_path)


def test_default_addresses_are_the_authors(tmp_path):
    assert section(tmp_path).address == official.LISTS_ADDRESS
    assert official.LISTS_ADDRESS.startswith("http://storage.googleapis.com/us_audioset/")
    assert section(tmp_path).ontology == official.ONTOLOGY_ADDRESS
    assert "/audioset/ontology/" in official.ONTOLOGY_ADDRESS


def test_the_corpus_is_opened_by_its_name(tmp_path):
    corpus = open_corpus(section(write(tmp_path)), 10.0)
    assert isinstance(corpus, Audioset) and len(corpus.splits()["valid"]) == 5
