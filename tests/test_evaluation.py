"""Mean average precision against scikit-learn, and what evaluation writes."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from audionas.evaluation import average_precisions, mean_average_precision
from audionas.stages.evaluate import write_npz


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
        if labels[:, k].any():
            assert ours[k] == pytest.approx(average_precision_score(labels[:, k], scores[:, k]), abs=1e-12)
        else:
            assert np.isnan(ours[k])
    if labels.any():
        present = labels.any(axis=0)
        expected = average_precision_score(labels[:, present], scores[:, present], average="macro")
        assert mean_average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)
    else:
        assert np.isnan(mean_average_precision(labels, scores))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="diverged"):
        average_precisions(np.ones((2, 1)), np.array([[0.1], [np.nan]]))


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
