"""Losses, output activations and metrics of the tasks, against their definitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from audionas.evaluation.metrics import mean_average_precision
from audionas.models import Cnn10
from audionas.settings.training import Distillation
from audionas.tasks import MultiLabel, SingleLabel
from audionas.training.feed import Batch
from audionas.training.objectives.distillation import Distilled

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
LABELS = np.array([[1, 0, 0], [0, 0, 1]], np.uint8)


def test_several_labels_have_binary_cross_entropy_a_sigmoid_and_mean_average_precision():
    task, target = MultiLabel(), torch.tensor([[1.0, 0.0, 1.0], [0.2, 0.8, 0.5]])
    p = 1 / (1 + torch.exp(-LOGITS))
    torch.testing.assert_close(task.activation(LOGITS), p)
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(task.loss(LOGITS, target), expected)
    assert task.metric(LABELS, p.numpy()) == mean_average_precision(LABELS, p.numpy())
    assert task.measured(LABELS).tolist() == [True, False, True] and task.metric_name == "mAP"


def test_one_label_has_cross_entropy_a_softmax_and_accuracy():
    task, target = SingleLabel(), torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0]])
    p = torch.exp(LOGITS) / torch.exp(LOGITS).sum(dim=1, keepdim=True)
    torch.testing.assert_close(task.activation(LOGITS), p)
    torch.testing.assert_close(task.loss(LOGITS, target), -(target * p.log()).sum(dim=1).mean())
    assert task.metric(LABELS, p.numpy()) == 0.5
    assert task.measured(LABELS).tolist() == [True, False, True] and task.metric_name == "accuracy"


def test_accuracy_equals_scikit_learn_and_refuses_what_it_cannot_count():
    rng, task = np.random.default_rng(0), SingleLabel()
    of_clip, scores = rng.integers(0, 5, 200), rng.random((200, 5))
    labels = np.eye(5, dtype=np.uint8)[of_clip]
    assert task.metric(labels, scores) == accuracy_score(of_clip, scores.argmax(axis=1))
    with pytest.raises(ValueError, match="diverged"):
        task.metric(labels, np.full_like(scores, np.nan))
    with pytest.raises(ValueError, match="equal shapes"):
        task.metric(labels, scores[:, :4])
    labels[3] = 0
    with pytest.raises(ValueError, match="clip 3 has 0 labels"):
        task.metric(labels, scores)


@pytest.mark.parametrize("task", [MultiLabel(), SingleLabel()])
def test_a_distilled_network_learns_from_probabilities_of_its_task(task):
    """Without masks, which are optional."""
    torch.manual_seed(0)
    student, teacher = Cnn10(3, 4, mels=16), Cnn10(3, 4, mels=16)
    x, y = torch.randn(4, 20, 16), torch.eye(3)[[0, 1, 2, 0]]
    objective = Distilled(student, task, teacher, Distillation())
    batch = Batch(x, y, None, torch.arange(4))
    target = objective.target(batch)
    assert torch.equal(target, task.activation(teacher(x)))
    student.eval()
    torch.testing.assert_close(objective(batch, 0), task.loss(student(x), target))
