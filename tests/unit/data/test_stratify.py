"""Shares of every class, by groups: against scikit-learn's StratifiedGroupKFold, and what must hold."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from audionas.data.corpora.folder import Folder
from audionas.data.corpora.stratify import assign
from audionas.settings.corpora import FolderCorpus, SplitFractions

SHARES = (0.7, 0.15, 0.15)


def groups_of(rng, groups, classes, largest=30):
    """Clips of so many groups: each mostly of one class, some of which are rare."""
    size = rng.integers(1, largest, groups)
    group = np.repeat(np.arange(groups), size)
    weight = 1 / np.arange(1, classes + 1)
    main = rng.choice(classes, groups, p=weight / weight.sum())
    label = np.where(rng.random(len(group)) < 0.8, main[group], rng.integers(0, classes, len(group)))
    return group, label


def shares_of(part, label, parts, classes):
    """Share of each class in each part, [parts, classes]."""
    table = np.zeros((parts, classes))
    np.add.at(table, (part, label), 1)
    return table / np.maximum(table.sum(axis=0), 1)


def test_equal_parts_are_as_even_as_those_of_scikit_learn():
    ours, theirs = [], []
    for seed in range(8):
        group, label = groups_of(np.random.default_rng(seed), 120, 10)
        every = np.full(len(group), 10)
        home = assign(np.concatenate([group, group]), np.concatenate([label, every]), [0.2] * 5, seed)[group]
        folds = np.zeros(len(group), int)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for part, (_, test) in enumerate(splitter.split(label, label, group)):
            folds[test] = part
        for part, far in ((home, ours), (folds, theirs)):
            far.append(np.square(shares_of(part, label, 5, 10) - 0.2).mean())
        assert np.abs(np.bincount(home, minlength=5) / len(group) - 0.2).max() < 0.03
    assert np.mean(ours) < 1.05 * np.mean(theirs)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.integers(1, 8))
def test_every_class_of_three_groups_is_in_every_part_and_every_class_in_the_first(seed, groups, classes):
    group, label = groups_of(np.random.default_rng(seed), groups, classes, 6)
    home = assign(group, label, SHARES, seed)
    assert home.shape == (groups,) and set(home.tolist()) <= {0, 1, 2}
    for each in np.unique(label):
        own = np.unique(group[label == each])
        assert 0 in home[own]
        alone = [one for one in own if (label[group == one] == each).all()]
        if len(alone) >= 3 and len(alone) == len(own):
            assert {*home[own].tolist()} == {0, 1, 2}
    # The order of the clips is nothing to it.
    order = np.random.default_rng(seed).permutation(len(group))
    assert np.array_equal(assign(group[order], label[order], SHARES, seed), home)


def test_seeds_draw_other_parts():
    group, label = np.arange(100), np.arange(100) % 4
    homes = {assign(group, label, SHARES, seed).tobytes() for seed in range(5)}
    assert len(homes) == 5
    for home in homes:
        part = np.frombuffer(home, np.int8)
        assert np.bincount(part).tolist() == [68, 16, 16] or abs(np.bincount(part)[0] - 70) <= 2


def folder(tmp_path, rows, split, seed=0):
    (tmp_path / "audio").mkdir(exist_ok=True)
    (tmp_path / "list.csv").write_text("file,labels,source\n" + "".join(rows))
    section = FolderCorpus(
        name="folder",
        lists=str(tmp_path / "list.csv"),
        audio=str(tmp_path / "audio"),
        labels_column="labels",
        split=split,
        seed=seed,
    )
    return Folder(section)


@pytest.mark.parametrize("seed", range(8))
def test_a_small_labs_list_loses_no_class(tmp_path, seed):
    """837 clips of 124 recordings in ten classes of unequal size: shuffled, seven of eight seeds lose one."""
    rng = np.random.default_rng(1)
    main = rng.choice(10, 124, p=np.array([4, 4, 4, 3, 3, 2, 1.2, 1, 0.6, 0.4]) / 23.2)
    main[:30] = np.arange(30) % 10  # three recordings of each at least
    sources = np.concatenate([np.arange(124), rng.integers(0, 124, 837 - 124)])
    rows = [f'{i}.wav,"c{main[s]}{",noise" * (i % 7 == 0)}",s{s}\n' for i, s in enumerate(sources)]
    fractions = SplitFractions(train=0.7, valid=0.15, test=0.15)
    splits = folder(tmp_path, rows, fractions, seed).splits()
    counts = {name: Counter(x for clip in part for x in clip.labels) for name, part in splits.items()}
    total = sum(counts.values(), Counter())
    for share, name in zip(SHARES, ("train", "valid", "test"), strict=True):
        assert set(counts[name]) == set(total)
        assert abs(len(splits[name]) / 837 - share) < 0.03
        common = [label for label, n in total.items() if n > 60]
        assert max(abs(counts[name][label] / total[label] - share) for label in common) < 0.12


def test_fifty_classes_of_few_recordings_are_all_in_every_split(tmp_path):
    rows = [f"{i}.wav,c{i % 50},{i % 50}-{i // 50 % 4}\n" for i in range(50 * 8)]
    splits = folder(tmp_path, rows, SplitFractions(train=0.7, valid=0.15, test=0.15)).splits()
    assert all(len({clip.labels for clip in part}) == 50 for part in splits.values())


def test_clips_without_a_label_are_shared_out_as_well(tmp_path):
    rows = [f"{i}.wav,{('a', 'b', '')[i % 3]},\n" for i in range(60)]
    splits = folder(tmp_path, rows, SplitFractions(train=0.6, valid=0.2, test=0.2)).splits()
    assert {name: sum(not c.labels for c in part) for name, part in splits.items()} == {
        "train": 12,
        "valid": 4,
        "test": 4,
    }
