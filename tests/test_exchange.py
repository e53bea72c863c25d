"""The ledger, the ways predictions reach the peers, and the arms that say less."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dml.arms.catalogue import run
from dml.arms.federation import Federation
from dml.config import PROFILES
from dml.exchange.encodings import pack, unpack
from dml.exchange.ledger import Post, table
from dml.exchange.messages import Chosen, Losses, MessageError, decode
from dml.exchange.topologies import TOPOLOGIES, add_up, chosen_peers_of, peers_of
from dml.experiment.ladder import RUNGS, find, rungs_for
from dml.losses import log_probabilities, model_loss
from dml.streams import SERVER

LABELS = torch.arange(12) % 2


def uploads(count, seed=0):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (count, 12, 1)).astype(np.float32))
    return [
        Losses(round=1, sender=i, losses=model_loss(each, LABELS)) for i, each in enumerate(log_probabilities(logits))
    ]


@pytest.mark.parametrize("clients", [2, 5, 40])
def test_all_ways_end_in_the_same_tables(clients):
    sent = uploads(clients)
    plain = torch.stack([each.log_probabilities(LABELS).double() for each in sent])
    for name, exchange in TOPOLOGIES.items():
        tables = exchange(sent, LABELS, "student-first", Post())
        for i in range(clients):
            others = torch.cat((plain[:i], plain[i + 1 :])).mean(0)
            torch.testing.assert_close(tables[i].double(), others, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("clients", [2, 7])
def test_every_message_of_a_topology_is_in_the_ledger(clients):
    def entries(name):
        post = Post()
        TOPOLOGIES[name](uploads(clients), LABELS, "student-first", post)
        return table(post.ledger)

    one = len(uploads(clients)[0].encode())
    by_sum, forwarded, peers = (entries(name) for name in TOPOLOGIES)
    assert by_sum["direction"].value_counts().to_dict() == {"up": clients, "down": clients}
    assert forwarded["direction"].value_counts().to_dict() == {"up": clients, "down": clients * (clients - 1)}
    assert peers["direction"].unique().tolist() == ["peer"] and len(peers) == clients * (clients - 1)
    assert set(forwarded["encoded"]) == set(peers["encoded"]) == {one}
    assert not (peers["sender"] == peers["receiver"]).any()
    assert (forwarded.loc[forwarded["direction"] == "down", "sender"] == SERVER).all()


def test_a_sum_of_one_is_no_sum():
    assert add_up("student-first", uploads(1), LABELS) == ({}, None)
    assert add_up("student-first", [], LABELS) == ({}, None)


def test_a_client_takes_its_own_share_out():
    sent = uploads(3)
    shares, down = add_up("student-first", sent, LABELS)
    assert down.clients == 3 and down.sender == SERVER
    torch.testing.assert_close(peers_of(shares[0], down), (shares[1] + shares[2]) / 2)


def test_where_no_peer_sent_an_image_its_own_prediction_stands_in():
    sent = uploads(3)
    masks = torch.zeros(3, 12, dtype=torch.bool)
    masks[0, :4], masks[1, 2:6], masks[2, 5] = True, True, True
    picked = [Chosen.pick(each, mask) for each, mask in zip(sent, masks, strict=True)]
    shares, down = add_up("student-first", [decode(each.encode()) for each in picked], LABELS)
    log_p = [each.log_probabilities(LABELS) for each in sent]
    found = chosen_peers_of(shares[0], down, log_p[0])
    torch.testing.assert_close(found[2:5], log_p[1][2:5])
    torch.testing.assert_close(found[5], (log_p[1][5] + log_p[2][5]) / 2)
    torch.testing.assert_close(found[[0, 1, 6, 11]], log_p[0][[0, 1, 6, 11]])


def test_what_was_refused_had_been_sent_all_the_same():
    post = Post()

    def refuse(message):
        raise MessageError("no")

    post.carry(uploads(1)[0], [SERVER], "8 bits")
    with pytest.raises(MessageError):
        post.carry(replace(uploads(1, seed=1)[0], round=2), [SERVER], "8 bits", refuse)
    again = replace(uploads(1, seed=2)[0], round=3)
    heard = post.carry(again, [SERVER], "8 bits")
    torch.testing.assert_close(heard.losses, decode(again.encode("8 bits")).losses)
    assert [entry.round for entry in post.ledger] == [1, 2, 3]


@pytest.fixture(scope="module")
def ran(tiny, pictures):
    done = {}
    for arm in ("dml", "fedavg", "asynchronous", "local", "self", "local+public", "pooled", *RUNGS):
        done[arm] = Federation(tiny, pictures, 0)
        run(find(arm), done[arm])
        assert not done[arm].refusals
    return done


def sizes(fed, round):
    rows = table(fed.post.ledger)
    rows = rows[rows["round"] == round]
    return {way: rows.loc[rows["direction"] == way, "payload"].tolist() for way in ("up", "down")}


def test_payloads_are_what_the_formulas_say(ran, tiny):
    count = [len(fold) for fold in ran["dml"].folds.public]
    weights = sum(p.numel() for p in ran["dml"].server.model.parameters())
    tensors = [p.numel() for p in ran["dml"].server.model.parameters()]
    n, top = count[1], sum(max(1, round(0.01 * size)) for size in tensors)
    half = max(1, round(0.5 * n))
    up = {
        "dml": 4 * n,
        "dml, float16": 2 * n,
        "dml, 8 bits": n,
        "dml, 4 bits": -(-n // 2),
        "dml, 1 bit": -(-n // 8),
        "dml, every 2nd": 4 * n,
        "dml, uncertain half": 4 * half + -(-n // 8),
        "dml, random half": 4 * half + -(-n // 8),
        "dml, fixed": 4 * count[0],
        "fedavg": 4 * weights,
        "fedavg, float16": 2 * weights,
        "fedavg, 8 bits": weights + 8 * len(tensors),
        "fedavg, top 1 %": 8 * top,
    }
    down = {**{arm: 8 * n for arm in ("dml", "dml, every 2nd")}, "dml, float16": 4 * n, "dml, fixed": 8 * count[0]}
    down |= {arm: 2 * n + 8 for arm in ("dml, 8 bits", "dml, 4 bits", "dml, 1 bit")}
    down |= {arm: 12 * n for arm in ("dml, uncertain half", "dml, random half")}
    for arm, expected in up.items():
        found = sizes(ran[arm], 2)
        assert found["up"] == [expected] * 3, arm
        if arm in down:
            assert found["down"] == [down[arm]] * 3, arm
        elif arm != "fedavg, top 1 %":
            assert found["down"] == found["up"], arm
    assert sizes(ran["dml, every 2nd"], 1) == {"up": [], "down": []}
    assert all(8 * top <= size <= 3 * 8 * top for size in sizes(ran["fedavg, top 1 %"], 2)["down"])


def test_the_set_up_is_in_the_ledger(ran, tiny):
    weights = 4 * sum(p.numel() for p in ran["dml"].server.model.parameters())
    images = [len(fold) * (3 * tiny.size**2 + 1) for fold in ran["dml"].folds.public]
    assert sizes(ran["fedavg"], 0)["down"] == sizes(ran["local"], 0)["down"] == [weights] * 3
    for arm in ("dml", "self", "local+public", "dml, 1 bit"):
        assert sorted(sizes(ran[arm], 0)["down"]) == sorted([weights] * 3 + [each for each in images for _ in range(3)])
    assert sorted(sizes(ran["dml, fixed"], 0)["down"]) == sorted([weights] * 3 + images[:1] * 3)
    own = [sum(len(folds[i]) for folds in ran["pooled"].folds.private) * (3 * tiny.size**2 + 1) for i in range(3)]
    assert sizes(ran["pooled"], 0)["up"] == own  # the clients' own images leave them


def test_rungs_share_everything_but_what_they_say(ran):
    def accuracy(arm, round):
        return [r.value for r in ran[arm].rows if r.metric == "public accuracy" and r.round == round]

    for arm in RUNGS:
        assert accuracy(arm, 1) == accuracy("dml", 1), arm  # the same start, the same first local training


def test_error_feedback_says_in_the_end_what_was_left_out(tiny, pictures):
    """Constant change: after many rounds the sum of what was sent is the sum of the changes but for one remainder."""
    change, lost, said = torch.linspace(-1, 1, 300), torch.zeros(300), torch.zeros(300)
    for _ in range(400):
        whole = change + lost
        sent = unpack(pack(whole, "top 1 %", "range"), (300,), "top 1 %", "range")
        said, lost = said + sent, whole - sent
    torch.testing.assert_close(said + lost, 400 * change, rtol=1e-3, atol=1e-2)
    assert (lost.abs() <= 110).all() and (said[change.abs() > 0.5] != 0).all()


def test_a_sample_of_the_unseen_set_is_looked_at_after_every_round(ran, tiny):
    for arm, clients in (("dml", {0, 1, 2}), ("fedavg", {0}), ("local", {0, 1, 2})):
        rows = [row for row in ran[arm].rows if row.metric == "unseen sample accuracy"]
        assert {row.round for row in rows} == {1, 2, 3} and {row.client for row in rows} == clients
        full = {r.client: r.value for r in ran[arm].rows if r.metric == "unseen accuracy"}
        last = {row.client: row.value for row in rows if row.round == 3}
        assert all(
            last[client] == pytest.approx(full[client]) for client in clients
        )  # the sample is the whole set here


def test_every_profile_names_arms_that_there_are():
    for ladder in (profile.ladder for profile in PROFILES.values()):
        assert all(find(arm) for arm in ladder.arms) and len(set(ladder.arms)) == len(ladder.arms)
    assert rungs_for(("dml", "dml, random half"), 3) == ("dml",)
