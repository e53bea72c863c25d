"""The membership game as it is played: who draws what, what a view holds, what attacks find in it, what defences do."""

import math
from dataclasses import fields, replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch

import dml.privacy.game
from dml import config
from dml.arms import steps
from dml.config import Draw, Experiment
from dml.data.images import Images, images_of
from dml.exchange.messages import Aggregate, Losses, Predictions, Weights
from dml.files import DataError
from dml.losses import log_probabilities
from dml.privacy import defences, membership, shadows, surrogate
from dml.privacy import membership_tables as report
from dml.privacy import rates as metrics
from dml.privacy.game import VICTIM, deal
from dml.privacy.membership import Signals
from dml.privacy.shadows import Trained, attacker, observe, pick, play
from dml.privacy.views import ADVERSARIES, Tap, View
from dml.training.memory import carry_out

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")
EXPERIMENT = Experiment(clients=3, rounds=4, epochs=4, size=24, train_images=420, unseen_images=60)
DRAW = Draw(groups=6, victims=4, canaries=8, unseen=40)


@pytest.fixture(scope="module")
def game(own_cache):
    return deal("faces", EXPERIMENT, DRAW, 0)


@pytest.fixture(scope="module")
def sent(game):
    """What crossed the wire in the first round of each arm, for victim 0."""
    trained, found = Trained(carry_out), {}
    for arm in shadows.METHODS:
        tap = Tap()
        play(arm, game.federation(0, tap, CPU), trained, range(EXPERIMENT.clients))
        found[arm] = tap.sent
    return found


def view(game, sent, name):
    adversary = ADVERSARIES[name]
    return adversary.view(sent[adversary.arm], attacker(game, CPU)[0])


# -- the game ---------------------------------------------------------------------------------------------------------


def test_members_are_a_stratified_half_of_the_pool(game):
    labels = game.images.train.labels[game.pool].numpy()
    assert game.members.shape == (24, len(game.pool)) and len(set(map(bytes, game.members))) == 24
    assert (game.members.sum(1) == len(game.pool) // 2).all()
    assert all(np.bincount(labels[row]).tolist() == [len(row) // 4] * 2 for row in game.members)
    assert abs(game.members[:, game.canary].mean() - 0.5) < 0.1


def test_nobody_holds_an_image_of_another(game):
    for group in game.private:
        parts = [game.pool, game.public, game.held, *group]
        together = np.concatenate(parts)
        assert len(np.unique(together)) == len(together)
        assert all(np.bincount(game.images.train.labels[each].numpy()).min() == len(each) // 2 for each in group)


def test_only_canaries_are_mislabelled(game):
    everything = images_of("faces", EXPERIMENT).train
    true = dict(zip(everything.files, everything.labels.tolist(), strict=True))
    wrong = [
        true[file] != label
        for file, label in zip(game.images.train.files, game.images.train.labels.tolist(), strict=True)
    ]
    assert np.flatnonzero(wrong).tolist() == sorted(game.pool[game.canary]) and game.canary.sum() == 8


def test_near_duplicates_are_left_out_and_too_few_images_are_an_error(monkeypatch):
    whole = images_of("faces", EXPERIMENT)
    twins = torch.cat([whole.train.images[:100]] * 2 + [whole.train.images[200:]])
    twice = Images(whole.name, whole.classes, replace(whole.train, images=twins), whole.unseen, "x", whole.source)
    monkeypatch.setattr(dml.privacy.game, "images_of", lambda *_: twice)
    game = deal.__wrapped__("faces", EXPERIMENT, DRAW, 0)
    assert not set(game.images.train.files) & set(whole.train.files[100:200])
    few = replace(whole, train=replace(whole.train, images=whole.train.images[:1].expand(420, -1, -1, -1)))
    monkeypatch.setattr(dml.privacy.game, "images_of", lambda *_: few)
    with pytest.raises(DataError, match="without near-duplicates; the membership game needs"):
        deal.__wrapped__("faces", EXPERIMENT, DRAW, 0)
    with pytest.raises(DataError, match="game needs 4, two of each of 2 classes: use more images"):
        deal.__wrapped__("faces", replace(EXPERIMENT, rounds=40), DRAW, 0)


# -- views ------------------------------------------------------------------------------------------------------------


def test_a_view_holds_messages_and_public_knowledge_only():
    assert [each.name for each in fields(View)] == ["messages", "known"]


@pytest.mark.parametrize(
    ("name", "senders", "kinds"),
    [
        ("weights", [0, 1, 2, -1], {Weights}),
        ("weights, average", [-1], {Weights}),
        ("weights, average - own", [2, -1], {Weights}),
        ("partial weights", [0, 1, 2], {Weights}),
        ("partial weights, global", [-1], {Weights}),
        ("losses", [0, 1, 2, -1], {Losses, Aggregate}),
        ("sum of predictions", [-1], {Aggregate}),
        ("sum of predictions - own", [2, -1], {Losses, Aggregate}),
    ],
)
def test_an_adversary_sees_its_messages_and_no_other(game, sent, name, senders, kinds):
    seen = view(game, sent, name)
    assert [message.sender for message in seen.messages] == senders
    assert {type(message) for message in seen.messages} == kinds
    if name.startswith("partial"):
        assert all(parameter.startswith("conv") for parameter in seen.messages[0].values)


def test_taking_ones_own_share_out_leaves_the_mean_of_the_others(game, sent):
    server, peer = view(game, sent, "weights"), view(game, sent, "weights, average - own")
    for name, value in peer.weights(VICTIM).items():
        wanted = (server.messages[0].values[name] + server.messages[1].values[name]) / 2
        assert torch.allclose(value, wanted, atol=1e-5)
    server, peer = view(game, sent, "losses"), view(game, sent, "sum of predictions - own")
    wanted = (server.table(0) + server.table(1)) / 2
    assert torch.allclose(peer.table(VICTIM), wanted, atol=1e-4) and not torch.allclose(server.table(0), wanted)


@pytest.mark.parametrize("name", ADVERSARIES)
def test_private_data_that_no_message_depends_on_leave_the_attacks_input_the_same(game, sent, name):
    """Other validation images for every client: nobody trains on them, so nobody may learn of them."""
    blank = game.images.train.images.clone()
    blank[game.held] = 0
    changed = replace(game, images=replace(game.images, train=replace(game.images.train, images=blank)))
    adversary, tap = ADVERSARIES[name], Tap()
    play(adversary.arm, changed.federation(0, tap, CPU), Trained(carry_out), range(EXPERIMENT.clients))
    facts, copier = attacker(game, CPU)
    before, after = (adversary.view(each, facts) for each in (sent[adversary.arm], tap.sent))
    if adversary.arm == "asynchronous":  # its messages carry the accuracy on those images, and the answer depends on it
        assert all(torch.equal(before.weights(0)[key], after.weights(0)[key]) for key in before.weights(0)) == (
            name == "partial weights"
        )
        return
    assert before.encode() == after.encode()
    images, labels = pick(game, game.pool, CPU)
    one, other = (observe(each, copier, images, labels) for each in (before, after))
    assert all(one[key].numpy().tobytes() == other[key].numpy().tobytes() for key in one)


def test_a_secure_sum_hides_who_sent_what(game, sent):
    """Two clients trade places: the sum, and with it the attack's input, is the same bytes."""
    facts, copier = attacker(game, CPU)
    first, second, *rest = sent["dml"]
    traded = [second, first, *rest]
    adversary = ADVERSARIES["sum of predictions"]
    before, after = (adversary.view(each, facts) for each in (sent["dml"], traded))
    assert before.encode() == after.encode()
    assert ADVERSARIES["losses"].view(traded, facts).encode() != ADVERSARIES["losses"].view(sent["dml"], facts).encode()
    images, labels = pick(game, game.pool, CPU)
    assert torch.equal(observe(before, copier, images, labels)["candidates"], copier_of(after, copier, labels))


def copier_of(seen, copier, labels):
    return shadows.log_odds(log_probabilities(copier.logits(seen.table(VICTIM))), labels)


def test_signals_are_the_same_bytes_each_time(game):
    one, two = (shadows.signals(game, range(2), carry_out, defences.MESSAGE, CPU) for _ in range(2))
    assert one.keys() == two.keys() and all(one[k].numpy().tobytes() == two[k].numpy().tobytes() for k in one)
    assert set(report.views(one)) >= {*ADVERSARIES, "losses, hard labels", "weights, noise 0.03"}


def test_a_copy_answers_as_the_model_whose_table_it_saw(game, sent):
    """As a network, and as the closed form that the membership probe uses."""
    facts, copier = attacker(game, CPU)
    seen, (images, labels) = view(game, sent, "losses"), pick(game, game.pool, CPU)
    true = shadows.signals_of(facts.model(view(game, sent, "weights").weights(VICTIM)), facts, images, labels)[
        "candidates"
    ]
    start = shadows.signals_of(facts.model(), facts, images, labels)["candidates"]
    closed = observe(seen, copier, images, labels)["candidates"]
    network = shadows.signals_of(surrogate.tangent_copy(facts, seen.table(VICTIM)), facts, images, labels)["candidates"]
    for copied in (closed, network):
        assert np.corrcoef(copied - start, true - start)[0, 1] > 0.8


# -- what the probes find ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(game):
    """Signals of every victim, overfit: the control in which membership must be found."""
    engine = shadows.overfit(60)
    parts = [shadows.signals(game, range(4 * g, 4 * g + 4), engine, {}, CPU) for g in range(DRAW.groups)]
    return {key: torch.cat([part[key] for part in parts]).numpy() for key in parts[0]}


def rate(found, name, attack, aims=None, columns=slice(None), shift=0):
    scores = report.scored(found, name, aims)[attack]
    return metrics.auc(scores[:, columns], np.roll(found["members"], shift, axis=0)[:, columns])


def test_an_overfit_victim_and_its_canaries_are_found_in_its_weights(found, game):
    assert found["accuracy/members"].mean() > 0.95
    assert rate(found, "weights", "LiRA online").value > 0.65
    assert rate(found, "weights", "LiRA online", columns=game.canary).value > 0.85


def test_an_overfit_victim_is_found_in_its_losses_and_less_so_in_a_sum(found):
    losses, together = (rate(found, name, "LiRA online") for name in ("losses", "sum of predictions"))
    assert losses.low > 0.5 and losses.value > together.value


def test_wrong_models_untrained_models_and_pixels_are_at_chance(found):
    rates, _, differences = report.membership_tables({("overfit", 60): [found]}, DRAW.victims)
    assert set(differences["view"]) == {view for view, _ in report.PAIRS}
    lira = rates[rates["attack"] == "LiRA online"].set_index(["view", "against", "candidates"])
    for name, against in product(("weights", "losses"), ("wrong model", "untrained model")):
        row = lira.loc[(name, against, "all")]
        assert row["low"] < 0.5 < row["high"], (name, against)
    blind = rates[(rates["against"] == "no model") & (rates["candidates"] == "all")].iloc[0]
    assert blind["low"] < 0.5 < blind["high"]


def test_more_noise_never_helps_the_attacker(found):
    rng, areas = np.random.default_rng(0), []
    for scale in (0, 3, 30, 300):
        noise = scale * rng.normal(size=found["losses/public"].shape)
        seen = Signals(
            found["losses/candidates"] + scale * rng.normal(size=found["losses/candidates"].shape),
            found["losses/public"] + noise,
            found["members"],
            found["labels"][0].astype(int),
        )
        scores = membership.scores("LiRA online", seen, found["group"])
        areas.append(metrics.auc(scores, seen.members))
    assert all(later.low <= earlier.high for earlier, later in pairwise(areas))
    assert areas[0].low > 0.5 and areas[-1].low < 0.5 < areas[-1].high


# -- defences ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["noise 1", "4 bits", "hard labels"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_defended_message_is_still_a_valid_one(name, classes):
    rng = np.random.default_rng(0)
    log_p = torch.from_numpy(rng.normal(size=(20, classes)).astype(np.float32)).log_softmax(-1)
    labels = torch.from_numpy(rng.integers(0, classes, 20))
    message = Predictions(round=1, sender=0, probabilities=log_p.exp())
    message = message.losses(labels) if classes == 2 else message
    changed = defences.MESSAGE[name].alter(message, labels, 0, 0)
    changed.check(20, classes)
    assert type(changed) is type(message) and changed.encode() != message.encode()
    again, other = (defences.MESSAGE[name].alter(message, labels, 0, m) for m in (0, 1))
    assert again.encode() == changed.encode() and (other.encode() == changed.encode()) == (name != "noise 1")
    p = changed.log_probabilities(labels).exp()
    if name == "hard labels":
        assert torch.equal(p.argmax(-1), log_p.argmax(-1)) and p.max() == pytest.approx(0.9, abs=1e-5)
    if name == "4 bits" and classes == 2:
        assert (p - log_p.exp()).abs().max() <= 1 / 32 + 1e-5 and len(p[:, 0].mul(32).round().unique()) <= 16


def test_noise_on_weights_has_its_scale(game, sent):
    message = view(game, sent, "weights").messages[0]
    noisy = defences.weight_noise(0.5)(message, None, 0, 0)
    change = noisy.values["dense1.weight"] - message.values["dense1.weight"]
    assert change.std() == pytest.approx(0.5, rel=0.05) and abs(change.mean()) < 0.02
    assert defences.weight_noise(0.5)(view(game, sent, "losses").messages[0], None, 0, 0).encode() == sent["dml"][0]


def test_dp_sgd_bounds_what_one_image_can_do(game):
    """Without noise, gradients are clipped; with a lot of it, the result hardly depends on the images."""
    pytest.importorskip("opacus")
    after = {}
    for multiplier in (0.0, 50.0):
        for m in (0, 1):
            fed = game.federation(m, Tap(), CPU)
            fits = steps.local(fed, 1)[:1]
            fits[0].client.streams = game.federation(0, Tap(), CPU).clients[VICTIM].streams  # the same noise
            defences.dp_sgd(multiplier)(fits)
            after[multiplier, m] = torch.cat([each.flatten() for each in fits[0].client.parameters().values()])
    start = torch.cat([each.flatten() for each in game.initial.values()])
    near = torch.corrcoef(torch.stack((after[50.0, 0] - start, after[50.0, 1] - start)))[0, 1]
    far = torch.corrcoef(torch.stack((after[0.0, 0] - start, after[0.0, 1] - start)))[0, 1]
    assert near > 0.95 and near > far and not torch.equal(after[0.0, 0], start)


def test_the_accountant_knows_the_gaussian_mechanism():
    """One step on the whole batch: epsilon of Gaussian noise by Renyi accounting is within the classical bound."""
    pytest.importorskip("opacus")
    once = replace(EXPERIMENT, epochs=1, batch=32)
    values = [defences.epsilon(sigma, 20, once) for sigma in (2.0, 4.0, 8.0)]
    assert values == sorted(values, reverse=True)
    for sigma, value in zip((2.0, 4.0, 8.0), values, strict=True):
        assert 0 < value < math.sqrt(2 * math.log(1.25 / defences.DELTA)) / sigma * 1.1
    assert defences.epsilon(4.0, 20, replace(once, epochs=10)) > values[1]


def test_without_opacus_its_rows_are_left_out(monkeypatch):
    from dml.privacy import probes

    monkeypatch.setattr(defences, "find_spec", lambda name: None)
    assert [dial[0] for dial in probes.dials(config.Probe())] == ["as trained", "overfit"]
