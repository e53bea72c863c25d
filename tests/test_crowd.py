"""Many clients: only K changes, and only where the data set has images enough."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student

from dml.config import PROFILES, Experiment
from dml.data.images import Images, Split, load
from dml.evidence import many_clients as crowd
from dml.stats import paired

BASE = PROFILES["reduced"].experiment


@pytest.mark.parametrize("clients", [2, 5, 10, 20])
def test_folds_keep_their_size(clients):
    changed = crowd.with_clients(BASE, clients)
    assert changed.train_images / changed.folds == BASE.train_images / BASE.folds
    assert replace(changed, clients=BASE.clients, train_images=BASE.train_images) == BASE
    assert crowd.with_clients(BASE, BASE.clients) == BASE  # so its results are in the cache already


def test_a_protocol_that_takes_every_image_leaves_none_for_more_clients():
    with pytest.raises(ValueError, match="takes every image"):
        crowd.with_clients(Experiment(), 10)
    assert PROFILES["paper"].many_clients.clients == ()


def test_results_of_every_k_that_fits(enter, sandbox, monkeypatch, no_workers):
    enter(sandbox)
    base = Experiment(clients=2, rounds=2, epochs=1, size=20, train_images=42, unseen_images=12, glance=0)

    def scarce(name, *, train_count, **rest):
        return load(name, train_count=min(train_count, 60), **rest)

    monkeypatch.setattr("dml.data.images.load", scarce)
    table = crowd.compute("faces", base, (2, 3, 9), (0, 1))
    assert list(table.columns) == crowd.COLUMNS and set(table["clients"]) == {2, 3}  # 9 would need 126 images
    counts = table[table["metric"] == "unseen accuracy"].groupby(["clients", "arm", "seed"])["client"].nunique()
    assert counts.loc[2].eq(2).all() and counts.loc[3].eq(3).all() and set(table["arm"]) == set(crowd.STUDIED)
    assert set(table["round"]) == {2}


def test_nothing_fits_gives_an_empty_table():
    table = crowd.compute("faces", BASE, (), (0,))
    assert table.empty and list(table.columns) == crowd.COLUMNS


def test_a_k_with_too_few_images_of_one_class_is_left_out(monkeypatch):
    few = [0] * 1100 + [1] * 30

    def images(name, experiment):
        labels = torch.tensor(few[-experiment.train_images :])
        train = Split(torch.empty(0), labels, ("x",) * len(labels), ())
        return Images(name, ("many", "few"), train, train, "", "")

    monkeypatch.setattr(crowd, "images_of", images)
    assert list(crowd.fitting("x", BASE, (2, 5, 10))) == [2, 5]  # ten clients need 45 folds of both classes


def hand(values):
    rows = [(k, s, a, 1, 0, "unseen accuracy", v) for (k, a), each in values.items() for s, v in enumerate(each)]
    return pd.DataFrame(rows, columns=crowd.COLUMNS)


def test_accuracy_and_gains_by_hand():
    same = {(k, arm): [0.5, 0.6] for k in (2, 9) for arm in crowd.STUDIED[1:]}
    table = hand({(2, "dml"): [0.6, 0.8], (9, "dml"): [0.4, 0.5]} | same)
    means = crowd.accuracy(table).set_index(["clients", "arm"])["mean"]
    assert means[2, "dml"] == pytest.approx(0.7) and means[9, "self"] == pytest.approx(0.55)
    gains = crowd.gains(table)
    assert gains["against"].tolist() == [*crowd.STUDIED[1:]] * 2 and gains["n"].eq(2).all()
    assert gains["mean"].tolist() == pytest.approx([0.15] * 3 + [-0.1] * 3)
    assert gains["better"].tolist() == [1] * 3 + [0] * 3
    alone = 2 * student.sf(0.15 / 0.05, 1)  # of 0.1 and 0.2; the other question, of two equal differences, has p = 0
    assert gains["p"].tolist() == pytest.approx([alone] * 3 + [0] * 3)


def test_four_numbers_of_clients_are_four_questions_for_an_arm():
    noise = np.random.default_rng(0).normal(0, 0.001, 8)
    values = {(k, arm): list(0.5 + noise) for k in (2, 5, 10, 20) for arm in crowd.STUDIED[1:]}
    gains = crowd.gains(hand(values | {(k, "dml"): [0.8] * 8 for k in (2, 5, 10, 20)}))
    alone = paired(np.full(8, 0.8), 0.5 + noise, 0.005).p
    assert gains["p"].tolist() == pytest.approx([4 * alone] * 12) and set(gains["verdict"]) == {"higher"}
