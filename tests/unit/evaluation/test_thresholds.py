import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, precision_score, recall_score

from audionas.evaluation.thresholds import DEFAULT, NEVER, f1_thresholds, precision_thresholds

LABELS = arrays(np.uint8, (12, 3), elements=st.integers(0, 1))
SCORES = arrays(np.float32, (12, 3), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]))
CUTS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.01)  # one between any two scores


def all_scores(score, labels, scores, **options):
    return [score(labels, scores >= cut, zero_division=0, **options) for cut in CUTS]


@settings(deadline=None, max_examples=40)
@given(LABELS, SCORES)
def test_no_other_threshold_has_a_larger_f1(labels, scores):
    for c, threshold in enumerate(f1_thresholds(labels, scores)):
        if labels[:, c].any() and not labels[:, c].all():
            ours = f1_score(labels[:, c], scores[:, c] >= threshold, zero_division=0)
            assert ours == pytest.approx(max(all_scores(f1_score, labels[:, c], scores[:, c])))
        else:
            assert threshold == DEFAULT


@settings(deadline=None, max_examples=40)
@given(LABELS, SCORES, st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_the_wanted_precision_holds_with_the_largest_recall(labels, scores, wanted):
    for c, threshold in enumerate(precision_thresholds(labels, scores, wanted)):
        label, score = labels[:, c], scores[:, c]
        if not label.any() or label.all():
            assert threshold == DEFAULT
            continue
        precisions = np.array(all_scores(precision_score, label, score))
        recalls = np.array(all_scores(recall_score, label, score))[precisions >= wanted]
        if not (recalls > 0).any():
            assert threshold == NEVER
            continue
        assert precision_score(label, score >= threshold) >= wanted
        assert recall_score(label, score >= threshold) == pytest.approx(recalls.max())


def test_a_threshold_is_halfway_between_two_scores():
    labels, scores = np.array([[1, 0], [1, 1], [0, 0]]), np.array([[0.9, 0.2], [0.7, 0.8], [0.1, 0.2]])
    assert f1_thresholds(labels, scores) == pytest.approx([0.4, 0.5])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="equal shapes"):
        f1_thresholds(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="finite"):
        f1_thresholds(np.eye(2), np.full((2, 2), np.nan))
