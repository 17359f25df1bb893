"""Lists of any length: read row by row as they would be whole, and never held."""

import csv
import gc
import hashlib
import io
import tracemalloc
import weakref
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.data import hashing as keys
from audionas.data.corpora import audioset, base, folder
from audionas.data.corpora.base import Clip
from audionas.data.corpora.registry import open_corpus
from audionas.data.ledger import DOWNLOAD, SEGMENTS, iter_rows, parse_rows, read_rows, write_rows
from audionas.data.names import clean, comparable
from audionas.data.shards import write_shard
from audionas.data.sources.local import Local
from audionas.data.sources.shard_cache import AudioCache, fill_shard
from audionas.runtime.errors import UserError
from audionas.settings.corpora import AudiosetCorpus, Download, FolderCorpus, SplitFolds, SplitFractions
from audionas.systems.common import coverage, download, segments
from audionas.systems.registry import load_config

ROOT = Path(__file__).parents[3]


# -- rows


def whole(content: bytes, required) -> list[dict] | None:
    """Rows of a file that is decoded and parsed at once; None for one to be refused."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = [clean(name) for name in reader.fieldnames or []]
        for name in required:  # whatever their case, where one alone is meant
            if name not in columns and [comparable(c) for c in columns].count(name) == 1:
                columns[[comparable(c) for c in columns].index(name)] = name
        reader.fieldnames = columns
        rows = list(reader)
    except (csv.Error, UnicodeDecodeError):
        return None
    if b"\0" in content[:64] or max(Counter(filter(None, columns)).values(), default=1) > 1:
        return None
    if not set(required) <= set(reader.fieldnames or []):
        return None
    return None if any(None in row or None in row.values() for row in rows) else rows


FIELD = st.text('a,"\n\r é\ufeff', max_size=4)
TABLES = st.lists(st.lists(FIELD, min_size=2, max_size=2), max_size=6)


def written(rows, header=("a", "b")) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue().encode()


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text('ab,"\n\r\0é', max_size=60).map(str.encode),
        TABLES.map(written),
        st.tuples(TABLES.map(written), st.integers(0, 80), st.binary(max_size=3)).map(
            lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]
        ),
    ),
    st.sampled_from([(), ("a",), ("a", "b"), ("c",)]),
)
def test_rows_read_one_by_one_are_those_of_the_whole_file_and_refused_alike(
    tmp_path_factory, content, required
):
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_bytes(content)
    wanted = whole(content, required)
    for read in (lambda: list(iter_rows(path, required)), lambda: parse_rows(content, path, required)):
        if wanted is None:
            with pytest.raises(UserError, match=r"rows\.csv"):
                read()
        else:
            assert read() == wanted


def test_a_bad_row_is_refused_when_the_reading_comes_to_it_and_named_by_its_line(tmp_path):
    path = tmp_path / "long.csv"
    good = [[f"{i}", "x"] for i in range(20_000)]
    for bad, words in (
        (b"1,2,3\n", "line 20002: expected 2 fields"),
        (b'1,"2"3\n', "line 20002: not readable as CSV"),
        (b"1,\xff\n", r"after line [12]\d+: not readable as CSV in UTF-8"),
    ):
        path.write_bytes(written(good) + bad)
        rows = iter_rows(path)
        assert [row["a"] for row in islice(rows, 15_000)] == [a for a, _ in good[:15_000]]
        with pytest.raises(UserError, match=words):
            list(rows)
        with pytest.raises(UserError, match=words):
            read_rows(path)


# -- keys


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab", max_size=4)), st.sampled_from([keys.key, len, lambda text: 7]))
def test_what_is_repeated_is_found_exactly_though_keys_meet(texts, key):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "key", key)
        assert keys.repeated(keys.keys(texts), iter(texts)) == {
            text for text, n in Counter(texts).items() if n > 1
        }


def test_membership_by_key():
    some = np.sort(keys.keys(["a", "b", "c"]))
    assert keys.within(keys.keys(["c", "x", "a"]), some).tolist() == [True, False, True]
    assert keys.within(keys.keys(["c"]), some[:0]).tolist() == [False]


CLIPS = st.builds(
    lambda source, clip_id: Clip(clip_id, source, "", ("a",)),
    st.sampled_from("stuv"),
    st.text("ij", max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["train", "valid", "test"]), CLIPS), max_size=6),
    st.sampled_from([keys.key, lambda text: len(text) + 5]),
)
def test_splits_are_held_apart_exactly_though_keys_meet(placed, key):
    sources = Counter(source for source, _ in {(clip.source, split) for split, clip in placed})
    ids = Counter(clip.clip_id for _, clip in placed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "key", key)
        if max(sources.values(), default=1) > 1 or max(ids.values(), default=1) > 1:
            with pytest.raises(UserError, match=r"^list: .*(is in \w+ and in \w+|appears twice)"):
                base.require_disjoint(placed, "list")
        else:
            base.require_disjoint(placed, "list")


# -- AudioSet's lists


def ytid(number: int) -> str:
    return f"{number:011d}"


def write_lists(folder: Path, **lists) -> Path:
    """Lists `{name}.csv` of (video, start) in a folder, with two classes."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/1,Cat\n1,/m/2,Dog\n")
    for name, rows in lists.items():
        with (folder / f"{name}.csv").open("w") as file:
            file.writelines(
                f'{ytid(video)}, {start:.3f}, {start + 10:.3f}, "/m/{1 + i % 2}"\n'
                for i, (video, start) in enumerate(rows)
            )
    return folder


def own(folder: Path, **changes) -> AudiosetCorpus:
    names = {f"{split}_list": f"{split}.csv" for split in ("train", "valid", "test")}
    return AudiosetCorpus(**{"name": "audioset", "lists": str(folder), "audio": "audio", **names, **changes})


SPANS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(SPANS, SPANS, st.sampled_from([keys.key, lambda text: int(text) % 2]))
def test_overlaps_and_shared_videos_are_found_exactly_though_keys_meet(tmp_path_factory, train, test, key):
    folder = tmp_path_factory.getbasetemp() / "apart"
    write_lists(folder, train=train, valid=[(99, 0)], test=test)
    overlap = any(
        one[0] == other[0] and abs(one[1] - other[1]) < 10
        for rows in (train, test)
        for i, one in enumerate(rows)
        for other in rows[:i]
    )
    shared = {video for video, _ in train} & {video for video, _ in test}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audioset, "key", key)
        corpus = open_corpus(own(folder), 10.0)
        if overlap or shared:
            with pytest.raises(UserError, match="overlap or repeat in" if overlap else "is also in train"):
                corpus.streams()
        else:
            splits = corpus.streams()
            for split, rows in (("train", train), ("test", test)):
                for _ in range(2):  # each can be gone through again
                    assert [(int(c.source), c.start) for c in splits[split]] == rows


# -- memory


class Alive:
    """Counts the clips that a module makes, and how many there were at most at one time."""

    def __init__(self, monkeypatch, module):
        self.made = self.most = 0
        self._now = set()
        monkeypatch.setattr(module, "Clip", self._make)

    def _make(self, *args):
        if self.made % 10 == 9:
            gc.collect()  # answers of a source are held in cycles
            self.most = max(self.most, len(self._now))
        clip, number = Clip(*args), object()
        self._now.add(number)
        weakref.finalize(clip, self._now.discard, number)
        self.made += 1
        return clip


@pytest.fixture
def alive(monkeypatch):
    gc.freeze()  # so that collecting is quick
    yield lambda module: Alive(monkeypatch, module)
    gc.unfreeze()


def _bytes_a_clip(act, few=2_000, more=22_000) -> float:
    def peak(n: int) -> int:
        tracemalloc.start()
        try:
            act(n)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    act(few)  # what is imported and kept once is none of the clips'
    return (peak(more) - peak(few)) / (more - few)


@pytest.mark.slow
def test_segments_of_a_long_list_take_little_memory(tmp_path, monkeypatch):
    def act(n: int) -> None:
        folder = tmp_path / str(n)
        if not folder.exists():
            write_lists(
                folder, train=((i, 0) for i in range(n)), valid=[(-1, 0), (-3, 0)], test=[(-2, 0), (-4, 0)]
            )
        splits = open_corpus(own(folder), 10.0).streams()
        assert sum(1 for _ in splits["train"]) == n

    assert _bytes_a_clip(act) < 80


@pytest.mark.parametrize("form", ["folds", "fractions", "segments"])
def test_no_clip_of_a_folder_list_is_held(tmp_path, alive, form):
    n, path = 300, tmp_path / "list.csv"
    if form == "segments":
        path.write_text("# x\n" + "".join(f"{ytid(i)}, 0.000, 10.000, a\n" for i in range(n)))
    else:
        rows = "".join(f"{i}.wav,a,{i // 4},{1 + i // 4 % 3}\n" for i in range(n))
        path.write_text("file,positive_labels,source,fold\n" + rows)
    split = SplitFractions(train=0.6, valid=0.2, test=0.2)
    if form == "folds":
        split = SplitFolds(train=[1], valid=[2], test=[3])
    (tmp_path / "audio").mkdir()
    section = FolderCorpus(name="folder", lists=str(path), audio=str(tmp_path / "audio"), split=split)
    clips = alive(folder)
    splits = open_corpus(section, 10.0).streams()
    assert sum(1 for clips in splits.values() for _ in clips) == n
    assert clips.made >= 3 * n and clips.most <= 3


# -- download


def sound(seed: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(seed).normal(0, 0.1, 8000), 8000, format="FLAC")
    return file.getvalue()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with 95 training clips, ten a shard, of which a local copy has the odd ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIONAS_WORKERS", "1")
    monkeypatch.setattr(download, "CLIPS", 10)
    write_lists(
        tmp_path / "lists",
        train=((i, 0) for i in range(95)),
        valid=[(200, 0), (201, 0)],
        test=[(300, 0), (301, 0)],
    )
    (tmp_path / "audio").mkdir()
    for i in range(1, 95, 2):
        (tmp_path / "audio" / f"Y{ytid(i)}.flac").write_bytes(sound(i))
    params = yaml.safe_load((ROOT / "profiles/audioset.yaml").read_text())
    params["corpus"] |= own(Path("lists"), audio="audio", sources=["local"], least_coverage=0.0).model_dump()
    params["network"]["num_classes"] = 2
    Path("params.yaml").write_text(yaml.safe_dump(params))
    segments.run(load_config())
    return tmp_path


def test_download_reads_the_list_shard_by_shard_and_holds_two_at_most(project, monkeypatch, alive):
    asked, get, clips = [], Local.get, alive(download)

    def ask(self, clip):
        # Read twice before, to check it and to name it; then never beyond the shard that is being got.
        assert clips.made <= 2 * 95 + 10 * (len(asked) // 10 + 1)
        asked.append(clip.clip_id)
        return get(self, clip)

    monkeypatch.setattr(Local, "get", ask)
    download.run(load_config(), "train")
    assert len(asked) == 95 and clips.made == 3 * 95 and clips.most <= 2 * 10
    rows = read_rows("data/raw/train/ledger.csv", DOWNLOAD)
    assert [row["clip_id"] for row in rows] == [f"Y{ytid(i)}_0" for i in range(95)]
    assert [row["status"] for row in rows] == ["ok" if i % 2 else "failed" for i in range(95)]
    assert not list(Path(".state/download").iterdir())


@pytest.mark.parametrize("limit", [None, 5])
def test_a_bad_list_is_refused_before_anything_is_got(project, monkeypatch, limit):
    path = Path("data/segments/train.csv")
    lines = path.read_text().splitlines(keepends=True)
    asked = []
    monkeypatch.setattr(Local, "get", lambda self, clip: asked.append(clip))
    for bad, words in (
        (lines[90].replace(",0.0,", ",soon,"), "line 91: start or end is not a number"),
        (lines[90].replace(",0.0,", ",0.0,,"), "line 91: expected 6 fields"),
    ):
        assert bad != lines[90]
        path.write_text("".join([*lines[:90], bad, *lines[91:]]))
        with pytest.raises(UserError, match=rf"train\.csv, {words}"):
            download.run(load_config(), "train", limit)
    assert not asked and not Path("data/raw/train").exists() and not Path(".state").exists()


def test_another_day_gives_the_same_bytes(project):
    config = load_config()
    download.run(config, "train")
    first = {path.name: path.read_bytes() for path in Path("data/raw/train").iterdir()}
    for path in Path("audio").iterdir():
        path.unlink()  # all comes from the last output
    download.run(config, "train")
    assert {path.name: path.read_bytes() for path in Path("data/raw/train").iterdir()} == first
    coverage.run(config)


# -- the cache


def test_the_shelf_prefers_what_was_got_and_leaves_no_database(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    failed = {"clip_id": "a", "status": "failed", "reason": 'said "no", twice', "answers": "hub:not there"}
    got = {"clip_id": "a", "status": "ok", "source": "hub", "bytes": 3}
    write_rows(one / "ledger.csv", DOWNLOAD, [failed, {"clip_id": "b", "status": "ok"}])
    write_shard(one / "shard-000000.tar", [("c", b"no row")])
    write_rows(two / "ledger.csv", DOWNLOAD, [got, failed | {"clip_id": "b"}, failed | {"clip_id": "d"}])
    write_shard(two / "shard-000000.tar", [("a", b"abc"), ("c", b"later")])
    database = tmp_path / "cache"
    database.write_bytes(b"left by a killed run")
    with AudioCache([one, two], database) as cache:
        found = cache.find([Clip(clip_id, "", "", ()) for clip_id in "dxcba"])
    assert {clip_id: kept.path is not None for clip_id, kept in found.items()} == {"a": 1, "b": 0, "d": 0}
    assert found["a"].read() == b"abc"
    assert found["a"].row == dict.fromkeys(DOWNLOAD, "") | got | {"bytes": "3"}
    assert found["b"].row["status"] == "ok"
    assert found["d"].row == dict.fromkeys(DOWNLOAD, "") | failed | {"clip_id": "d"}
    assert not database.exists()


def test_the_cache_gives_no_audio_that_its_ledger_does_not_know(tmp_path):
    clips = [Clip(clip_id, clip_id, clip_id, ("x",), 0.0, 1.0) for clip_id in "ab"]
    rows = [{"clip_id": c, "status": "ok", "sha256": hashlib.sha256(c.encode()).hexdigest()} for c in "ab"]
    write_rows(tmp_path / "one" / "ledger.csv", DOWNLOAD, rows)  # whose shard is gone
    write_shard(tmp_path / "two" / "shard-000000.tar", [("a", b"a"), ("b", b"another take")])
    with (
        AudioCache([tmp_path / "one", tmp_path / "two"], tmp_path / "cache") as cache,
        pytest.raises(UserError, match=r"two/shard-000000\.tar: the audio of b does not match its ledger"),
    ):
        fill_shard(tmp_path / "state" / "shard-000000", clips, [], cache, Download(), 0.1, lambda _: None)
    (tmp_path / "two" / "shard-000000.tar").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"shard-000000\.tar: damaged .*; delete it to download its clips"):
        AudioCache([tmp_path / "two"], tmp_path / "cache")


def test_lists_of_segments_say_where_they_are_bad(tmp_path):
    path = tmp_path / "train.csv"
    row = dict.fromkeys(SEGMENTS, "x") | {"start": "0", "end": "1"}
    write_rows(path, SEGMENTS, [row, row | {"end": "late"}])
    clips = download.iter_clips(path)
    assert next(clips) == Clip("x", "x", "x", ("x",), 0.0, 1.0)
    with pytest.raises(UserError, match="line 3: start or end is not a number"):
        next(clips)
