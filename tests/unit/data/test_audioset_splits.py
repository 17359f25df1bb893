"""AudioSet's lists made into splits: the genuine ones, fewer clips, some classes, lists of one's own."""

import re
import tracemalloc
from collections import Counter

import pytest
from audioset_lists import audioset, ids, row, section, write, ytid
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.data.corpora.audioset import Audioset, choose_classes
from audionas.data.corpora.audioset_lists import CLASS_LIST, TEST, TRAIN, UNBALANCED
from audionas.data.corpora.base import Clip
from audionas.data.corpora.registry import open_corpus
from audionas.runtime.errors import UserError


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
    with pytest.raises(UserError, match=rf"{UNBALANCED}: 20 segments are available .* asks for 21"):
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
    with pytest.raises(UserError, match="16 segments are available"):
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
        UserError, match=r"corpus\.clips\.train: 5 clips are too few for .* 6 classes; give at least 6"
    ):
        audioset(tmp_path, clips={"train": 5}).splits()
    # Cutting train down changes neither validation nor what it is drawn from.
    whole = audioset(tmp_path).splits()["valid"]
    assert audioset(tmp_path, clips={"train": 6}).splits()["valid"] == whole
    assert audioset(tmp_path, clips={"train": 1000}).splits()["train"] == audioset(tmp_path).splits()["train"]


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
    for count in (10_000, 100_000):
        write(tmp_path, 20, pool=(row(100 + i, 30, labels=f"/m/{i % 20 + 1}") for i in range(count)))
        corpus = audioset(tmp_path, valid_clips=500, stratified=True)
        tracemalloc.start()
        try:
            valid = corpus.splits()["valid"]
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        sizes.append((tmp_path / UNBALANCED).stat().st_size)
        assert len(valid) == 500
    assert sizes[1] > 9 * sizes[0] > 400_000
    assert peaks[1] < 1.2 * peaks[0] and peaks[1] < sizes[1] / 5, (peaks, sizes)


def test_the_corpus_is_opened_by_its_name(tmp_path):
    corpus = open_corpus(section(write(tmp_path)), 10.0)
    assert isinstance(corpus, Audioset) and len(corpus.splits()["valid"]) == 5
