import numpy as np
import pytest
import torch

from dml.training.metrics import calibration_error, disagreement, personal_accuracy, scores


def test_hand_computed_scores():
    logits = torch.tensor([[2.0], [1.0], [-1.0], [-2.0]])
    found = scores(logits, np.array([1, 0, 1, 0]))
    assert found["accuracy"] == 0.5 and found["precision"] == 0.5 and found["recall"] == 0.5
    assert found["auc"] == 0.75  # of the four pairs of a positive and a negative, three are in order
    assert found["log loss"] == pytest.approx(np.log1p(np.exp([-2.0, 1.0, 1.0, -2.0])).mean())


def test_calibration_error_by_hand():
    p = np.array([[0.1, 0.9], [0.1, 0.9], [0.4, 0.6], [0.4, 0.6]])
    labels = np.array([1, 0, 1, 1])
    assert calibration_error(p, labels) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)


def test_more_classes_and_a_class_that_is_never_predicted():
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [9, 0, 1]])
    found = scores(logits, np.array([0, 1, 2]))
    assert found["accuracy"] == pytest.approx(2 / 3) and found["recall"] == pytest.approx(2 / 3)


def test_disagreement_is_the_mean_over_the_others():
    one, two, three = (torch.tensor(each)[:, None] for each in ([1.0, 1], [1.0, -1], [-1.0, -1]))
    assert disagreement([one, two, three]) == [0.75, 0.5, 0.75]


def test_personal_accuracy_weighs_the_recall_of_each_class():
    logits = torch.tensor([[1.0], [1.0], [-1.0], [1.0], [-1.0]])  # says 1, 1, 0, 1, 0
    labels = np.array([1, 1, 1, 0, 0])  # two of three 1s and one of two 0s are found
    for share, expected in ((0.5, 0.5 * 2 / 3 + 0.25), (1.0, 2 / 3), (0.0, 0.5)):
        assert personal_accuracy(logits, labels, np.array([1 - share, share])) == pytest.approx(expected)
    counted = np.bincount(labels) / 5
    assert personal_accuracy(logits, labels, counted) == pytest.approx(3 / 5)  # mixed as the set is: the accuracy
