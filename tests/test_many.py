"""Many clients: the same arms when everybody is there, stale models when not, and the same bytes from a file."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from dml import config
from dml.arms.catalogue import run
from dml.arms.federation import Federation
from dml.crowd import arms, ranks
from dml.crowd.deal import deal
from dml.crowd.federation import Crowd
from dml.files import DataError
from dml.streams import SERVER

FOLD = 8


def crowd(tiny, pictures, **changes):
    clients = changes.pop("clients", 3)
    return Crowd(replace(tiny, clients=clients, glance=0), pictures, 0, FOLD, **changes)


def done(arm, fed):
    arms.run(arms.ARMS[arm](), fed)
    return fed


def final(fed, metric="unseen log loss"):
    return {row.client: row.value for row in fed.rows if row.metric == metric}


@pytest.mark.parametrize("kept", [True, False])
def test_a_larger_crowd_only_adds_clients(tiny, kept):
    labels = np.arange(400) % 2
    few, many = (deal(labels, replace(tiny, clients=clients), 3, FOLD, kept) for clients in (2, 7))
    assert np.array_equal(few.pretrain, many.pretrain)
    for now, then in zip(few.private, many.private, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(now, then[:2], strict=True))
    folds = [many.pretrain, *many.public, *(many.private[0] if kept else sum(many.private, ()))]
    dealt = np.concatenate(folds)
    assert len(dealt) == len(set(dealt)) == FOLD * (1 + 3 + 7 * (1 if kept else 3))
    assert all(labels[fold].sum() == FOLD // 2 for fold in folds)
    assert (many.private[0][4] is many.private[2][4]) == kept or not kept


def test_too_few_images_are_an_error_that_counts_them(tiny):
    with pytest.raises(DataError, match="9 folds of 8 images need 36 of every class, the rarest has 30"):
        deal(np.arange(60) % 2, replace(tiny, clients=5), 0, FOLD)


@pytest.mark.parametrize("arm", ["dml", "fedavg", "self", "smoothing", "local", "local+public"])
def test_with_everybody_there_an_arm_is_the_core_s_bit_for_bit(arm, tiny, pictures):
    fed = crowd(tiny, pictures, kept=False)
    same = Federation(fed.experiment, pictures, 0, folds=fed.folds)
    run(arm, same)
    done(arm, fed)
    if arm == "fedavg":
        assert final(fed) == {SERVER: final(same)[0]}
        for name, value in same.clients[0].parameters().items():
            assert torch.equal(fed.server.parameters()[name], value)
    else:
        assert final(fed) == final(same)
    sizes = [sum(entry.encoded for entry in each.post.ledger) for each in (fed, same)]
    assert sizes[0] == sizes[1] > 0


def test_an_arm_that_hears_nobody_is_the_same_whatever_the_number_of_clients(tiny, pictures):
    few, many = (done("self", crowd(tiny, pictures, clients=clients, share=0.5)) for clients in (2, 5))
    assert final(few) == {client: value for client, value in final(many).items() if client < 2}
    assert final(done("dml", crowd(tiny, pictures, clients=2))) != final(done("dml", crowd(tiny, pictures, clients=5)))


def test_who_is_absent_keeps_its_model_and_says_nothing(tiny, pictures):
    fed = done("dml", crowd(tiny, pictures, clients=6, share=0.5))
    absent = [(r, index) for r in fed.rounds() for index in fed.everyone if index not in fed.present(r)]
    said = {(entry.round, entry.sender) for entry in fed.post.ledger if entry.round}
    assert absent and not set(absent) & said
    turns, age = final(fed, "turns"), final(fed, "staleness")
    for client in fed.sample:
        there = [r for r in fed.rounds() if client in fed.present(r)]
        assert turns[client] == len(there) and age[client] == 3 - max(there, default=0)
    trained = {(epoch.round, epoch.client) for epoch in fed.history if epoch.phase == "local"}
    assert not set(absent) & trained


def test_a_server_that_remembers_adds_up_what_the_absent_said_last(tiny, pictures):
    fed = done("dml, stale", crowd(tiny, pictures, clients=6, share=0.5, one_public=True))
    sums = {entry.round for entry in fed.post.ledger if entry.kind == "Aggregate"}
    ages = {row.round: row.value for row in fed.rows if row.metric == "table age"}
    last = {}
    for r in fed.rounds():
        last |= dict.fromkeys(fed.present(r), r)
        assert ages[r] == pytest.approx(np.mean([r - then for then in last.values()]))
    assert sums and max(ages.values()) > 0
    with pytest.raises(ValueError, match="one public fold"):
        done("dml, stale", crowd(tiny, pictures))


def test_with_its_own_start_no_client_begins_like_another(tiny, pictures):
    fed = crowd(tiny, pictures)
    steps = arms.ARMS["dml, own start"]()(fed)
    next(steps)
    fits = next(steps)
    first = [fit.client.parameters()["dense2.weight"] for fit in fits]
    assert [fit.phase for fit in fits] == ["pretrain"] * 3 and not torch.equal(first[0], first[1])
    assert "Weights" not in {entry.kind for entry in fed.post.ledger}


@pytest.mark.parametrize("arm", ["dml", "fedavg", "dml, own start"])
def test_clients_in_a_file_end_as_clients_in_memory(arm, tiny, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("dml.crowd.federation.PART", 2)
    here = done(arm, crowd(tiny, pictures, clients=4, share=0.7))
    away = done(arm, crowd(tiny, pictures, clients=4, share=0.7, shelf=tmp_path / "clients"))
    assert final(here) == final(away)
    size = sum(value.numel() for value in here.server.parameters().values())
    assert (tmp_path / "clients").stat().st_size == 4 * 3 * size * 4


def test_what_a_float32_sum_of_a_thousand_loses():
    rng = np.random.default_rng(0)
    exact = np.log(rng.uniform(0.02, 0.98, (1000, 24, 2)))
    values = torch.from_numpy(exact.astype(np.float32))
    by_hand = np.abs(values.sum(0).numpy().astype(float) - values.numpy().astype(float).sum(0)).max() / 1000
    assert arms.float32_error(values) == pytest.approx(by_hand) and 0 < by_hand < 1e-6


# -- over processes ---------------------------------------------------------------------------------------------------


def test_every_client_has_one_rank():
    parts = [list(ranks.slice_of(10, rank, 4)) for rank in range(4)]
    assert [index for part in parts for index in part] == list(range(10)) and {len(part) for part in parts} == {2, 3}
    with pytest.raises(ValueError, match="rank 2 of 3 for 2 clients"):
        ranks.slice_of(2, 2, 3)


def test_two_ranks_end_in_the_bytes_of_one(tmp_path, monkeypatch):
    """Two processes under torchrun; the one is this process."""
    options = ["--clients=5", "--share=0.7", "--size=20"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "dml.crowd.ranks", str(tmp_path / "two.json"), *options]
    environment = {**os.environ, "DML_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(config, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(sys, "argv", ["ranks", str(tmp_path / "one.json"), *options])
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    ranks.main()
    one, two = ((tmp_path / f"{name}.json").read_bytes() for name in ("one", "two"))
    assert one == two and len(set(json.loads(one).values())) == 5
