import numpy as np
import pytest
import torch

from dml.arms import record, steps
from dml.arms.catalogue import ARMS, CONTROLS, arms_for, run
from dml.arms.federation import Federation
from dml.arms.weights import mean
from dml.data.images import Images, Split
from dml.exchange.messages import Aggregate, Losses, Weights, decode
from dml.streams import SERVER
from dml.training.clients import fit_one


def recording(fed):
    """Keep a copy of every message that crosses the wire."""
    seen = []
    fed.wire = lambda sender, data: seen.append((sender, decode(data))) or data
    return seen


@pytest.mark.parametrize("arm", [*ARMS, *CONTROLS])
def test_every_arm_runs_and_reports_every_client(arm, federation):
    fed = federation()
    run(arm, fed)
    unseen = {row.client for row in fed.rows if row.metric == "unseen accuracy"}
    assert unseen == ({-1} if arm == "pooled" else {0, 1, 2})
    assert all(np.isfinite(row.value) for row in fed.rows)
    assert all(np.isfinite(epoch.loss) for epoch in fed.history)


def test_arms_share_initial_weights_folds_and_first_local_round(federation):
    histories = {}
    for arm in ("dml", "fedavg", "local+public", "asynchronous"):
        fed = federation()
        run(arm, fed)
        histories[arm] = [e for e in fed.history if e.phase == "pretrain" or (e.phase == "local" and e.round == 1)]
    assert histories["dml"] == histories["fedavg"] == histories["local+public"]
    assert histories["asynchronous"][:2] == histories["dml"][:2]  # pre-training; it trains on 70 %, not on 80 %


def test_same_seed_same_rows_other_seed_others(federation):
    runs = []
    for seed in (0, 0, 1):
        fed = federation(seed)
        run("dml", fed)
        runs.append((fed.rows, fed.history))
    assert runs[0] == runs[1] != runs[2]


def test_the_global_random_state_is_neither_read_nor_changed(federation):
    torch.manual_seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run("dml", federation())
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_fedavg_of_two_clients_by_hand():
    a = Weights(round=1, sender=0, values={"w": torch.tensor([1.0, 2.0])})
    b = Weights(round=1, sender=1, values={"w": torch.tensor([3.0, 6.0])})
    assert mean([a, b])["w"].tolist() == [2.0, 4.0]
    assert mean([a, b], [0.5, 1.0])["w"].tolist() == [1.75, 3.5]  # scaled, divided by K: not by 1.5


def test_fedavg_leaves_all_clients_with_the_mean_of_what_they_sent(federation):
    fed = federation()
    seen = recording(fed)
    run("fedavg", fed)
    last = [m for sender, m in seen if m.round == 3 and sender >= 0]
    for name in last[0].values:
        expected = sum(m.values[name] for m in last) / 3
        for client in fed.clients:
            torch.testing.assert_close(client.parameters()[name], expected)


def test_asynchronous_schedule_and_scaling(federation):
    fed = federation()
    seen = recording(fed)
    run("asynchronous", fed)
    assert [m.group for sender, m in seen if sender == -1] == ["shallow", "shallow", "deep"]
    ups = [m for sender, m in seen if sender == 0]
    assert all(name.startswith("conv") for name in ups[0].values)
    assert all(name.startswith("dense") for name in ups[2].values)
    assert all(0 <= m.accuracy <= 1 for m in ups)
    held = {c.index: 0.3 * len(fed.private(1, c)) for c in fed.clients}
    assert ups[0].accuracy * np.ceil(held[0]) == pytest.approx(round(ups[0].accuracy * np.ceil(held[0])), abs=1e-4)


def test_dml_exchanges_losses_up_and_one_table_down_and_nothing_else(federation):
    fed = federation()
    seen = recording(fed)
    run("dml", fed)
    assert [type(m) for _, m in seen] == ([Losses] * 3 + [Aggregate]) * 3
    size = len(fed.folds.public[0])
    up = [entry for entry in fed.post.ledger if entry.round == 1 and entry.receiver == SERVER]
    assert [entry.payload for entry in up] == [4 * size] * 3
    assert all(4 * size < entry.encoded < 4 * size + 400 for entry in up)


@pytest.mark.parametrize("arm", ["local", "local+public", "self", "pooled"])
def test_controls_exchange_nothing(arm, federation):
    fed = federation()
    seen = recording(fed)
    run(arm, fed)
    assert seen == [] and {entry.round for entry in fed.post.ledger} == {0}  # the set-up only


HOSTILE = {
    "garbage": lambda message: b"garbage",
    "wrong length": lambda m: Losses(round=m.round, sender=m.sender, losses=torch.zeros(2)).encode(),
    "NaN": lambda m: Losses(round=m.round, sender=m.sender, losses=m.losses * float("nan")).encode(),
    "negative": lambda m: Losses(round=m.round, sender=m.sender, losses=m.losses - 100).encode(),
    "another's name": lambda m: Losses(round=m.round, sender=0, losses=m.losses).encode(),
    "another round": lambda m: Losses(round=9, sender=m.sender, losses=m.losses).encode(),
    "another kind": lambda m: Aggregate(round=m.round, sender=m.sender, total=m.losses[:, None], clients=1).encode(),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_malformed_message_is_refused_and_the_round_goes_on(attack, federation):
    def wire(sender, data):
        return HOSTILE[attack](decode(data)) if sender == 1 else data

    fed = federation(wire=wire)
    run("dml", fed)
    assert len(fed.refusals) == 3 and all("client 1" in text for text in fed.refusals)
    refused = [(row.round, row.client) for row in fed.rows if row.metric == "refused"]
    assert refused == [(1, 1), (2, 1), (3, 1)]
    assert {row.client for row in fed.rows if row.metric == "unseen accuracy"} == {0, 1, 2}


def test_when_every_message_is_refused_clients_refine_alone(federation):
    alone, control = federation(wire=lambda sender, data: b"lost"), federation()
    run("dml", alone)
    run("local+public", control)
    assert alone.history == control.history


def test_three_classes_send_probabilities(tiny, pictures):
    def three(split):
        return Split(split.images, torch.arange(len(split.labels)) % 3, split.files, split.sizes)

    images = Images("shapes", ("a", "b", "c"), three(pictures.train), three(pictures.unseen), "1" * 64, "test")
    fed = Federation(tiny, images, 0)
    seen = recording(fed)
    run("dml", fed)
    assert seen[0][1].probabilities.shape == (len(fed.folds.public[0]), 3)
    assert "dml-one-term" not in arms_for(3) and "dml-one-term" in arms_for(2)


PHASES = {  # of every round, after one pre-training; what tells the arms apart
    "dml": "local public",
    "dml-peer-first": "local public",
    "dml-one-term": "local public",
    "self": "local public",
    "local+public": "local public",
    "fedavg+public": "local public",
    "local": "local",
    "fedavg": "local",
    "asynchronous": "local global",
    "shuffled": "local public",
    "smoothing": "local public",
    "fedavg, then public": "local public",
    "fedavg+mixed": "local",
}


@pytest.fixture(scope="module")
def finished(tiny, pictures):
    """Every arm's federation after its run, seed 0."""
    federations = {}
    for arm in ARMS | CONTROLS:
        federations[arm] = Federation(tiny, pictures, 0)
        run(arm, federations[arm])
    return federations


@pytest.mark.parametrize("arm", PHASES)
def test_phases_of_every_round(arm, finished):
    found = [(e.round, e.phase) for e in finished[arm].history]
    expected = [(0, "pretrain")] + [(round, phase) for round in (1, 2, 3) for phase in PHASES[arm].split()]
    assert list(dict.fromkeys(found)) == expected


def test_arms_with_public_steps_differ_only_from_the_first_refinement_on(finished):
    def part(arm, public):
        return [e for e in finished[arm].history if e.round == 0 or (e.round == 1 and (e.phase == "public") == public)]

    arms = ("dml", "dml-peer-first", "dml-one-term", "self", "local+public")
    for i, one in enumerate(arms):
        for other in arms[i + 1 :]:
            assert part(one, public=False) == part(other, public=False)
            assert part(one, public=True) != part(other, public=True), (one, other)
    assert part("fedavg+public", public=True) == part("local+public", public=True)  # it averages afterwards


def first_tables(arm, fed):
    """The peers' tables of the first refinement, by client, and the public labels."""
    for fits in (ARMS | CONTROLS)[arm](fed):
        if fits[0].phase == "public":
            return {fit.client.index: fit.table for fit in fits}, fits[0].labels
        for fit in fits:
            fit_one(fit)


def test_shuffled_gives_each_image_what_the_peers_say_of_another_one_of_its_class(federation):
    (true, labels), (tables, _) = first_tables("dml", federation()), first_tables("shuffled", federation())
    for client, table in tables.items():
        assert not torch.equal(table, true[client])
        for label in (0, 1):
            rows, same = (sorted(each[labels == label].tolist()) for each in (table, true[client]))
            assert rows == same  # the same rows, class by class
    again, _ = first_tables("shuffled", federation())
    assert all(torch.equal(table, again[client]) for client, table in tables.items())


def test_smoothing_leaves_only_the_mean_of_each_class(federation):
    (true, labels), (tables, _) = first_tables("dml", federation()), first_tables("smoothing", federation())
    for client, table in tables.items():
        for label in (0, 1):
            rows = table[labels == label]
            assert (rows == rows[0]).all()
            torch.testing.assert_close(rows[0], true[client][labels == label].mean(0))


def test_fedavg_takes_the_public_images_before_or_after_the_average_or_mixed(finished, federation):
    def trained(arm, round_index, phase):
        return [e for e in finished[arm].history if (e.round, e.phase) == (round_index, phase)]

    assert trained("fedavg, then public", 1, "local") == trained("fedavg+public", 1, "local")
    assert trained("fedavg, then public", 1, "public") != trained("fedavg+public", 1, "public")  # from the average
    weights = [client.parameters()["dense2.weight"] for client in finished["fedavg, then public"].clients]
    assert not torch.equal(weights[0], weights[1])  # refined apart, after the average
    fed = federation()
    _, fits = (turn for turn, _ in zip(CONTROLS["fedavg+mixed"](fed), range(2), strict=False))
    private = [int(0.8 * len(fold)) for fold in fed.folds.private[0]]
    assert [len(fit.labels) for fit in fits] == [count + len(fed.folds.public[0]) for count in private]
    assert {entry.kind for entry in finished["fedavg+mixed"].post.ledger if entry.round == 0} == {"Weights", "Examples"}


@pytest.mark.parametrize("arm", [arm for arm in ARMS | CONTROLS if arm != "pooled"])
def test_the_last_rounds_are_measured_on_the_whole_unseen_set_image_by_image(arm, finished, pictures):
    fed, unseen = finished[arm], len(pictures.unseen.labels)
    assert [late.round for late in fed.right] == [1, 2, 3]
    for late in fed.right:
        right = [int(count) for count in late.right.split()]
        shares = [r.value for r in fed.rows if (r.metric, r.round) == ("late unseen accuracy", late.round)]
        assert len(right) == unseen and len(shares) == late.models and max(right) <= late.models
        assert sum(right) / unseen / late.models == pytest.approx(np.mean(shares), abs=1e-12)
    last = [r.value for r in fed.rows if r.metric == "unseen accuracy"]
    assert np.mean(last) == pytest.approx(np.mean(shares), abs=1e-12)


def test_asynchronous_server_holds_the_scaled_sum_divided_by_k_then_trains(federation):
    fed, seen = federation(), []
    steps = ARMS["asynchronous"](fed)
    fed.wire = lambda sender, data: seen.append(decode(data)) or data
    for fits in steps:
        if fits[0].phase == "global":  # between the upload and the server's training
            break
        for fit in fits:
            fit_one(fit)
    assert len(seen) == 3 and all(0 < m.accuracy < 1 for m in seen)  # so that the scaling is seen
    for name, value in fed.server.parameters().items():
        if name in seen[0].values:
            torch.testing.assert_close(value, sum(m.accuracy * m.values[name] for m in seen) / 3)
    assert len(fits[0].labels) == int(0.7 * len(fed.folds.public[0]))


def test_optimisers_are_the_published_ones(federation):
    fed = federation()
    client = fed.clients[0]
    assert client.optimiser.defaults["eps"] == 1e-7 and client.optimiser.defaults["lr"] == 1e-3
    fit_one(steps.local(fed, 1)[0])
    taken = client.optimiser.state[client.model.dense2.bias]["step"].item()
    fit_one(steps.refine(fed, 1)[0])  # a fresh optimiser: the kept one does not move
    assert client.optimiser.state[client.model.dense2.bias]["step"].item() == taken > 0
    fit_one(steps.local(fed, 2)[0])
    assert client.optimiser.state[client.model.dense2.bias]["step"].item() == 2 * taken


def test_shares_of_the_folds_that_train(federation):
    fed = federation()
    assert len(steps.pool(fed)[0].labels) == int(0.8 * len(fed.labels))
    assert [len(fit.labels) for fit in steps.local(fed, 2)] == [int(0.8 * len(fold)) for fold in fed.folds.private[1]]
    assert [len(fit.labels) for fit in steps.refine(fed, 2)] == [len(fed.folds.public[1])] * 3


def test_report_measures_what_trained_a_client_apart_from_what_did_not(federation, monkeypatch):
    fed, asked = federation(), []
    note = lambda fed, client, fold: asked.append((client.index, set(fold.tolist()))) or 0.5  # noqa: E731
    monkeypatch.setattr(record, "accuracy", note)
    record.report(fed)
    for index in range(3):
        seen, held = (fold for client, fold in asked if client == index)
        trained = {i for each in fed.folds.private for i in each[index][: int(0.8 * len(each[index]))].tolist()}
        assert seen == trained and not seen & held
        assert seen | held == {i for each in fed.folds.private for i in each[index].tolist()}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_runs_on_a_gpu(arm, federation):
    fed = federation(device=torch.device("cuda"))
    run(arm, fed)
    assert all(np.isfinite(row.value) for row in fed.rows)
