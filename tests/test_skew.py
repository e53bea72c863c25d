"""Skewed folds: exact whatever is asked for, the same images all told, and what is measured of such clients."""

from dataclasses import replace

import numpy as np
import pytest

from dml.arms.catalogue import run
from dml.arms.federation import Federation
from dml.config import SMALL, Experiment
from dml.data import partition
from dml.data.folds import deal, mixture, plan
from dml.data.partition import counts, log_dirichlet
from dml.experiment.ladder import find
from dml.files import read_table
from dml.studies import skew, tables
from dml.training.clients import predict

TWO = np.repeat([0, 1], [300, 300])
THREE = np.repeat([0, 1, 2], [300, 200, 400])


def of_client(folds, client):
    return np.concatenate([dealt[client] for dealt in folds.private])


def distances(labels, experiment, seed):
    folds, classes = deal(labels, experiment, seed), labels.max() + 1
    shares = [mixture(labels[of_client(folds, client)], classes) for client in range(experiment.clients)]
    return [np.abs(share - mixture(labels, classes)).sum() / 2 for share in shares]


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


# -- what is measured of such clients ---------------------------------------------------------------------------------


def test_personal_accuracy_is_on_record_where_clients_differ(tiny, pictures):
    fed = Federation(replace(tiny, label_alpha=0.05), pictures, 0)
    run("local", fed)
    own = {row.client: row.value for row in fed.rows if row.metric == "unseen personal accuracy"}
    common = {row.client: row.value for row in fed.rows if row.metric == "unseen accuracy"}
    assert own.keys() == common.keys() == {0, 1, 2}
    labels = fed.unseen_labels
    for client in fed.clients:
        predicted = (predict(client, fed.unseen)[:, 0] > 0).long()
        recalls = [(predicted[labels == c] == c).float().mean().item() for c in (0, 1)]
        assert own[client.index] == pytest.approx(fed.mixture(client) @ recalls, abs=1e-6)
    assert own[1] > common[1] and max(fed.mixture(fed.clients[1])) > 0.9
    plain = Federation(tiny, pictures, 0)
    run("local", plain)
    assert not [row for row in plain.rows if "personal" in row.metric]


@pytest.mark.parametrize("arm", ["dml", "fedavg+public", "asynchronous"])
def test_arms_run_on_skewed_clients(arm, tiny, pictures):
    fed = Federation(replace(tiny, label_alpha=0.1, size_alpha=1.0, public_fold="skewed"), pictures, 1)
    run(arm, fed)
    assert all(np.isfinite(row.value) for row in fed.rows)


# -- the study --------------------------------------------------------------------------------------------------------

PLAN = """
```toml
profile = "smoke"
data = "faces"
unseen_images = 20
margin = 0.01

[[skew]]
seeds = {first = 3, last = 4}
label_alpha = [inf, 0.1]
fields = [{public_fold = "unlabelled"}]
arms = ["dml", "dsfl"]

[[models]]
seeds = {first = 3, last = 3}
label_alpha = [inf]
fields = [{models = "visionnet,visionnet-half"}]
arms = ["dml"]

[[pictures]]
seeds = {first = 3, last = 3}
label_alpha = [inf]
fields = [{feature_skew = "look"}, {data = "faces"}]
arms = ["local"]
```
"""


@pytest.fixture
def planned(tmp_path, monkeypatch, sandbox, no_workers):
    file = tmp_path / "plan.md"
    file.write_text(PLAN)
    made = skew.plan(file)
    monkeypatch.setattr(skew, "plan", lambda: made)
    return made


def test_the_plan_on_file_is_whole_and_every_arm_and_field_exists():
    made = skew.plan()
    names = {here.name for grid in made.grids["skew"] for here in grid.cells}
    assert "label_alpha inf; public_fold unlabelled" in names and len(made.grids["models"]) == 3
    drawn = [here.experiment.feature_skew for grid in made.grids["pictures"] for here in grid.cells if here.data]
    assert drawn == ["", "look"] and sum(len(grid.cells) for grid in made.grids["pictures"]) == 7
    for grids in made.grids.values():
        for grid in grids:
            assert grid.seeds.start == 100 and all(find(arm) for arm in grid.arms)
            assert all(here.experiment.unseen_images == 2000 for here in grid.cells)
    with pytest.raises(ValueError, match="no_such_field"):
        skew.cell(SMALL, 0.1, {"no_such_field": 1})
    assert skew.cell(SMALL, np.inf, {"epochs": 3}) == skew.Cell("label_alpha inf; epochs 3", replace(SMALL, epochs=3))


def test_a_study_is_recorded_seed_by_seed_and_goes_on_where_it_stopped(planned, tmp_path, monkeypatch):
    to = tmp_path / "studies"
    folder = skew.carry_out("skew", [3], "cpu", to)
    assert len(tables.there(folder / "costs.csv", skew.KEY)) == 4
    first = {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".json"}
    monkeypatch.setattr(
        skew.jobs, "carry_out", lambda listed: pytest.fail(f"computed again: {list(listed)}") if list(listed) else 0
    )
    skew.carry_out("skew", [3], "cpu", to)
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".json"} == first
    monkeypatch.undo()
    results = read_table(folder / "results.csv.gz")
    assert set(results["metric"]) == {
        f"unseen {what}" for what in ("accuracy", "personal accuracy", "log loss", "disagreement")
    }
    plain = results[results["cell"] == "label_alpha inf; public_fold unlabelled"]
    assert "unseen personal accuracy" not in set(plain["metric"])
    costs = read_table(folder / "costs.csv").set_index(["cell", "arm"])
    assert (costs["up"] > 0).all() and (costs["setup"] > costs["up"]).all()
    cells = read_table(folder / "cells.csv").groupby("cell")["distance"].mean()
    assert cells["label_alpha inf; public_fold unlabelled"] < 0.05 < cells["label_alpha 0.1; public_fold unlabelled"]
    with pytest.raises(ValueError, match="choose one of skew, models"):
        skew.carry_out("skewed")


def test_pictures_that_differ_are_a_study_of_their_own_and_a_cell_may_have_its_own_data(planned, tmp_path):
    folder = skew.carry_out("pictures", [], "cpu", tmp_path / "studies")
    results = read_table(folder / "results.csv.gz")
    accuracy = results[results["metric"] == "unseen accuracy"].groupby("cell")["value"].apply(tuple)
    assert set(accuracy.index) == {"label_alpha inf; feature_skew look", "label_alpha inf; data faces"}
    assert accuracy.iloc[0] != accuracy.iloc[1]
    assert skew.cell(SMALL, np.inf, {"data": "faces"}) == skew.Cell("label_alpha inf; data faces", SMALL, "faces")
