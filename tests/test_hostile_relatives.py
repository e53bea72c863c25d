"""Liars among DML's relatives: lies in scores, computed by hand, and the line of a net that a liar sent."""

import math

import numpy as np
import pytest
import torch

from dml.arms import messaging
from dml.arms.catalogue import run
from dml.arms.relatives import defkt, outputs
from dml.arms.relatives.catalogue import RELATIVES
from dml.arms.relatives.messages import Scores, WeightedSum
from dml.arms.relatives.outputs import PRESETS
from dml.exchange.messages import Aggregate, decode
from dml.hostile import lineage, wording
from dml.hostile.attacks import PREDICTIONS, SURE
from dml.hostile.cells import Cell, values
from dml.hostile.liars import Liars, corrupt
from dml.losses import log_probabilities
from dml.streams import SERVER
from dml.training.clients import predict

LABELS = torch.tensor([1, 0, 1])
LOGITS = torch.tensor([[2.0], [-1.0], [0.5]])  # of class 1


def message(table, sender=2):
    return Scores(round=1, sender=sender, values=table, merit=0.5)


def margins(scores):
    return (scores[:, 1] - scores[:, 0]).tolist()


def test_scores_are_read_from_logits_and_from_probabilities_alike():
    p = log_probabilities(LOGITS).exp()
    for table in (LOGITS, p):
        read = wording.said(message(table), LABELS)
        assert margins(read) == pytest.approx([2, -1, 0.5], abs=1e-5)
        assert read.sum(1).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    three = torch.tensor([[3.0, 0.0, 0.0]])
    torch.testing.assert_close(wording.read(three), torch.tensor([[2.0, -1.0, -1.0]]))
    torch.testing.assert_close(wording.read(three.softmax(-1)), torch.tensor([[2.0, -1.0, -1.0]]))


def test_a_lie_takes_the_form_of_the_message():
    lie = torch.tensor([[-1.0, 1.0], [2.0, -2.0], [0.0, 0.0]])
    logits = wording.saying(message(LOGITS), lie, LABELS)
    assert logits.values.tolist() == [[2.0], [-4.0], [0.0]] and logits.merit == 0.5 and logits.sender == 2
    told = wording.saying(message(log_probabilities(LOGITS).exp()), lie, LABELS)
    assert told.values[:, 1].tolist() == pytest.approx([1 / (1 + math.exp(-m)) for m in (2, -4, 0)])
    three = wording.saying(message(torch.tensor([[3.0, 0.0, -5.0]])), torch.tensor([[0.0, 1.0, 2.0]]), LABELS)
    assert three.values.tolist() == [[0.0, 1.0, 2.0]]


def test_what_a_server_told_is_read_whatever_it_sums():
    weights, clients = torch.tensor([0.5, 0.5]), (0, 1)

    def told(total):
        return wording.told(WeightedSum(round=1, sender=SERVER, total=total, weights=weights, clients=clients), 2)

    assert margins(told(LOGITS)) == margins(told(torch.cat((-LOGITS, LOGITS), 1) / 2)) == [2, -1, 0.5]
    p = log_probabilities(LOGITS).exp()
    assert margins(told(p)) == pytest.approx([2, -1, 0.5], abs=1e-5)
    peer_first = Aggregate(round=1, sender=SERVER, total=2 * torch.cat((p, p.sum(1, keepdim=True)), 1), clients=2)
    assert margins(wording.told(peer_first, 2)) == pytest.approx([2, -1, 0.5], abs=1e-5)


def tables(federation, preset):
    """What each client learns from in round 1 with one liar of three, what the honest say, and away from the label."""
    fed = federation()
    fed.wire = Liars(fed, "veto", 1)
    images, labels = fed.train[fed.public(1)], messaging.public_labels(fed, 1)
    honest = torch.stack([predict(client, images)[:, 0] for client in fed.clients[:2]])
    made = outputs._tables(fed, PRESETS[preset], 1, fed.clients)
    assert fed.refusals == [] and sorted(made) == [0, 1, 2]
    return made, honest, 1 - 2 * labels


def test_one_liar_moves_the_mean_logit_of_fedmd_by_a_third_of_its_certainty(federation):
    made, honest, away = tables(federation, "fedmd")
    for table in made.values():
        torch.testing.assert_close(table[:, 0], (honest.sum(0) + SURE * away) / 3)
    assert ((made[0][:, 0] > 0) == (away > 0)).all()  # every image of the tiny, unsure clients is lost


def test_one_liar_moves_the_mean_probability_of_dsfl_by_a_third_at_most(federation):
    made, honest, away = tables(federation, "dsfl")
    mean = (honest.sigmoid().sum(0) + (away > 0)) / 3
    sharpened = torch.sigmoid((2 * mean - 1) / 0.1)  # softmax(p / 0.1) of two classes
    torch.testing.assert_close(made[0][:, 1], sharpened, atol=1e-5, rtol=0)


@pytest.mark.parametrize("attack", sorted(PREDICTIONS))
@pytest.mark.parametrize("preset", ["fedmd", "dsfl", "kta"])
def test_no_lie_in_scores_is_refused(federation, preset, attack):
    fed = federation()
    corrupt(fed, attack, 1)
    made = [outputs._tables(fed, PRESETS[preset], index, fed.clients) for index in (1, 2)]
    assert fed.refusals == [] and all(sorted(tables) == [0, 1, 2] for tables in made)
    assert all(torch.isfinite(table).all() for tables in made for table in tables.values())


def test_who_repeats_has_heard_the_pool_of_the_last_round(federation):
    fed = federation()
    fed.wire = Liars(fed, "repeated", 1)
    outputs._tables(fed, PRESETS["fedmd"], 1, fed.clients)
    first = messaging.public_labels(fed, 1)
    pool = torch.stack([predict(client, fed.train[fed.public(1)])[:, 0] for client in fed.clients[:2]]).sum(0) / 3
    means = torch.stack([pool[first == label].mean() for label in (0, 1)])  # the ignorant first lie is 0
    lie = fed.wire.lie(Scores(round=2, sender=2, values=torch.zeros(len(fed.folds.public[1]), 1)))
    torch.testing.assert_close(lie.values[:, 0], means[messaging.public_labels(fed, 2)])


# -- lineages ----------------------------------------------------------------------------------------------------------


def test_the_line_of_a_liar_by_hand():
    rounds = [[(4, 0), (1, 2)], [(0, 3), (2, 1)], [(1, 0), (3, 4)], [(0, 3), (4, 2)]]
    # 4 lies: 0 has its net; then 3, through 0; an honest net mends 0, and what 4 gets it does not pass on; 3 is mended
    assert lineage.infected(rounds, [4]) == [1, 2, 1, 1]
    assert lineage.infected(rounds, [3, 4]) == [1, 1, 0, 1] and lineage.infected(rounds, []) == [0, 0, 0, 0]


def test_the_moves_of_def_kt_are_its_pairs_and_a_refused_net_does_not_move(federation):
    fed = federation()
    corrupt(fed, "flip", 1)
    run(RELATIVES["def-kt"], fed)
    pairs = [defkt.pairs_of(fed, index) for index in fed.rounds()]
    assert lineage.moves(fed) == pairs and fed.refusals == []
    kept = values(fed, Cell("def-kt", 3, 1, "flip"))
    assert kept["infected"] == lineage.infected(pairs, [2])[-1]
    assert "infected" not in values(fed, Cell("def-kt, own kept", 3, 1, "flip"))
    sender = pairs[1][0][0]
    deaf = federation(wire=lambda who, data: b"" if decode(data).round == 2 and who == sender else data)
    run(RELATIVES["def-kt"], deaf)
    assert lineage.moves(deaf) == [pairs[0], [], pairs[2]]


def test_a_flipped_net_arrives_as_the_mirror_image_of_the_honest_one(federation):
    fed = federation()
    fed.wire = Liars(fed, "flip", 1)
    first = {name: value.clone() for name, value in fed.server.parameters().items()}
    fed.clients[2].load({name: value + 0.5 for name, value in first.items()})
    arrived = defkt._sent(fed, fed.clients[2], fed.clients[0], 1)
    for name, value in arrived.parameters().items():
        torch.testing.assert_close(value, first[name] - 0.5)


@pytest.mark.parametrize(("clients", "liars", "rounds"), [(5, 1, 4), (10, 2, 4), (10, 1, 12)])
def test_the_expected_number_of_infected_nets(clients, liars, rounds):
    rng, counted, half = np.random.default_rng(0), [], clients // 2
    for _ in range(4000):
        drawn = [rng.permutation(clients) for _ in range(rounds)]
        pairs = [list(zip(order[:half], order[half : 2 * half], strict=True)) for order in drawn]
        counted.append(lineage.infected(pairs, range(clients - liars, clients))[-1])
    expected = (clients - liars) * (1 - (1 - half / clients * liars / (clients - 1)) ** rounds)
    assert np.mean(counted) == pytest.approx(expected, abs=4 * np.std(counted) / np.sqrt(len(counted)))
