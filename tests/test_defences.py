"""Defences at equal strength: the points, the games, the tables and the figure of data/plan_defences.md."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load
from sklearn.metrics import roc_auc_score

from dml.config import Draw, Experiment
from dml.data.images import images_of
from dml.exchange.messages import Losses
from dml.files import read_table
from dml.privacy import points
from dml.privacy.game import VICTIM, deal
from dml.privacy.points import Point
from dml.studies import defences as study

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")
GAME = Experiment(rounds=4, epochs=2, size=18, train_images=520, unseen_images=40, glance=0)
DRAW = Draw(groups=3, victims=1, canaries=4, unseen=20, rounds=2)


@pytest.fixture(scope="module")
def small(own_cache):
    """The plan, on a few drawn faces."""
    protocol = replace(GAME, rounds=2)
    return replace(study.plan(), data="faces", games=range(2), game=GAME, draw=DRAW, protocol=protocol)


@pytest.fixture(scope="module")
def played(small):
    """Two tiny games: the signals of each, and what its protocols are worth."""
    sha256 = images_of("faces", GAME).sha256
    found = {}
    for seed in small.games:
        (content,) = study.measure_signals(small, sha256, seed, (0, 1, 2), "cpu")
        worth = {}
        for point in small.points:
            if point.protocol not in worth:
                (told,) = study.measure_worth(small, sha256, seed, point, "cpu")
                worth[point.protocol] = json.loads(told)
        found[seed] = {name: value.numpy() for name, value in load(content).items()}, worth
    return found


@pytest.fixture(scope="module")
def folder(small, played, tmp_path_factory):
    """The two games as the study keeps them."""
    to = tmp_path_factory.mktemp("studies")
    for seed, (signals, worth) in played.items():
        study.add(to / study.NAME, small, seed, signals, worth, CPU)
    return to


# -- one victim -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(small):
    """Victim 0 of a game: what its attacker prepared, and what it holds at every point."""
    game = deal("faces", GAME, DRAW, 7)
    return points.attacker(game, CPU), points.signals(game, [0], small.points, CPU)


def test_the_plan_is_what_the_code_reads():
    told = study.plan()
    names = [point.name for point in told.points]
    assert len(told.games) == 6 and told.margin == 0.01 and names[0] == "DML" and len(set(names)) == 12
    assert told.protocol.rounds == 4 and told.protocol.unseen_images == 0  # all there are
    assert told.draw.groups == 12 and told.draw.victims == 1


def test_without_a_defence_it_is_what_the_games_of_the_other_plan_read(heard):
    """FedAvg's and DML's messages of one round, by the reader of plan_privacy.md."""
    from dml.privacy.several import Reader, by_round, run
    from dml.privacy.views import Tap

    prepared, found = heard
    reader = Reader(prepared.game, CPU)
    for arm, read, view, name in (
        ("fedavg", reader.weights, "weights", "FedAvg"),
        ("dml", reader.predictions, "losses", "DML"),
        ("dml", reader.predictions, "sum of predictions", "ideal secure sum"),
    ):
        tap = Tap()
        run(arm, prepared.game.federation(0, tap, CPU), 2, None)
        told = read(by_round(tap, CPU))
        victim = VICTIM if told[f"{view}/odds"].shape[1] > 1 else 0
        assert torch.allclose(found[f"{name}/candidates"][0], told[f"{view}/odds"][0, victim], atol=1e-4), name
        assert torch.allclose(found[f"{name}/public"][0], told[f"{view}/public"][0], atol=1e-4), name


def test_a_server_that_chooses_reads_from_losses_what_the_weights_tell(heard):
    _, found = heard
    assert torch.allclose(found["DML/asked"], found["FedAvg/asked"], atol=1e-3)
    assert torch.allclose(found["FedAvg/asked"][0, 0], found["FedAvg/candidates"][0], atol=1e-4)
    assert torch.allclose(found["DP-SGD 1/asked"], found["FedAvg, DP-SGD 1/asked"], atol=1e-3)


def test_each_defence_leaves_of_the_answers_what_it_says(heard):
    _, found = heard
    plain, bits, coarse = (found[f"{name}/asked"] for name in ("DML", "hard labels", "4 bits"))
    assert len(bits.round(decimals=4).unique()) <= 2 and torch.equal(bits > 0, plain > 0)
    assert len(coarse.round(decimals=4).unique()) <= 16 and (coarse.sigmoid() - plain.sigmoid()).abs().max() < 0.04
    ratio = (found["noise 4/asked"] - plain).std() / (found["noise 1/asked"] - plain).std()
    assert ratio == pytest.approx(4, rel=0.05)
    assert not torch.allclose(found["DP-SGD 0.03/asked"], plain, atol=1e-2)


def test_of_a_silent_round_only_the_next_message_tells(heard):
    """The image was trained on in round 1, the message is of round 2, after a refinement without peers."""
    prepared, found = heard
    silent = Point("silent", every=2)
    assert silent.protocol == ("dml", "", 0, 2) and silent.begin is not None
    table = found["every 2nd round/public"]
    assert table.shape[1] == len(prepared.game.later[0]) and not torch.allclose(
        found["every 2nd round/asked"], found["DML/asked"], atol=1e-3
    )


def test_the_noise_of_a_message_is_drawn_anew_for_every_round_and_client():
    alter, labels = Point("noisy", message="noise 1").alter, torch.zeros(50, dtype=torch.long)
    said = [Losses(round=1, sender=sender, losses=torch.full((50,), 0.7)) for sender in (0, 0, 1)]
    first, later, other = (alter(message, labels, 3, now).losses for message, now in zip(said, (1, 2, 1), strict=True))
    again = alter(said[0], labels, 3, 1).losses
    assert torch.equal(first, again) and not torch.equal(first, later) and not torch.equal(first, other)


# -- what protocols are worth -----------------------------------------------------------------------------------------


def test_a_protocol_without_a_defence_is_the_arm_of_the_experiment(small):
    from dml.arms.catalogue import run
    from dml.arms.federation import Federation

    images = images_of("faces", GAME)
    fed = Federation(small.protocol, images, 5)
    run("dml", [fed])
    usual = np.mean([row.value for row in fed.rows if row.metric == "unseen accuracy"])
    plain = points.worth(images, small.protocol, 5, Point("DML"), CPU)
    assert plain == pytest.approx(usual) == points.worth(images, small.protocol, 5, Point("sum", view=points.SUM), CPU)


def test_points_that_differ_in_who_sees_what_share_a_protocol(small, played):
    names = {point.name: point.protocol for point in small.points}
    assert names["DML"] == names["ideal secure sum"] != names["FedAvg"]
    assert len(set(names.values())) == 11 == len(played[0][1]) == len(study.worth_jobs(small, 0, CPU))
    listed = study.signal_jobs(replace(small, draw=replace(DRAW, groups=6)), 0, CPU)
    assert [job.args[3] for job in listed] == [(0, 1, 2, 3), (4, 5)]


# -- the record -------------------------------------------------------------------------------------------------------


def test_every_point_is_attacked_with_the_same_strength(folder):
    rates = read_table(folder / study.NAME / "rates.csv.gz")
    costs = read_table(folder / study.NAME / "costs.csv")
    assert list(costs["game"]) == [0, 1] and set(costs["victims"]) == {3} and set(costs["shadows"]) == {2}
    by_point = rates.groupby(["view", "strength"])["attack"].agg(lambda attacks: tuple(sorted(set(attacks))))
    assert len(by_point) == 24 and by_point.groupby("strength").nunique().eq(1).all()
    assert rates.groupby("view").size().nunique() == 1 and rates["value"].notna().all()


def test_scores_on_record_give_the_rates_again(folder):
    rates = read_table(folder / study.NAME / "rates.csv.gz")
    scores = read_table(folder / study.NAME / "scores" / "1.csv.gz")
    for (strength, view, attack), rows in rates[rates["game"] == 1].groupby(["strength", "view", "attack"]):
        area = roc_auc_score(scores["member"], scores[f"{strength}; {view}; {attack}"])
        assert area == pytest.approx(rows.set_index("metric").loc["auc", "value"], abs=1e-5)


def test_accuracy_is_of_all_unseen_images_and_epsilon_of_dp_sgd_alone(folder):
    worth = read_table(folder / study.NAME / "worth.csv").set_index(["game", "point"])
    assert set(worth["unseen"]) == {40} and worth["accuracy"].between(0, 1).all()
    assert worth.loc[(0, "DML"), "accuracy"] == worth.loc[(0, "ideal secure sum"), "accuracy"]
    finite = worth.index[np.isfinite(worth["epsilon"])].get_level_values("point")
    assert set(finite) == {"DP-SGD 0.03", "DP-SGD 0.3", "DP-SGD 1", "FedAvg, DP-SGD 1"}
    low, middle, high = (worth.loc[(0, f"DP-SGD {noise}"), "epsilon"] for noise in ("1", "0.3", "0.03"))
    assert low < middle < high


def test_a_played_game_is_not_played_again(folder, small, monkeypatch):
    monkeypatch.setattr(study, "signal_jobs", lambda *_: pytest.fail("played again"))
    before = (folder / study.NAME / "rates.csv.gz").read_bytes()
    study.carry_out((), "cpu", folder, small)
    assert (folder / study.NAME / "rates.csv.gz").read_bytes() == before
