"""DML's relatives against values computed by hand, and against DML where a preset is DML."""

from copy import deepcopy
from dataclasses import replace
from itertools import chain
from math import exp, log

import numpy as np
import pytest
import torch
from stacked import fit_all

from dml.arms import steps
from dml.arms.catalogue import run
from dml.arms.federation import Federation
from dml.arms.relatives import defkt, outputs
from dml.arms.relatives.catalogue import RELATIVES
from dml.arms.relatives.messages import Scores
from dml.arms.relatives.outputs import DML, PRESETS, Rule, contributed, learned_from, pooled_for, weights_of
from dml.arms.relatives.weights import MU, mean_of_holders, narrow
from dml.config import Experiment
from dml.exchange.messages import decode
from dml.experiment.ladder import code_of, find
from dml.losses import log_probabilities
from dml.training.clients import Client, Fit, fit_one, objective, predict
from dml.training.kinds import build

# Three images, three clients: P(class 1) of each, and what the student (client 0) now says.
SAID = torch.tensor([[0.9, 0.5, 0.2], [0.6, 0.7, 0.4], [0.8, 0.1, 0.5]])
NOW = torch.tensor([0.7, 0.4, 0.3])
LABELS = torch.tensor([1, 0, 1])


def logit(p):
    return torch.log(p / (1 - p))


def table_of(rule, merits=(0.0, 0.0, 0.0), client=0):
    """What client 0 learns from, through the sum that a server sends."""
    if rule.pool == "logits":
        shares = [contributed(rule, logit(p)[:, None]) for p in SAID]
    else:
        shares = [contributed(rule, torch.stack((1 - p, p), 1).log()) for p in SAID]
    weights = weights_of(merits, rule.merit is None)
    total = sum(w * share for w, share in zip(weights, shares, strict=True))
    return learned_from(rule, pooled_for(rule, shares[client], weights[client], total))


def loss_and_gradient(rule, table):
    """The loss of each image and its gradient in the student's logit."""
    student = Client(0, build("visionnet", 20, 2, np.random.default_rng(0)), Experiment(), 0)
    fit = Fit(student, 1, "public", None, LABELS, outputs.FORMS[rule.loss], table, labelled=rule.labels)
    z = logit(NOW)[:, None].requires_grad_()
    loss = objective(fit, z, LABELS, table)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    return loss.detach(), gradient[:, 0]


def kl(a, b):
    """KL between Bernoulli distributions with P(1) = a and b."""
    return a * torch.log(a / b) + (1 - a) * torch.log((1 - a) / (1 - b))


def test_fedmd_by_hand():
    rule = PRESETS["fedmd"]
    pool = logit(SAID).mean(0)  # own included
    assert table_of(rule)[:, 0].tolist() == pytest.approx(pool.tolist(), abs=1e-6)
    loss, gradient = loss_and_gradient(rule, table_of(rule))
    assert loss.tolist() == pytest.approx((logit(NOW) - pool).abs().tolist(), abs=1e-6)
    assert gradient.tolist() == torch.sign(logit(NOW) - pool).tolist()
    assert (log(9) + log(1.5) + log(4)) / 3 == pytest.approx(pool[0].item(), abs=1e-6)


@pytest.mark.parametrize("name", ["dsfl", "scarlet"])
def test_sharpened_linear_pools_by_hand(name):
    mean = SAID.mean(0)  # 0.7667, 0.4333, 0.3667: own included
    if name == "dsfl":
        sharp = torch.tensor([1 / (1 + exp(-(2 * m - 1) / 0.1)) for m in mean.tolist()])
    else:
        sharp = mean**2 / (mean**2 + (1 - mean) ** 2)
    rule = PRESETS[name]
    table = table_of(rule)
    assert table[:, 1].tolist() == pytest.approx(sharp.tolist(), abs=1e-6)
    loss, gradient = loss_and_gradient(rule, table)
    assert loss.tolist() == pytest.approx(kl(sharp, NOW).tolist(), abs=1e-5)
    assert gradient.tolist() == pytest.approx((NOW - sharp).tolist(), abs=1e-6)  # of KL(q || sigmoid(z))
    assert rule.labels is False and rule.own is True


def test_rhfl_by_hand():
    rule, falls = PRESETS["rhfl"], (0.5, 0.1, 0.3)
    weights = np.exp(falls) / np.exp(falls).sum()  # over all three; the own one leaves without a trace
    table = table_of(rule, falls)
    loss, gradient = loss_and_gradient(rule, table)
    expected = weights[1] * kl(SAID[1], NOW) + weights[2] * kl(SAID[2], NOW)
    slope = weights[1] * (NOW - SAID[1]) + weights[2] * (NOW - SAID[2])
    assert loss.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert gradient.tolist() == pytest.approx(slope.tolist(), abs=1e-6)


def test_kta_by_hand():
    rule, merits = PRESETS["kta"], (-0.2, -0.4, -1.0)
    weights = np.exp(merits[1:]) / np.exp(merits[1:]).sum()  # of the peers alone
    teacher = torch.sigmoid(weights[0] * logit(SAID[1]) + weights[1] * logit(SAID[2]))
    table = table_of(rule, merits)
    assert table[:, 1].tolist() == pytest.approx(teacher.tolist(), abs=1e-6)
    loss, gradient = loss_and_gradient(rule, table)
    assert loss.tolist() == pytest.approx(kl(teacher, NOW).tolist(), abs=1e-5)
    assert gradient.tolist() == pytest.approx((NOW - teacher).tolist(), abs=1e-6)


def test_who_is_certain_of_everything_hardly_counts_by_hand(federation):
    """A client that is certain of 3, 0 and 1 of its public images of three."""
    sure = torch.tensor([[9.0, -9, 9], [0.5, -1, 2], [5, 1, 0]])
    fed = federation()
    merits = [outputs.doubt(fed, client, 1, log_probabilities(sure[client.index][:, None])) for client in fed.clients]
    assert merits == pytest.approx([-5, 0, -5 / 3])
    weights = np.exp(merits[1:]) / np.exp(merits[1:]).sum()  # client 0 hears the two others
    pool = sum(w * torch.stack((1 - p, p), 1).log() for w, p in zip(weights, SAID[1:], strict=True))
    rule = replace(DML, merit=outputs.doubt)
    assert torch.allclose(table_of(rule, merits), pool.float(), atol=1e-5)
    assert outputs.ARMS["dml, certain discounted"].keywords["rule"] == rule


def test_feddf_by_hand(federation):
    """The server starts from the mean of the weights and learns KL(ensemble || itself) from the mean of the logits."""
    seen = []

    def watched(fed):
        for fits in RELATIVES["feddf"](fed):
            if fits[0].phase == "public":
                images = fed.train[fed.public(fits[0].round)]
                said = torch.stack([predict(client, images)[:3, 0] for client in fed.clients]).double()
                seen.append((fits[0], said, *(deepcopy(c.parameters()) for c in (fits[0].client, *fed.clients))))
            yield fits

    run(watched, fed := federation())
    assert len(seen) == fed.experiment.rounds
    fit, said, server, *clients = seen[0]
    for name, value in server.items():
        assert torch.allclose(value, torch.stack([each[name] for each in clients]).mean(0), atol=1e-6)
    teacher = torch.sigmoid(said.mean(0))
    z = logit(NOW).double()[:, None].requires_grad_()
    loss = objective(fit, z, LABELS, fit.table[:3].double())
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert not fit.labelled and loss.tolist() == pytest.approx(kl(teacher, NOW.double()).tolist(), abs=1e-5)
    assert gradient[:, 0].tolist() == pytest.approx((NOW.double() - teacher).tolist(), abs=1e-5)


def test_dml_and_its_two_changed_switches_by_hand():
    peers = SAID[1:]
    label = -torch.where(LABELS == 1, NOW, 1 - NOW).log()
    loss, _ = loss_and_gradient(DML, table_of(DML))
    assert loss.tolist() == pytest.approx((label + kl(NOW, peers).mean(0)).tolist(), abs=1e-6)
    loss, _ = loss_and_gradient(rule := replace(DML, pool="linear"), table_of(replace(DML, pool="linear")))
    assert loss.tolist() == pytest.approx((label + kl(NOW, peers.mean(0))).tolist(), abs=1e-6)
    rule = replace(DML, loss="peer first")
    loss, _ = loss_and_gradient(rule, table_of(rule))
    geometric = torch.sigmoid(logit(peers).mean(0))
    assert loss.tolist() == pytest.approx((label + kl(geometric, NOW)).tolist(), abs=1e-5)
    rule = Rule("linear", "peer first")
    loss, _ = loss_and_gradient(rule, table_of(rule))
    assert loss.tolist() == pytest.approx((label + kl(peers, NOW).mean(0)).tolist(), abs=1e-6)


def test_the_log_pool_cancels_opposite_priors_and_the_linear_pool_does_not():
    """Two peers whose evidence is the same and whose class priors are opposite: logits 1 + 3 and 1 - 3."""
    said = torch.sigmoid(torch.tensor([1.0, 4.0, -2.0]))
    log_p = [torch.stack((1 - p, p))[None].log() for p in said]
    logs, linear = DML, Rule("linear", "peer first")
    mean = [sum(contributed(rule, share) for share in log_p[1:]) / 2 for rule in (logs, linear)]
    assert (mean[0][0, 1] - mean[0][0, 0]).item() == pytest.approx(1.0, abs=1e-5)
    assert abs(logit(mean[1][0, 1]).item()) < 0.3  # flattened: the evidence is nearly gone


@pytest.mark.parametrize("name", ["dml", "dml-peer-first"])
def test_a_rule_can_be_dml(name, federation):
    rule = DML if name == "dml" else Rule("linear", "peer first")
    ours, theirs = federation(), federation()
    run(name, ours)
    run(lambda fed: outputs.exchange(fed, rule), theirs)
    for one, other in zip(ours.history, theirs.history, strict=True):
        assert (one.round, one.phase, one.client) == (other.round, other.phase, other.client)
        assert one.loss == pytest.approx(other.loss, rel=1e-2, abs=2e-3)
    first = [[e.loss for e in fed.history if e.phase == "public"][:6] for fed in (ours, theirs)]
    assert first[0] == pytest.approx(first[1], rel=1e-4)


@pytest.mark.parametrize("arm", [arm for arm in RELATIVES if not arm.startswith("heterofl")])
def test_every_relative_runs_is_found_and_counts_its_bytes(arm, federation):
    fed = federation()
    run(find(arm), fed)
    assert {row.client for row in fed.rows if row.metric == "unseen accuracy"} == {0, 1, 2}
    assert all(np.isfinite(row.value) for row in fed.rows) and all(np.isfinite(e.loss) for e in fed.history)
    sent = [entry for entry in fed.post.ledger if entry.round > 0]
    assert bool(sent) == (arm != "def-kt, stranger") and not fed.refusals
    assert code_of(fed.experiment, arm) and not code_of(fed.experiment, "dml")


def unlabelled(pictures, tiny, seed=0, **changes):
    return Federation(replace(tiny, public_fold="unlabelled", **changes), pictures, seed)


@pytest.mark.parametrize("arm", ["dml", "dml-peer-first", "fedmd", "dsfl+labels", "feddf+labels", "self"])
def test_without_public_labels_none_is_used(arm, pictures, tiny):
    """The labels of the public images are turned round: nothing that is learned changes."""
    fed, turned = unlabelled(pictures, tiny), unlabelled(pictures, tiny)
    for fold in turned.folds.public:
        turned.labels[fold] = 1 - turned.labels[fold]
    for each in (fed, turned):
        run(find(arm), each)
    for one, other in zip(fed.clients, turned.clients, strict=True):
        assert all(torch.equal(value, other.parameters()[name]) for name, value in one.parameters().items())
    assert any(e.phase == "public" for e in fed.history)


def test_without_labels_and_peers_there_is_nothing_to_learn(pictures, tiny):
    fed, alone = unlabelled(pictures, tiny), Federation(tiny, pictures, 0)
    run("local+public", fed)
    run("local", alone)
    assert fed.history == alone.history
    with pytest.raises(ValueError, match="neither labels nor peers"):
        replace(steps.refine(Federation(tiny, pictures, 0), 1)[0], labelled=False)
    for arm in ("asynchronous", "fedavg+mixed", "kta", "def-kt"):
        with pytest.raises(ValueError, match="unlabelled"):
            run(find(arm), unlabelled(pictures, tiny))


def test_authors_schedules_are_shorter_public_phases(federation):
    for arm, epochs in (("fedmd, authors'", 1), ("fedmd", 2)):
        fed = federation()
        run(find(arm), fed)
        assert max(e.epoch for e in fed.history if e.phase == "public") == epochs


@pytest.mark.parametrize("arm", ["dml", "feddf", "fedmd"])
def test_the_public_phase_has_the_experiments_epochs_and_rate(arm, pictures, tiny):
    fed = Federation(replace(tiny, public_epochs=3, public_rate=0.5), pictures, 0)
    batches = [fits for fits in find(arm)(fed) if fits and fits[0].public]
    assert {(len(fit.length), fit.learning_rate) for fits in batches for fit in fits} == {(3, 0.5)}


def test_a_malformed_score_is_refused(federation):
    def wire(sender, data):
        message = decode(data)
        if sender == 1 and isinstance(message, Scores):
            return replace(message, values=message.values[:2]).encode()
        return data

    fed = federation(wire=wire)
    run(find("rhfl"), fed)
    assert len(fed.refusals) == 3 and all("client 1" in text for text in fed.refusals)


# -- options of a fit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"proximal": 0.5}, {"labelled": False}, {"epochs": 3, "learning_rate": 3e-4}, {"form": "logits"}]
)
def test_both_engines_agree_on_the_options_of_a_fit(options, federation):
    ends = []
    for engine in (lambda fits: [fit_one(fit) for fit in fits], fit_all):
        fed = federation()
        table = torch.linspace(-2, 1, 2 * len(fed.folds.public[0])).reshape(-1, 2)
        fits = [replace(fit, form="student-first", table=table) for fit in steps.refine(fed, 1)]
        if options.get("form") == "logits":
            fits = [replace(fit, table=table[:, :1]) for fit in fits]
        histories = engine([replace(fit, **options) for fit in fits])
        ends.append((fed, histories))
    (loop, first), (stack, second) = ends
    assert len(first[0]) == options.get("epochs", 2)
    for one, other in zip(chain(*first), chain(*second), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3, abs=1e-4)
    for a, b in zip(loop.clients, stack.clients, strict=True):
        for name, value in a.parameters().items():
            torch.testing.assert_close(value, b.parameters()[name], rtol=0.02, atol=2e-3)


def test_the_learning_rate_of_a_public_fit_is_its_own(federation):
    fit = replace(steps.refine(federation(), 1)[0], learning_rate=3e-4)
    (group,) = fit.optimiser([torch.zeros(1, requires_grad=True)]).param_groups
    assert group["lr"] == 3e-4 and fit.client.optimiser.defaults["lr"] == 1e-3


def test_fedprox_stays_nearer_to_where_it_began(federation):
    moved = []
    for proximal in (0.0, 10.0):
        fed = federation()
        (fit, *_) = steps.local(fed, 1)
        before = {name: value.clone() for name, value in fit.client.parameters().items()}
        fit_one(replace(fit, proximal=proximal))
        moved.append(sum((value - before[n]).square().sum() for n, value in fit.client.parameters().items()))
    assert moved[1] < 0.7 * moved[0]
    fits = [fit for turn, _ in zip(find("fedprox+public")(federation()), range(3), strict=False) for fit in turn]
    assert {(fit.phase, fit.proximal) for fit in fits} == {("pretrain", 0.0), ("local", MU), ("public", 0.0)}


# -- Def-KT -----------------------------------------------------------------------------------------------------------


def test_pairs_are_disjoint_and_drawn_anew():
    for clients in (2, 3, 5, 10):
        fed = type("fed", (), {"clients": range(clients), "seed": 4})
        drawn = [defkt.pairs_of(fed, round_index) for round_index in range(1, 9)]
        for pairs in drawn:
            flat = [index for pair in pairs for index in pair]
            assert len(pairs) == clients // 2 and len(set(flat)) == len(flat) and set(flat) <= set(range(clients))
        assert len({tuple(pairs) for pairs in drawn}) > 1


def visitor(fed, client):
    other = Client(client.index, fed.model("visionnet", client.index), fed.experiment, fed.seed)
    return other, {name: value.clone() for name, value in other.parameters().items()}


def moved(client, before):
    return sum((value - before[name]).abs().sum().item() for name, value in client.parameters().items())


def test_both_models_move_unless_the_receivers_is_frozen(federation):
    for frozen in (False, True):
        fed = federation()
        fit = steps.local(fed, 1)[0]
        own = {name: value.clone() for name, value in fit.client.parameters().items()}
        other, before = visitor(fed, fit.client)
        defkt.teach(fit, other, frozen=frozen)
        assert moved(other, before) > 1 and (moved(fit.client, own) == 0) == frozen


def test_without_weight_the_two_do_not_know_of_each_other(federation):
    ends = []
    for seed, weight in ((0, 0.0), (1, 0.0), (0, 1.0), (1, 1.0)):
        fed = federation()
        fit = steps.local(fed, 1)[0]
        other = Client(0, build("visionnet", 20, 2, np.random.default_rng(seed)), fed.experiment, 0)
        defkt.teach(fit, other, weight)
        ends.append(fit.client.parameters()["dense2.weight"].clone())
    assert torch.equal(ends[0], ends[1])  # another visitor, the same client
    assert not torch.equal(ends[2], ends[3]) and not torch.equal(ends[0], ends[2])


def one_round(federation, **options):
    """A federation of one round after it, the models the clients had before the last fits, and the pairs."""
    fed = federation()
    fed.experiment = replace(fed.experiment, rounds=1)
    turns = defkt.defkt(fed, **options)
    for fits in turns:
        for fit in fits:
            fed.history.extend(fit_one(fit))
    return fed, defkt.pairs_of(fed, 1)


def test_what_the_receiver_keeps(federation):
    ends = {keep: one_round(federation, keep=keep) for keep in ("received", "own")}
    (received, pairs), (own, again) = ends["received"], ends["own"]
    assert pairs == again
    for sender, receiver in pairs:
        assert not torch.equal(
            received.clients[receiver].parameters()["dense2.weight"],
            own.clients[receiver].parameters()["dense2.weight"],
        )
        for fed in (received, own):  # the sender still has what it sent
            sent = [entry for entry in fed.post.ledger if entry.round == 1]
            assert [(entry.sender, entry.receiver, entry.kind) for entry in sent] == [(sender, receiver, "Weights")]


def test_steps_of_a_round_are_counted(federation):
    fed, pairs = one_round(federation)
    phases = [(e.phase, e.client) for e in fed.history if e.round == 1 and e.epoch == 1]
    ((sender, receiver),) = pairs
    assert phases == [("local", sender), ("public", receiver)]
    fed, _ = one_round(federation, partner="average")
    assert [(e.phase, e.client) for e in fed.history if e.round == 1 and e.epoch == 1] == [
        ("local", sender),
        ("local", receiver),
    ]


# -- HeteroFL ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def widths(pictures):
    experiment = Experiment(clients=3, rounds=2, epochs=1, batch=8, size=20, models="visionnet,visionnet-half")
    return lambda: Federation(experiment, pictures, 0)


def test_a_narrow_model_is_a_corner_of_the_wide_one_and_the_mean_is_over_who_has_an_entry(widths):
    fed = widths()
    wide, half = fed.starters.values()
    part = narrow(wide, half)
    assert torch.equal(part["conv2.weight"], wide.parameters()["conv2.weight"][:32, :16])
    grid = wide.parameters()["dense1.weight"].reshape(64, -1, 64)  # [out, place, channel]
    assert torch.equal(part["dense1.weight"], grid[:32, :, :32].reshape(32, -1))
    ones = {name: torch.ones_like(value) for name, value in wide.parameters().items()}
    threes = {name: torch.full_like(value, 3.0) for name, value in part.items()}
    mean = mean_of_holders(wide, [ones, threes])
    assert mean["conv1.bias"].tolist() == [2.0] * 16 + [1.0] * 16
    assert set(mean["dense1.weight"].reshape(64, -1, 64)[:32, :, :32].unique().tolist()) == {2.0}
    assert set(mean["dense1.weight"].reshape(64, -1, 64)[:, :, 32:].unique().tolist()) == {1.0}
    assert set(mean_of_holders(wide, [threes])["conv1.bias"][:16].tolist()) == {3.0}
    kept = mean_of_holders(wide, [threes])["conv1.weight"][16:]
    assert torch.equal(kept, wide.parameters()["conv1.weight"][16:])  # nobody has it: as it was


def test_the_wide_models_features_are_the_narrow_ones_first(widths):
    """What makes a corner of the weights a model of its own: a network whose other channels are cut off."""
    wide, half = widths().starters.values()
    half.load(narrow(wide, half))
    cut = {name: value.clone() for name, value in wide.parameters().items()}
    cut["conv1.weight"][16:], cut["conv1.bias"][16:] = 0, 0
    for name in ("conv2", "conv3"):
        cut[f"{name}.weight"][32:], cut[f"{name}.bias"][32:] = 0, 0
    cut["dense1.weight"][32:], cut["dense1.bias"][32:] = 0, 0
    wide.load(cut)
    images = torch.rand(4, 3, 20, 20)
    torch.testing.assert_close(wide.model(images), half.model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arm", ["heterofl", "heterofl+public"])
def test_heterofl_runs_and_leaves_every_client_a_corner(arm, widths):
    fed = widths()
    run(find(arm), fed)
    wide, half = fed.starters.values()
    for name, value in narrow(wide, half).items():
        assert torch.equal(fed.clients[1].parameters()[name], value)
    other = Federation(replace(fed.experiment, models="visionnet-half,visionnet"), fed.images, 0)
    with pytest.raises(ValueError, match="the widest first"):
        run(find(arm), other)
