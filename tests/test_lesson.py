"""Notebook 00: the method from scratch ends in the arm's weights; the lesson is the experiment's own code."""

import inspect
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from dml.arms import catalogue, messaging
from dml.experiment import lesson
from dml.training.clients import Fit, fit_one


@pytest.fixture
def opened(tiny, pictures, monkeypatch):
    monkeypatch.setattr(lesson, "SMALL", replace(tiny, rounds=1, glance=0))
    return lesson.open_lesson(pictures, clients=3, private=10, public=9)


def public(fed):
    fold = torch.from_numpy(fed.folds.public[0])
    return fed.train[fold], fed.labels[fold]


@pytest.mark.parametrize("seed", [0, 5])
def test_from_scratch_gives_the_weights_of_the_arm_bit_for_bit(seed, tiny, pictures, federation):
    fed = federation(seed)
    catalogue.run("dml", fed)
    models = lesson.from_scratch(pictures, tiny, seed)
    assert len(models) == len(fed.clients) == tiny.clients
    for client, model in zip(fed.clients, models, strict=True):
        weights = client.parameters()
        assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())


def test_from_scratch_is_another_arm_without_the_peers(tiny, pictures, federation):
    """The equality above is no accident: labels and steps alone end elsewhere, and so does another seed."""
    fed = federation(0)
    catalogue.run("local+public", fed)
    with_peers, other_seed = (lesson.from_scratch(pictures, tiny, seed)[0].dense1.weight for seed in (0, 1))
    assert not torch.equal(fed.clients[0].model.dense1.weight, with_peers)
    assert not torch.equal(other_seed, with_peers)


def test_from_scratch_is_short_and_leans_on_nothing_that_it_explains():
    source = inspect.getsource(lesson.from_scratch)
    assert len(source.splitlines()) <= 45
    hidden = ("Federation", "Fit", "fit_", "messag", "Losses", "post", "stack", "carry_out", "peer_loss", "peers_of")
    assert not [word for word in hidden if word in source.replace("torch.stack", "")]


def test_the_folds_have_the_size_that_was_asked_for(opened):
    folds = opened.fed.folds
    assert [len(fold) for fold in folds.private[0]] == [10, 10, 10] and len(folds.public[0]) == 9
    everything = [folds.pretrain, *folds.private[0], folds.public[0]]
    assert len(set().union(*map(set, everything))) == sum(map(len, everything))


def test_the_exchange_shows_what_travelled(opened):
    table = opened.exchange(rows=4)
    labels = messaging.public_labels(opened.fed, 1)[:4]
    assert table["label"].tolist() == [("mask", "no mask")[label] for label in labels]
    losses = table[["client 1: loss", "client 2: loss"]].mean(axis=1)
    read = table["client 0 reads: peers' p of the label"]
    assert read.tolist() == pytest.approx(np.exp(-losses).tolist(), abs=1e-6)  # the geometric mean of its two peers


def test_a_refinement_of_weight_one_is_the_experiments_own(opened):
    fed, client = opened.fed, opened.fed.clients[1]
    images, labels = public(fed)
    mine, theirs = deepcopy(client), deepcopy(client)
    lesson.refine(mine, images, labels, opened.tables[1], 1.0)
    fit_one(Fit(theirs, 1, "public", images, labels, "student-first", opened.tables[1]))
    assert all(torch.equal(value, theirs.parameters()[name]) for name, value in mine.parameters().items())


def test_without_weight_the_peers_do_not_matter_and_with_it_they_do(opened):
    images, labels = public(opened.fed)
    tables = opened.tables[0], opened.tables[0].flip(1)
    for weight, same in ((0.0, True), (1.0, False)):
        one, two = deepcopy(opened.fed.clients[0]), deepcopy(opened.fed.clients[0])
        lesson.refine(one, images, labels, tables[0], weight)
        lesson.refine(two, images, labels, tables[1], weight)
        assert torch.equal(one.parameters()["dense2.weight"], two.parameters()["dense2.weight"]) == same


def test_before_and_after_leaves_the_lesson_as_it_was_and_repeats(opened):
    before = deepcopy(opened.fed.clients[0]).parameters()
    first, second = lesson.before_and_after(opened), lesson.before_and_after(opened)
    assert first.equals(second) and list(first["client"]) == [0, 1, 2]
    assert first.drop(columns="client").apply(lambda column: column.between(0, 1)).all(axis=None)
    assert all(torch.equal(value, before[name]) for name, value in opened.fed.clients[0].parameters().items())
    alone = lesson.before_and_after(opened, weight=0.0)
    assert alone["with peers"].tolist() == alone["labels only"].tolist() == first["labels only"].tolist()


def test_one_client_is_no_lesson(pictures):
    with pytest.raises(ValueError, match="at least 2"):
        lesson.open_lesson(pictures, clients=1)
