"""Skewed folds: exact whatever is asked for, the same images all told, and what is measured of such clients."""

from dataclasses import replace

import numpy as np
import pytest

from dml.config import SMALL, Experiment
from dml.data import partition
from dml.data.folds import deal, mixture, plan
from dml.data.partition import counts, distance, log_dirichlet

TWO = np.repeat([0, 1], [300, 300])
THREE = np.repeat([0, 1, 2], [300, 200, 400])


def of_client(folds, client):
    return np.concatenate([dealt[client] for dealt in folds.private])


def distances(labels, experiment, seed):
    folds, classes = deal(labels, experiment, seed), labels.max() + 1
    shares = [mixture(labels[of_client(folds, client)], classes) for client in range(experiment.clients)]
    return [distance(share, mixture(labels, classes)) for share in shares]


def test_without_skew_the_folds_are_the_published_ones():
    for experiment in (SMALL, replace(SMALL, public_fold="unlabelled")):
        ours, published = deal(TWO, experiment, 3), plan(TWO, SMALL, 3)
        assert all(map(np.array_equal, ours.public, published.public))
        assert all(map(np.array_equal, sum(ours.private, ()), sum(published.private, ())))


@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two classes", "three classes"])
@pytest.mark.parametrize("alpha", [None, 100.0, 1.0, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("public", ["balanced", "skewed"])
def test_every_image_is_dealt_once_and_clients_are_as_large_as_before(labels, alpha, public):
    for seed in range(5):
        experiment = replace(SMALL, label_alpha=alpha, public_fold=public)
        folds, published = deal(labels, experiment, seed), plan(labels, experiment, seed)
        private = [fold for dealt in folds.private for fold in dealt]
        together = np.concatenate((folds.pretrain, *folds.public, *private))
        assert sorted(together) == list(range(len(labels)))
        assert np.array_equal(folds.pretrain, published.pretrain)
        if alpha is not None or public == "skewed":
            sizes = [len(of_client(folds, client)) for client in range(5)]
            assert max(sizes) - min(sizes) <= 1
            rounds = [len(fold) for fold in private]
            assert max(rounds) - min(rounds) <= 1


def test_a_client_keeps_its_mixture_in_all_rounds():
    folds = deal(TWO, replace(SMALL, label_alpha=0.5), 1)
    for client in range(5):
        ones = [int(TWO[dealt[client]].sum()) for dealt in folds.private]
        assert max(ones) - min(ones) <= 1


def test_smaller_alpha_is_more_skew_seed_by_seed():
    far = {
        alpha: [np.mean(distances(TWO, replace(SMALL, label_alpha=alpha), seed)) for seed in range(20)]
        for alpha in (100.0, 1.0, 0.1, 0.01)
    }
    means = [np.mean(values) for values in far.values()]
    assert means == sorted(means) and means[0] < 0.04 and 0.15 < means[1] < 0.3
    assert 0.37 < means[3] <= 0.4 + 1e-9  # of five equal clients and two equal classes one must be mixed: 4/5 of 1/2
    apart = np.subtract(far[0.01], far[1.0])
    assert (apart > 0).all()


def test_counts_by_hand():
    even = counts(np.zeros((2, 2)), np.array([4, 2]), np.array([3, 3]))
    assert even.tolist() == [[2, 2], [1, 1]]
    odd = counts(np.log([[3.0, 1.0], [1.0, 3.0]]), np.array([4, 4]), np.array([4, 4]))
    assert odd.tolist() == [[3, 1], [1, 3]]
    # 3 rows of class 0 to one of class 1, and as many images of both: one row has to give way, the least certain one
    torn = counts(np.array([[0.0, -900], [0, -40], [0, -700], [-900, 0]]), np.full(4, 10), np.array([20, 20]))
    assert torn.tolist() == [[10, 0], [0, 10], [10, 0], [0, 10]]
    with pytest.raises(ValueError, match="4 places for 5 images"):
        counts(np.zeros((1, 2)), np.array([4]), np.array([2, 3]))


def test_log_dirichlet_has_the_moments_of_a_dirichlet():
    draws = np.random.default_rng(0).random((2, 40_000, 2))
    for alpha in (0.1, 1.0, 5.0):
        logs = log_dirichlet(alpha, draws)
        share = np.exp(logs[:, 0] - np.logaddexp.reduce(logs, 1))
        assert share.mean() == pytest.approx(0.5, abs=0.01)
        assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)  # of Beta(alpha, alpha)


def test_sizes_are_a_knob_of_their_own():
    experiment = replace(SMALL, size_alpha=0.3)
    for seed in range(5):
        folds = deal(TWO, experiment, seed)
        sizes = [len(of_client(folds, client)) for client in range(5)]
        assert sum(sizes) == sum(len(fold) for dealt in plan(TWO, SMALL, seed).private for fold in dealt)
        assert min(sizes) >= partition.LEAST * SMALL.rounds and max(sizes) > 2 * min(sizes)
        assert max(distances(TWO, experiment, seed)) < 0.04
    with pytest.raises(ValueError, match="fewer rounds"):
        deal(np.repeat([0, 1], 40), replace(SMALL, clients=2, rounds=12, size_alpha=1.0), 0)


def test_a_skewed_public_fold_has_four_of_one_class_to_one_of_the_other():
    for seed in range(4):
        folds = deal(TWO, replace(SMALL, public_fold="skewed"), seed)
        shares = [TWO[fold].mean() for fold in folds.public]
        assert all(abs(abs(share - 0.5) - 0.3) < 0.07 for share in shares)  # 80 to 20, bent a little by the totals
        assert len({share > 0.5 for share in shares}) == 1


def test_what_cannot_be_is_named():
    for wrong in ({"public_fold": "secret"}, {"label_alpha": 0.0}, {"size_alpha": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Experiment(**wrong)
