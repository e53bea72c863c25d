"""Games of several rounds: signals, attacks on updates and near copies, the server that chooses, the record."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load
from sklearn.metrics import roc_auc_score

from dml.arms import messaging
from dml.config import Draw, Experiment
from dml.data.images import images_of
from dml.evidence import game_predictions, games, games_text
from dml.evidence.answers import HELD, REFUTED
from dml.exchange.messages import MessageError
from dml.files import read_table
from dml.losses import log_probabilities, model_loss
from dml.models import VisionNet
from dml.plots.adversaries import by_adversary
from dml.privacy import adversaries, alignment, chosen, joint, shadows, trials
from dml.privacy.game import VICTIM, deal
from dml.privacy.several import Reader, by_round, run
from dml.privacy.views import Tap
from dml.studies import privacy as study
from dml.studies.games import RATES
from dml.studies.plan import block

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")
EXPERIMENT = Experiment(rounds=4, epochs=2, size=18, train_images=520, unseen_images=40, glance=0)
DRAW = Draw(groups=3, victims=1, canaries=4, unseen=20, rounds=2)


@pytest.fixture(scope="module")
def game(own_cache):
    return deal("faces", EXPERIMENT, DRAW, 7)


@pytest.fixture(scope="module")
def played(game):
    """What crossed the wire in both rounds of FedAvg and of DML, for victim 0; and DML's clients before refinement."""
    found, seen = {}, {}

    def watch(fed):
        seen["values"] = {name: value.clone() for name, value in fed.clients[VICTIM].parameters().items()}

    for arm in ("fedavg", "dml"):
        tap = Tap()
        run(arm, game.federation(0, tap, CPU), 2, watch if arm == "dml" else None)
        found[arm] = by_round(tap, CPU)
    return found, seen["values"]


# -- the game ---------------------------------------------------------------------------------------------------------


def test_every_round_has_other_images_and_the_pool_is_trained_on_in_the_first_alone(game):
    fed = game.federation(1, Tap(), CPU)
    first, second, never = (np.concatenate(folds) for folds in fed.folds.private)
    own = set(fed.folds.private[0][VICTIM]) - set(game.held)
    assert own == set(game.pool[game.members[1]]) and not set(game.pool) & set(second)
    assert not (set(first) & set(second)) - set(game.held) and np.array_equal(second, never)
    assert not set(fed.folds.public[0]) & set(fed.folds.public[1])


def test_one_round_is_dealt_as_before_there_were_several():
    """A game of one round has no later folds, and its federation's second round repeats the first."""
    game = deal("faces", EXPERIMENT, replace(DRAW, rounds=1), 7)
    fed = game.federation(0, Tap(), CPU)
    assert game.later.shape == (0, len(game.public)) and game.private.shape[1] == EXPERIMENT.clients - 1
    assert all(np.array_equal(*pair) for pair in zip(*fed.folds.private, strict=True))


# -- updates ----------------------------------------------------------------------------------------------------------


def test_a_step_along_an_image_is_aligned_with_it_and_layers_that_did_not_travel_are_none():
    rng = np.random.default_rng(0)
    model = VisionNet(20, 2, rng)
    images = torch.from_numpy(rng.integers(0, 255, (3, 20, 20, 3), np.uint8))
    labels = torch.tensor([0, 1, 1])
    logits = model(images.permute(0, 3, 1, 2).float() / 255)[1:2]
    loss = model_loss(log_probabilities(logits), labels[1:2]).mean()
    steps = torch.autograd.grad(loss, list(model.parameters()))
    move = {name: -0.1 * step for (name, _), step in zip(model.named_parameters(), steps, strict=True)}
    move = {name: value for name, value in move.items() if not name.startswith("dense2")}
    found = alignment.cosines(model, images, labels, {0: move, 1: {name: -value for name, value in move.items()}})
    assert found.shape == (10, 2, 3) and found[[4, 9]].isnan().all()
    assert torch.allclose(found[:4, 0, 1], torch.ones(4), atol=1e-3)
    assert torch.allclose(found[:4, 1], -found[:4, 0], atol=1e-5)


def test_what_is_read_of_fedavg_is_computed_from_its_messages(game, played):
    """The log-odds of round 2, where it began, and the average less one peer, by hand."""
    reader, (rounds, _) = Reader(game, CPU), played
    found = reader.weights(rounds["fedavg"])

    def odds(values):
        model = reader.known[0].model(values)
        return shadows.log_odds(
            log_probabilities(model(reader.images.permute(0, 3, 1, 2).float() / 255)), reader.labels
        )

    second = rounds["fedavg"][1]
    assert torch.allclose(found["weights/odds"][1, 2], odds(second[2].values), atol=1e-4)
    assert torch.allclose(found["weights/start"][1], odds(rounds["fedavg"][0][-1].values), atol=1e-4)
    left = {name: sum(second[client].values[name] for client in range(4)) / 4 for name in second[0].values}
    assert torch.allclose(found["sum of weights - 1/odds"][1, 0], odds(left), atol=1e-4)
    assert torch.equal(found["weights/copies"][0], found["weights/odds"][0, VICTIM])


# -- the server that chooses ------------------------------------------------------------------------------------------


def test_a_server_that_chooses_reads_from_losses_what_the_weights_tell(game, played):
    """The message that DML itself sends on a public fold of candidates is what FedAvg's upload says of them."""
    rounds, values = played
    fed = game.federation(0, Tap(), CPU)
    fed.clients[VICTIM].load(values)
    fed.folds = replace(fed.folds, public=(game.pool, *fed.folds.public[1:]))
    said = messaging.predictions(fed, fed.clients[VICTIM], 1)
    labels = fed.labels[torch.from_numpy(game.pool)]
    odds = shadows.log_odds(said.log_probabilities(labels), labels)
    weights = Reader(game, CPU).weights(rounds["fedavg"][:1])["weights/odds"][0, VICTIM]
    assert torch.allclose(odds, weights, atol=1e-3)
    asked, _ = chosen.answers(fed, *shadows.pick(game, game.pool, CPU))
    assert torch.equal(asked, weights)


def test_a_fixed_hashed_fold_refuses_a_swapped_image_and_a_swapped_label(game):
    images, labels = shadows.pick(game, game.public, CPU)
    noted = chosen.pledge(images, labels)
    chosen.require(noted, images, labels)
    candidate, other = images.clone(), labels.clone()
    candidate[3] = shadows.pick(game, game.pool[:1], CPU)[0][0]
    other[0] = 1 - other[0]
    for pair in ((candidate, labels), (images, other), (images[1:], labels[1:])):
        with pytest.raises(MessageError, match="an image was changed"):
            chosen.require(noted, *pair)


def test_a_client_knows_its_own_images_and_not_those_of_others(game):
    images, _ = shadows.pick(game, game.pool, CPU)
    own, others = images[:10], images[10:]
    assert chosen.near(own, own).any(1).all() and chosen.near(chosen.COPIES["re-encoded"](own), own).any(1).all()
    assert not chosen.near(others, own).any() and not chosen.near(chosen.COPIES["mirrored"](own), own).any(1).all()


def test_a_client_that_leaves_out_what_it_is_shown_has_not_trained_on_it(game):
    found = trials.signals(game, [0], CPU)
    shown = ~found["left out/odds"][0, 0].isnan()
    members = torch.from_numpy(game.members[0])
    assert shown.sum() == -(-len(members) // trials.SHOWN)
    lost = (shown & members).sum() / members.sum()
    assert found["left out/kept"][0] == pytest.approx(1 - lost.item()) and lost > 0


# -- attacks ----------------------------------------------------------------------------------------------------------


def planted(effect, seed=0, targets=14, candidates=40, signals=6):
    """Signals [M, F, N] that one of F carries, under a level that all signals of a candidate share."""
    rng = np.random.default_rng(seed)
    members = rng.permuted(np.tile(np.arange(candidates) < candidates // 2, (targets, 1)), axis=1)
    level = rng.normal(0, 3, candidates) + rng.normal(0, 1, (targets, 1, candidates))
    values = level + rng.normal(0, 0.3, (targets, signals, candidates))
    values[:, 2] += effect * members
    return values, members


def test_a_planted_leak_is_found_in_a_difference_of_signals_and_nothing_where_there_is_none():
    values, members = planted(0.6)
    joined = roc_auc_score(members.ravel(), joint.leave_one_out(values, members).ravel())
    alone = roc_auc_score(members.ravel(), joint.leave_one_out(values[:, 2:3], members).ravel())
    assert joined > 0.85 and joined > alone + 0.1  # the common level cancels
    values, members = planted(0)
    assert abs(roc_auc_score(members.ravel(), joint.leave_one_out(values, members).ravel()) - 0.5) < 0.08
    values, members = planted(0.6)
    blank = joint.leave_one_out(values, members, planted(0, 1)[0])  # models that saw none of these
    assert abs(roc_auc_score(members.ravel(), blank.ravel()) - 0.5) < 0.08


def test_more_noise_never_helps_the_attacker_beyond_chance():
    areas = []
    for noise in (0, 1, 4, 16):
        values, members = planted(1.0, targets=20)
        noisy = values + noise * np.random.default_rng(1).normal(size=values.shape)
        areas.append(roc_auc_score(members.ravel(), joint.leave_one_out(noisy, members).ravel()))
    assert all(later < earlier + 0.05 for earlier, later in pairwise(areas))
    assert areas[0] > 0.9 and abs(areas[-1] - 0.5) < 0.08


def test_a_victim_stands_out_among_the_others():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 3, 5, 30))
    members = rng.random((8, 30)) < 0.5
    values[:, :, VICTIM] += members[:, None]
    assert roc_auc_score(members.ravel(), joint.stand_out(values).ravel()) > 0.75
    values[:, :, VICTIM] -= members[:, None]
    assert abs(roc_auc_score(members.ravel(), joint.stand_out(values).ravel()) - 0.5) < 0.1


def test_pixels_alone_are_at_chance_when_parts_are_balanced(game):
    """Halves at random: the mean area is 0.5. Parts with more members than others would make it lower."""
    rng, areas = np.random.default_rng(0), []
    for m in range(60):
        members = rng.permuted(np.arange(len(game.pool)) < len(game.pool) // 2)
        scores = shadows.blind(replace(game, members=np.tile(members, (m + 1, 1))), m).numpy()
        areas.append(roc_auc_score(members, scores))
    error = np.std(areas) / np.sqrt(len(areas))
    assert abs(np.mean(areas) - 0.5) < 3 * error


# -- the record -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Two tiny games, as the study keeps them."""
    small = replace(study.plan(), data="faces", experiment=EXPERIMENT, draw=DRAW, games=range(2))
    folder = tmp_path_factory.mktemp("studies")
    sha256 = images_of("faces", EXPERIMENT).sha256
    for seed in small.games:
        (content,) = study.measure("faces", sha256, EXPERIMENT, DRAW, seed, (0, 1, 2), "cpu")
        signals = {name: value.numpy() for name, value in load(content).items()}
        study.add(folder / study.NAME, small, seed, signals, CPU)
    return folder, small


def test_the_plan_is_what_the_code_reads():
    told, planned = block(study.FILE), study.plan()
    assert len(planned.games) >= 8 and len(planned.families["adversaries"]) == 5 and planned.margin == told["margin"]
    views = {view for _, view in games.ADVERSARIES}
    assert {view for asked in planned.families.values() for one in asked for view in (one.view, one.minus)} <= views


def test_scores_on_record_give_the_rates_again(record):
    folder, _ = record
    rates = games.recorded(folder)
    assert set(rates["game"]) == {0, 1}
    scores = read_table(folder / study.NAME / "scores" / "1.csv.gz")
    tried = 0
    for (strength, view, attack), rows in rates[rates["game"] == 1].groupby(["strength", "view", "attack"]):
        ranks = scores[f"{strength}; {view}; {attack}"]
        some = ranks > 0
        area = roc_auc_score(scores.loc[some, "member"], ranks[some])
        assert area == pytest.approx(rows.set_index("metric").loc["auc", "value"], abs=1e-5)
        tried += 1
    assert tried > 100 and {adversaries.ONE, adversaries.SEVERAL, adversaries.CHOOSES} <= set(rates["strength"])


def test_a_played_game_is_not_played_again(record, monkeypatch):
    folder, small = record
    listed = study.jobs_of("faces", EXPERIMENT, replace(DRAW, groups=6), 0, CPU)
    assert [job.args[5] for job in listed] == [(0, 1, 2, 3), (4, 5)]
    before = (folder / study.NAME / "rates.csv.gz").read_bytes()
    monkeypatch.setattr(study, "jobs_of", lambda *_: pytest.fail("played again"))
    study.carry_out((), "cpu", folder, small)
    assert (folder / study.NAME / "rates.csv.gz").read_bytes() == before


def invented(gap=0.1, n=10):
    """Rates of n games in which FedAvg's weights tell `gap` more than anything else."""
    rng, rows = np.random.default_rng(0), []
    for game in range(n):
        for strength, view in games.ADVERSARIES:
            for place, attack in enumerate(("weak", "strong")):
                lift = gap if view == "weights" else 0
                value = 0.55 + 0.02 * place + lift + rng.normal(0, 0.004)
                rows += [(game, strength, view, attack, metric, value) for metric in games.METRICS]
    return pd.DataFrame(rows, columns=RATES)


def test_an_attack_is_chosen_on_other_games():
    rates = invented()
    there = (rates["game"] == 3) & (rates["attack"] == "weak") & (rates["metric"] == "auc")
    rates.loc[there, "value"] = 0.99  # good in one game only
    found = games.chosen(rates, games.SEVERAL, "losses")
    assert found.loc[3, "attack"] == "strong" and (found.drop(3)["attack"] == "weak").all()


def test_answers_follow_the_games_and_the_margin():
    held = games.answers(invented(0.1)).set_index("name")
    assert held.loc["server", "answer"] == HELD and held.loc["server", "mean"] == pytest.approx(0.1, abs=0.01)
    assert held.loc["server, partial", "answer"] == REFUTED  # equal within the margin
    turned = games.answers(invented(-0.1)).set_index("name")
    assert turned.loc["server", "answer"] == REFUTED and turned.loc["losses", "answer"] == REFUTED


def test_the_texts_turn_with_the_games(record, monkeypatch):
    folder, _ = record
    page = games_text.text(folder)
    assert "interim, decides nothing: 2 of 10 games" in page.lower() and "nan" not in page
    assert "a server that puts copies of candidates" in games_text.chooses(folder)
    told = {}
    for gap in (0.1, -0.1):
        monkeypatch.setattr(games, "recorded", lambda *_, gap=gap: invented(gap))
        told[gap] = games_text.chooses(folder)
    assert "less than FedAvg's server" in told[0.1] and "no less than FedAvg's server" in told[-0.1]
    assert "all 10 games" in told[0.1]


@pytest.mark.parametrize(
    ("gap", "n", "word"),
    [(0.1, 10, "held and refuted in part"), (0.0, 10, "refuted"), (0.1, 3, "open"), (-0.1, 10, "refuted")],
)
def test_the_verdict_turns_with_the_games_and_an_interim_one_is_open(monkeypatch, gap, n, word):
    monkeypatch.setattr(games, "recorded", lambda *_: invented(gap, n))
    published, summed, chooses, hidden = games_text.verdict_lines()
    assert published[4] == f"**{word}**" and summed[4] == ("**open**" if n == 3 else "**refuted**")
    found = games.answers(invented(gap, n)).set_index("name").loc["server", "mean"]
    assert f"AUC: server {found:+.3f} [" in published[3] and "; partial weights " in published[3]
    assert all(("interim, decides nothing: 3 of 10 games" in line[3]) == (n == 3) for line in (chooses, hidden))
    assert "AUC: losses " in chooses[3] and "AUC: 1-bit labels " in hidden[3] and "; sums " in hidden[3]


def test_one_round_is_asked_beside_the_plan_and_what_is_zero_by_construction_is_called_so():
    rates = games.recorded()
    asked = games.one_round(rates)
    assert list(asked["asks"]) == list(games.answers(rates)["asks"][: len(asked)]) and len(asked) == 5
    first = games.chosen(rates, games.ONE, "weights")["auc"] - games.chosen(rates, games.ONE, "losses")["auc"]
    assert asked["mean"][0] == pytest.approx(first.mean())
    several, _, chooses, _ = games_text.verdict_lines()
    assert "+0.000 [+0.000, +0.000] refuted (by construction" in chooses[3] and "construction" not in several[3]


def test_predictions_turn_with_the_games():
    rates = invented(0.1).assign(
        attack=lambda table: table["attack"].mask(table["view"] == "client refuses aloud", "refusal, exact")
    )
    rates = rates.drop_duplicates(["game", "strength", "view", "attack", "metric"])
    rates.loc[rates["attack"] == "refusal, exact", "value"] += 0.4 - 0.001 * rates["game"]
    answers = {name: answer for name, (_, answer) in game_predictions.judged(rates).items()}
    assert answers == {"P1": HELD, "P2": "failed", "P3": HELD, "P4": "failed", "P5": HELD, "P6": HELD, "P7": HELD}
    sums = rates["view"] == "sums on chosen images"
    rates.loc[sums, "value"] += 0.05
    rates.loc[rates["view"] == "1-bit labels of chosen images", "value"] -= 0.1
    turned = game_predictions.judged(rates)
    assert (turned["P5"][1], turned["P6"][1]) == ("failed", "failed")
    assert turned["P6"][0].mean == pytest.approx(0.05, abs=0.01)
    assert {answer for _, answer in game_predictions.judged(rates[rates["game"] < 9]).values()} == {"open"}


def test_without_two_games_nothing_is_said(tmp_path):
    assert games_text.text(tmp_path).strip() == games_text.NOTHING and games_text.chooses(tmp_path) == ""
    assert games_text.verdict_lines(tmp_path) == [] and games_text.brief(tmp_path) == ""
    assert "no two games" in games_text.on_record(tmp_path)[0]


def test_the_figure_shows_every_adversary(record):
    drawn = by_adversary(games.recorded(record[0]), "faces, games")
    assert len(drawn.table) == len(games.ADVERSARIES) and "n = 2 games" in drawn.caption


def test_victims_drawn_anew_cover_the_difference(record):
    folder, small = record
    rates, question = games.recorded(folder), small.families["adversaries"][0]
    low, high = games.resampled(rates, question, folder)
    mean = games.answers(rates).set_index("name").loc[question.name, "mean"]
    assert low <= mean <= high


def test_honest_folds_are_seldom_refused():
    told = trials.honest(images_of("faces", EXPERIMENT), EXPERIMENT, 0)
    assert 0 <= told["images"] <= told["rounds"] <= 1
