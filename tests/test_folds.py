import numpy as np
import pytest

from dml.config import PROFILES, Experiment
from dml.data.folds import plan, split_fold

LABELS = np.repeat([0, 1], [1914, 1918])


def all_folds(folds):
    return [folds.pretrain, *(fold for each in folds.private for fold in each), *folds.public]


def test_published_plan_has_73_disjoint_stratified_folds():
    folds = all_folds(plan(LABELS, PROFILES["paper"].experiment, seed=0))
    assert len(folds) == PROFILES["paper"].experiment.folds == 73
    together = np.concatenate(folds)
    assert len(together) == len(LABELS) and len(np.unique(together)) == len(LABELS)
    assert {len(fold) for fold in folds} <= {52, 53, 54}
    assert all(abs(int(LABELS[fold].sum()) - len(fold) / 2) <= 1 for fold in folds)


def test_seeds_deal_differently_and_repeat_exactly():
    one, again, other = (plan(LABELS, PROFILES["paper"].experiment, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(all_folds(one), all_folds(again), strict=True))
    assert not np.array_equal(one.pretrain, other.pretrain)


def test_folds_are_shuffled_so_that_the_first_part_holds_both_classes():
    fold = plan(LABELS, PROFILES["paper"].experiment, seed=0).private[0][0]
    train, held = split_fold(fold, 0.8)
    assert len(train) == int(len(fold) * 0.8) and set(LABELS[train]) == {0, 1}
    assert np.array_equal(np.concatenate((train, held)), fold)


def test_too_few_images_names_class_and_counts():
    with pytest.raises(ValueError, match=r"class 1 has 5 training images.*25 folds"):
        plan(np.repeat([0, 1], [30, 5]), Experiment(rounds=4), seed=0)
