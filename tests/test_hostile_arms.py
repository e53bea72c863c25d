"""Arms under a rule, consensus by optimisation, and what is measured of a cell."""

import json
from dataclasses import replace

import pytest
import torch

from dml.arms import catalogue
from dml.arms.catalogue import run
from dml.config import Experiment
from dml.exchange.messages import Losses
from dml.experiment import ladder
from dml.hostile import arms, cells, pdmm, rules
from dml.hostile.arms import OUTPUT_RULES, WEIGHT_RULES, Answer, guarded
from dml.hostile.cells import Cell
from dml.hostile.liars import corrupt
from dml.training.clients import fit_one


def weights(fed):
    return torch.stack([torch.cat([v.flatten() for v in client.parameters().values()]) for client in fed.clients])


def uploads(federation, *losses):
    fed = federation(wire=lambda sender, data: data)
    count = len(fed.folds.public[0])
    told = [
        Losses(round=1, sender=index, losses=torch.full((count,), float(loss))) for index, loss in enumerate(losses)
    ]
    return fed, told


def test_a_weighted_sum_leaves_each_client_its_peers(federation):
    fed, told = uploads(federation, 0.1, 0.2, 30.0)
    answer = Answer(fed, "score", 1, "student-first", 0.02)
    tables, shares = answer(told), answer.contributions(told)
    # median 0.2, deviations 0.1, 0, 3.7 at the clip: the liar has no weight, so the others are each other's peers
    torch.testing.assert_close(tables[0], shares[1])
    torch.testing.assert_close(tables[1], shares[0])
    expected = (shares[0] + shares[1] * torch.exp(torch.tensor(-0.1))) / (1 + torch.exp(torch.tensor(-0.1)))
    torch.testing.assert_close(tables[2], expected)
    weights = {row.client: row.value for row in fed.rows if row.metric == "weight"}
    assert weights[2] == 0 and sum(weights.values()) == pytest.approx(3)
    assert sorted((entry.kind, entry.receiver) for entry in fed.post.ledger) == [("Weighted", i) for i in range(3)]


def test_who_is_believed_alone_has_no_peers(federation):
    fed, told = uploads(federation, 0.1, 0.2, 0.3)
    answer = Answer(fed, "greed", 1, "student-first", 0.02)
    answer.weights_of = lambda *_: torch.tensor([3.0, 0.0, 0.0])
    tables = answer(told)
    assert sorted(tables) == [1, 2] and torch.equal(tables[1], answer.contributions(told)[0])


def test_a_robust_table_is_of_the_peers_alone_and_each_client_gets_its_own(federation):
    fed, told = uploads(federation, 0.1, 0.2, 30.0)
    answer = Answer(fed, "median", 0, "student-first", 0.02)
    tables, shares = answer(told), answer.contributions(told)
    for index, table in tables.items():
        peers = [share for other, share in shares.items() if other != index]
        torch.testing.assert_close(table, (peers[0] + peers[1]) / 2)
    assert sorted((entry.kind, entry.receiver) for entry in fed.post.ledger) == [("Aggregate", i) for i in range(3)]


def test_experts_remember(federation):
    fed, told = uploads(federation, 0.1, 0.2, 30.0)
    assert Answer(fed, "median", 1, "student-first", 0.02)(told) == {}  # two peers are too few for it
    answer = Answer(fed, "experts", 1, "student-first", 0.02)
    answer(told)
    first = answer.weights.clone()
    answer(told)
    assert answer.weights[2] < first[2] < 1


@pytest.mark.parametrize("form", ["student-first", "peer-first"])
def test_equal_weights_are_the_arm_itself(federation, monkeypatch, form):
    """The skeleton is dml's: with weights of one the models are the same, to rounding."""
    monkeypatch.setattr(rules, "score", torch.ones_like)
    own, guard = federation(), federation()
    run("dml" if form == "student-first" else "dml-peer-first", own)
    run(lambda fed: arms.dml(fed, "score", 1, form), guard)
    torch.testing.assert_close(weights(guard), weights(own), atol=2e-4, rtol=0)
    assert len(guard.rows) == len(own.rows) + 3 * 3  # and the weight of three clients in three rounds


@pytest.mark.parametrize("arm", ["fedavg", "fedavg+public"])
def test_the_mean_of_all_is_federated_averaging(federation, monkeypatch, arm):
    monkeypatch.setitem(rules.VECTOR, "median", lambda x, f: x.mean(0))
    own, guard = federation(), federation()
    run(arm, own)
    run(guarded(arm, "median", 1), guard)
    torch.testing.assert_close(weights(guard), weights(own), atol=2e-4, rtol=0)
    assert [row.metric for row in guard.rows] == [row.metric for row in own.rows]
    assert len(guard.post.ledger) == len(own.post.ledger)


@pytest.mark.parametrize("rule", WEIGHT_RULES)
def test_every_rule_on_weights_goes_through(tiny, pictures, rule):
    from dml.arms.federation import Federation

    fed = Federation(replace(tiny, clients=7, rounds=1, epochs=1), pictures, 0)
    corrupt(fed, "scaled", 1)
    run(guarded("fedavg", rule, 1), fed)
    assert torch.isfinite(weights(fed)).all() and fed.refusals == []


@pytest.mark.parametrize("rule", OUTPUT_RULES)
def test_every_rule_on_outputs_goes_through(tiny, pictures, rule):
    from dml.arms.federation import Federation

    fed = Federation(replace(tiny, clients=6, rounds=1, epochs=1), pictures, 0)
    corrupt(fed, "veto", 1)
    run(guarded("dml", rule, 1), fed)
    assert torch.isfinite(weights(fed)).all() and fed.refusals == []


# -- PDMM --------------------------------------------------------------------------------------------------------------

CENTRES = torch.tensor([[1.0, 0.0], [3.0, 2.0], [-1.0, 4.0], [2.0, 2.0]], dtype=torch.float64)  # of |w - a|^2 h / 2
CURVES = torch.tensor([1.0, 0.5, 2.0, 1.5], dtype=torch.float64)


def star_of_quadratics(penalty, lie=None, rounds=600):
    """The star with exact local solves of h/2 |w - a|^2, over the module's own two steps; all clients in one tensor."""
    target, curves = {"w": torch.zeros_like(CENTRES)}, CURVES[:, None]
    for _ in range(rounds):
        solution = {"w": (curves * CENTRES + penalty * target["w"]) / (curves + penalty)}
        sent = pdmm.reflect(solution, target)
        if lie is not None:
            sent["w"][-1] = lie
        mean = pdmm.average([{"w": said} for said in sent["w"]])
        target = pdmm.reflect({"w": mean["w"].expand_as(CENTRES)}, sent)
    return mean["w"]


def averaging_of_quadratics(rate, lie, rounds=600):
    """Federated averaging with one gradient step, whose last client always sends the same."""
    w = torch.zeros(2, dtype=torch.float64)
    for _ in range(rounds):
        steps = w - rate * CURVES[:, None] * (w - CENTRES)
        steps[-1] = lie
        w = steps.mean(0)
    return w


def test_without_a_liar_the_star_finds_the_minimum_of_the_sum():
    minimum = (CURVES[:, None] * CENTRES).sum(0) / CURVES.sum()
    torch.testing.assert_close(star_of_quadratics(0.7), minimum)


@pytest.mark.parametrize("penalty", [2.5, 10.0])
@pytest.mark.parametrize("lie", [[5.0, -5.0], [1e3, 2e3]])
def test_a_constant_liar_moves_the_star_exactly_as_averaging_with_rate_one_over_c(penalty, lie):
    lie = torch.tensor(lie, dtype=torch.float64)
    moved = star_of_quadratics(penalty, lie)
    torch.testing.assert_close(moved, averaging_of_quadratics(1 / penalty, lie), rtol=1e-10, atol=1e-10)
    honest = (CURVES[:-1, None] * (moved - CENTRES[:-1])).sum(0) + penalty * (moved - lie)
    assert honest.abs().max() < 1e-9 * lie.abs().max()


def test_the_pull_grows_without_bound():
    far = [star_of_quadratics(1.0, torch.tensor([x, 0.0], dtype=torch.float64))[0].item() for x in (1e2, 1e4, 1e6)]
    assert far[1] / far[0] == pytest.approx(100, rel=0.1) and far[2] / far[1] == pytest.approx(100, rel=0.01)


def test_without_a_penalty_a_solve_is_a_fit(federation):
    from dml.arms import steps

    one, other = federation(), federation()
    fit, same = steps.local(one, 1)[0], steps.local(other, 1)[0]
    history = pdmm.solve(fit, one.server.parameters(), 0.0)
    assert history == fit_one(same)
    torch.testing.assert_close(weights(one), weights(other))


def test_a_penalty_holds_a_client_at_its_target(federation):
    from dml.arms import steps

    def moved(penalty):
        fed = federation()
        start = weights(fed)[0]
        pdmm.solve(steps.local(fed, 1)[0], fed.server.parameters(), penalty)
        return (weights(fed)[0] - start).norm().item()

    assert moved(100.0) < moved(0.0)


def test_the_star_takes_the_bytes_of_averaging_and_the_ring_no_server(federation):
    star, plain, ring = federation(), federation(), federation()
    run(pdmm.ARMS["pdmm, c = 0.1"], star)
    run("fedavg", plain)
    run(pdmm.ARMS["pdmm on a ring, c = 0.1"], ring)
    assert star.post.ledger == plain.post.ledger
    later = [entry for entry in ring.post.ledger if entry.round > 0]
    assert len(later) == 3 * 3 * 2 and all(entry.sender >= 0 and entry.receiver >= 0 for entry in later)
    assert torch.equal(weights(star)[0], weights(star)[1]) and not torch.equal(weights(ring)[0], weights(ring)[1])


def test_a_refused_neighbour_leaves_the_old_target(federation):
    fed = federation(wire=lambda sender, data: b"" if sender == 1 else data)
    run(pdmm.ARMS["pdmm on a ring, c = 0.1"], fed)
    assert len(fed.refusals) == 3 * 2 and torch.isfinite(weights(fed)).all()


# -- a cell ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(sandbox):
    from dml.data.images import images_of

    base = replace(sandbox.experiment, glance=0)

    def measured(cell):
        experiment = cell.experiment(base)
        images = images_of("faces", experiment)
        (content,) = cells.measure("faces", images.sha256, experiment, cell, 0, "cpu")
        return json.loads(content)

    return measured


def test_a_cell_is_measured_on_its_honest_clients(measured):
    plain, lied = measured(Cell("dml", 3)), measured(Cell("dml", 3, 1, "veto", "score", 1, clip=0.02))
    assert plain["values"].keys() == {"accuracy", "worst", "up", "down", "refused"}
    assert lied["values"].keys() == plain["values"].keys() | {"liar weight"}
    assert lied["rule"] == "score" and lied["liars"] == 1 and lied["seed"] == 0
    assert lied["values"]["down"] > plain["values"]["down"] and lied["values"]["up"] == plain["values"]["up"]
    assert plain["values"]["worst"] <= plain["values"]["accuracy"] <= 1


def test_the_clip_of_a_cell_reaches_its_guarded_arm(federation, monkeypatch):
    clips = []
    monkeypatch.setattr(arms, "Answer", lambda fed, rule, f, form, clip: clips.append(clip) or (lambda told: {}))
    fed = federation()
    fed.experiment = replace(fed.experiment, clip=0.02)
    run(Cell("dml", 3, 1, "veto", "score", 1, clip=0.02).begin(), fed)
    assert clips == [0.02]


def test_a_backdoor_reports_its_success(measured):
    assert 0 <= measured(Cell("fedavg", 3, 1, "backdoor"))["values"]["backdoor"] <= 1


def test_folds_keep_their_size_with_more_clients():
    base = replace(Experiment(), rounds=4, train_images=600)
    assert Cell("dml", 10).experiment(base).train_images == 600 // 25 * 45
    assert Cell("dml", 10, clip=0.02).experiment(base).clip == 0.02


def test_titles_differ_and_cells_that_cannot_be_are_refused():
    one = Cell("dml", 10, 2, "veto", "krum", 2, clip=0.02, labels=False)
    assert one.title == "dml, K = 10, clip 0.02, no labels, krum for 2, 2 veto"
    with pytest.raises(ValueError, match=r"2 \* 4 \+ 3 = 11 clients or more, not 9"):
        Cell("dml", 10, 4, "veto", "krum", 4).begin()
    with pytest.raises(KeyError):
        Cell("nothing", 3).begin()
    assert (
        Cell("dml", 3).begin() is catalogue.ARMS["dml"]
        and Cell("dml, 8 bits", 3).begin() is ladder.RUNGS["dml, 8 bits"]
    )
