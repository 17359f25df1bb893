"""Mean average precision compared with scikit-learn, and the outputs of evaluation."""

import hashlib

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from audionas.data import paths as data_paths
from audionas.data.store import ClipStore, write_store
from audionas.evaluation.metrics import average_precisions, mean_average_precision, measurable
from audionas.runtime.errors import UserError
from audionas.runtime.npz import write_npz
from audionas.systems.common.loading import open_logmel
from audionas.systems.once_for_all.stages.evaluate import sources_of


@settings(max_examples=100, deadline=None)
@given(
    clips=st.integers(1, 60),
    classes=st.integers(1, 6),
    levels=st.sampled_from([1, 2, 5, 10**6]),  # few levels: many equal scores
    seed=st.integers(0, 10**6),
)
def test_equals_scikit_learn(clips, classes, levels, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (clips, classes))
    scores = (rng.integers(0, levels, (clips, classes)) / levels).astype(np.float32)
    ours = average_precisions(labels, scores)
    for k in range(classes):
        if labels[:, k].any() and not labels[:, k].all():
            assert ours[k] == pytest.approx(average_precision_score(labels[:, k], scores[:, k]), abs=1e-12)
        else:
            assert np.isnan(ours[k])
    present = labels.any(axis=0) & ~labels.all(axis=0)
    assert measurable(labels).tolist() == present.tolist()
    if present.any():
        expected = average_precision_score(labels[:, present], scores[:, present], average="macro")
        assert mean_average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)
    else:
        assert np.isnan(mean_average_precision(labels, scores))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="diverged"):
        average_precisions(np.ones((2, 1)), np.array([[0.1], [np.nan]]))


def test_a_class_without_a_negative_counts_no_more_than_one_without_a_positive():
    labels, scores = np.array([[1, 0, 1], [1, 0, 0]]), np.array([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]])
    np.testing.assert_array_equal(average_precisions(labels, scores), [np.nan, np.nan, 0.5])
    assert mean_average_precision(labels, scores) == 0.5
    assert np.isnan(mean_average_precision(labels[:, :1], scores[:, :1]))


def test_a_split_in_which_no_class_can_be_measured_is_refused(tmp_path, monkeypatch):
    """Every clip has the only class, so mAP would be 100 for any network."""
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path)
    for split in ("train", "valid", "test"):
        store = ClipStore(data_paths.logmel(split))
        labels, data = np.zeros_like(store.labels), np.array(store.data)
        labels[:, 2] = 1
        settings = config.feature_settings()
        write_store(store.path, store.clip_ids, labels, data, classes=store.classes, settings=settings)
    assert len(open_logmel(config, "train")) == 24
    for split in ("valid", "test"):
        with pytest.raises(UserError, match=rf"{split}\.h5: every clip has the same labels"):
            open_logmel(config, split)


def test_a_clip_that_is_not_on_the_list_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    store = ClipStore(data_paths.logmel("test"))
    data_paths.segments("test").write_text("clip_id,source\ntest0,tape\n")
    with pytest.raises(UserError, match=r"segments/test\.csv: clip 'test1' of .*test\.h5 is missing"):
        sources_of(data_paths.segments("test"), store)


def test_predictions_are_the_same_bytes_under_every_python(tmp_path):
    arrays = {
        "probabilities": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
        "clips": np.array(["a", "bc"]),
    }
    write_npz(tmp_path / "x.npz", arrays)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as read:
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)
    digest = hashlib.sha256((tmp_path / "x.npz").read_bytes()).hexdigest()
    assert digest == "858ca4bd131c41ed6ee0f89257bafd9fc625c3caa7110447fd815f13c2796017"
