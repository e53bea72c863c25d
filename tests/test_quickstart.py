"""The lesson of notebook 00 is the experiment's own code, on folds of a chosen size."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from dml.experiment import lesson as quickstart
from dml.training.clients import Fit, fit_one


@pytest.fixture
def lesson(tiny, pictures, monkeypatch):
    monkeypatch.setattr(quickstart, "SMALL", replace(tiny, rounds=1, glance=0))
    return quickstart.open_lesson(pictures, clients=3, private=10, public=9)


def public(fed):
    fold = torch.from_numpy(fed.folds.public[0])
    return fed.train[fold], fed.labels[fold]


def test_the_folds_have_the_size_that_was_asked_for(lesson):
    folds = lesson.fed.folds
    assert [len(fold) for fold in folds.private[0]] == [10, 10, 10] and len(folds.public[0]) == 9
    everything = [folds.pretrain, *folds.private[0], folds.public[0]]
    assert len(set().union(*map(set, everything))) == sum(map(len, everything))


def test_the_exchange_shows_what_travelled(lesson):
    table = lesson.exchange(rows=4)
    labels = lesson.fed.public_labels(1)[:4]
    assert table["label"].tolist() == [("mask", "no mask")[label] for label in labels]
    losses = table[["client 1: loss", "client 2: loss"]].mean(axis=1)
    read = table["client 0 reads: peers' p of the label"]
    assert read.tolist() == pytest.approx(np.exp(-losses).tolist(), abs=1e-6)  # the geometric mean of its two peers


def test_a_refinement_of_weight_one_is_the_experiments_own(lesson):
    fed, client = lesson.fed, lesson.fed.clients[1]
    images, labels = public(fed)
    mine, theirs = deepcopy(client), deepcopy(client)
    quickstart.refine(mine, images, labels, lesson.tables[1], 1.0)
    fit_one(Fit(theirs, 1, "public", images, labels, "student-first", lesson.tables[1]))
    assert all(torch.equal(value, theirs.parameters()[name]) for name, value in mine.parameters().items())


def test_without_weight_the_peers_do_not_matter_and_with_it_they_do(lesson):
    images, labels = public(lesson.fed)
    tables = lesson.tables[0], lesson.tables[0].flip(1)
    for weight, same in ((0.0, True), (1.0, False)):
        one, two = deepcopy(lesson.fed.clients[0]), deepcopy(lesson.fed.clients[0])
        quickstart.refine(one, images, labels, tables[0], weight)
        quickstart.refine(two, images, labels, tables[1], weight)
        assert torch.equal(one.parameters()["dense2.weight"], two.parameters()["dense2.weight"]) == same


def test_before_and_after_leaves_the_lesson_as_it_was_and_repeats(lesson):
    before = deepcopy(lesson.fed.clients[0]).parameters()
    first, second = quickstart.before_and_after(lesson), quickstart.before_and_after(lesson)
    assert first.equals(second) and list(first["client"]) == [0, 1, 2]
    assert first.drop(columns="client").apply(lambda column: column.between(0, 1)).all(axis=None)
    assert all(torch.equal(value, before[name]) for name, value in lesson.fed.clients[0].parameters().items())
    alone = quickstart.before_and_after(lesson, weight=0.0)
    assert alone["with peers"].tolist() == alone["labels only"].tolist() == first["labels only"].tolist()


def test_one_client_is_no_lesson(pictures):
    with pytest.raises(ValueError, match="at least 2"):
        quickstart.open_lesson(pictures, clients=1)
