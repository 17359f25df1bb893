"""Batches of waveforms, and batches without masks."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import waves

from audionas.data.store import ClipStore
from audionas.evaluation.prediction import batches
from audionas.runtime.ranks import Ranks
from audionas.settings.audio import Augment
from audionas.settings.training import Training
from audionas.training.feed import Batch, Feed


@pytest.fixture
def store(tmp_path) -> ClipStore:
    return waves.store(tmp_path / "train.h5", 24)


def same(one: Batch, other: Batch) -> bool:
    assert one.keep is None and other.keep is None
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("x", "y", "rows"))


def test_waveforms_are_floats_within_one_and_have_no_masks(store):
    batch = Feed(store, Training(batch_size=7), Augment()).batch(0)
    assert batch.x.dtype == torch.float32 and batch.x.shape == (7, waves.SAMPLES) and batch.keep is None
    expected = np.asarray(store.data[batch.rows.numpy()]).astype(np.float32) / 32_767
    torch.testing.assert_close(batch.x, torch.from_numpy(expected))
    assert torch.equal(batch.y, torch.from_numpy(store.labels[batch.rows.numpy()]).float())
    assert 0.4 < batch.x.abs().max() <= 1
    torch.testing.assert_close(torch.cat([*batches(store, 7)])[batch.rows], batch.x)  # as in prediction


@pytest.mark.parametrize("mixup_alpha", [0.0, 1.0])
def test_waveform_batches_follow_from_seed_and_iteration_alone(store, mixup_alpha):
    def batch(seed: int, iteration: int, before: tuple[int, ...] = ()) -> Batch:
        feed = Feed(store, Training(batch_size=9), None, mixup_alpha, seed=seed)
        for other in before:
            feed.batch(other)
        return feed.batch(iteration)

    first = batch(0, 5)
    assert same(first, batch(0, 5, before=(0, 1, 2, 9)))  # as in a resumed run
    assert not same(first, batch(1, 5)) and not same(first, batch(0, 6))


@pytest.mark.parametrize("sampler", ["uniform", "balanced"])
@pytest.mark.parametrize("mixup_alpha", [0.0, 1.0])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_any_number_of_ranks_shares_the_same_waveforms(store, sampler, mixup_alpha, size):
    options = Training(batch_size=12, sampler=sampler)
    whole, *parts = (
        Feed(store, options, None, mixup_alpha, ranks=ranks)
        for ranks in (Ranks(), *(Ranks(i, size) for i in range(size)))
    )
    for iteration in range(3):
        expected, shares = whole.batch(iteration), [part.batch(iteration) for part in parts]
        assert [len(share.x) for share in shares] == [12 // size] * size
        for name in ("x", "y", "rows"):
            together = torch.cat([getattr(share, name) for share in shares])
            torch.testing.assert_close(together, getattr(expected, name))


@pytest.mark.parametrize("augment", [None, Augment(time_masks=0, mel_masks=0)])
def test_features_without_masks_are_those_that_masks_are_laid_over(tmp_path, monkeypatch, augment):
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path)
    store = ClipStore(Path("data/logmel/train.h5"))
    plain, masked = (
        Feed(store, Training(batch_size=8), masks).batch(3) for masks in (augment, config.augment)
    )
    assert plain.keep is None and masked.keep.shape == masked.x.shape and not masked.keep.all()
    assert torch.equal(plain.x, masked.x) and torch.equal(plain.rows, masked.rows)
