"""Defences at equal strength: the points, the games, the tables and the figure of data/plan_defences.md."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load
from sklearn.metrics import roc_auc_score

from dml.config import Draw, Experiment
from dml.data.images import images_of
from dml.evidence import defence_predictions, defences, defences_text, games
from dml.evidence.answers import FAILED, HELD, OPEN
from dml.exchange.messages import Losses
from dml.files import read_table
from dml.plots.defences import leak_and_accuracy
from dml.privacy import points
from dml.privacy.adversaries import CHOOSES, ONE
from dml.privacy.game import VICTIM, deal
from dml.privacy.points import Point
from dml.studies import defences as study
from dml.studies.games import RATES

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")
GAME = Experiment(rounds=4, epochs=2, size=18, train_images=520, unseen_images=40, glance=0)
DRAW = Draw(groups=3, victims=1, canaries=4, unseen=20, rounds=2)


@pytest.fixture(scope="module")
def small(own_cache):
    """The plan, on a few drawn faces."""
    protocol = replace(GAME, rounds=2, epochs=1, train_images=130)
    return replace(study.plan(), data="faces", games=range(2), game=GAME, draw=DRAW, protocol=protocol)


@pytest.fixture(scope="module")
def played(small):
    """Two tiny games: the signals of each, and what protocols are worth, in both the same."""
    worth, found = {}, {}
    for point in small.points:
        if point.protocol not in worth:
            (told,) = study.measure_worth(small, images_of("faces", small.protocol).sha256, 0, point, "cpu")
            worth[point.protocol] = json.loads(told)
    for seed in small.games:
        (content,) = study.measure_signals(small, images_of("faces", GAME).sha256, seed, (0, 1, 2), "cpu")
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

    images = images_of("faces", small.protocol)
    fed = Federation(small.protocol, images, 5)
    run("dml", fed)
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


# -- what it says -----------------------------------------------------------------------------------------------------


def invented(leaks, worths=(), n=6):
    """Rates and accuracies of n games: DML's AUC of the server that chooses is 0.65, its accuracy 90 %; of the named
    points both differ by so much.
    """
    rng, rates, worth = np.random.default_rng(0), [], []
    for game in range(n):
        base = rng.normal(0, 0.02, 2)
        for point in study.plan().points:
            for strength, attack in product((ONE, CHOOSES), ("weak", "strong")):
                lift = dict(leaks).get(point.name, 0) + 0.02 * (attack == "strong") + rng.normal(0, 0.003) + base[0]
                row = (game, strength, point.name, attack)
                rates += [(*row, metric, 0.63 + lift) for metric in games.METRICS] + [(*row, "other halves", 0.5)]
            accuracy = 0.9 + dict(worths).get(point.name, 0) + rng.normal(0, 0.002) + base[1]
            worth.append((game, point.name, np.inf if not point.noise else 10.0, 5, 5988, accuracy))
    return pd.DataFrame(rates, columns=RATES), pd.DataFrame(worth, columns=study.WORTH)


def test_answers_follow_the_games():
    rates, worth = invented({"hard labels": -0.1, "noise 4": -0.1, "4 bits": 0.05}, {"noise 4": -0.05})
    table = defences.by_game(rates, worth)
    minus = defences.bargains(table).set_index("point")
    assert list(minus.loc["hard labels", ["leak_answer", "price_answer", "bargain"]]) == ["less", "same", True]
    assert list(minus.loc["noise 4", ["leak_answer", "price_answer", "bargain"]]) == ["less", "less", False]
    assert minus.loc["4 bits", "leak_answer"] == "more" and minus.loc["noise 1", "leak_answer"] == "same"
    rows = defences.points(table, worth)
    assert defences.taken(rows, "hard labels") == pytest.approx(0.1 / 0.15, abs=0.05)
    assert minus.loc["FedAvg, DP-SGD 1", "arm"] == "fedavg" and len(minus) == 10


def test_predictions_turn_with_the_games():
    """The leak of DML is 0.15 here: what each point must lose or keep of it, and of its accuracy."""
    as_planned = {"hard labels": -0.1, "4 bits": -0.01, "noise 4": -0.05, "ideal secure sum": -0.1, "DP-SGD 0.3": -0.12}
    as_planned |= {"DP-SGD 1": -0.15, "every 2nd round": -0.05}
    costs = {"FedAvg, DP-SGD 1": -0.05}

    def answers(leaks, prices=costs, n=6):
        rates, worth = invented(leaks, prices, n)
        honest = (rates["strength"] == ONE) & (rates["view"] == "noise 4")
        rates.loc[honest & rates["metric"].isin(games.METRICS), "value"] = 0.495 + 0.002 * rates["game"]
        flat = (rates["view"] == "DP-SGD 1") & rates["metric"].isin(games.METRICS)
        rates.loc[flat, "value"] -= rates.loc[flat, "value"] - 0.5 + 0.001 * rates.loc[flat, "game"]
        return defence_predictions.judged(defences.by_game(rates, worth))

    assert set(answers(as_planned).values()) == {HELD}
    assert set(answers(as_planned, n=5).values()) == {OPEN}
    for name, changed in {
        "P1": {"hard labels": -0.01, "DP-SGD 0.3": -0.12},
        "P2": {"4 bits": -0.1},
        "P4": {"ideal secure sum": 0.0},
        "P5": {"DP-SGD 0.3": 0.0},
        "P7": {"every 2nd round": 0.1},
    }.items():
        assert {each for each, answer in answers(as_planned | changed).items() if answer == FAILED} == {name}
    assert answers(as_planned, {**costs, "hard labels": -0.03})["P1"] == FAILED
    assert answers(as_planned, {"DP-SGD 1": -0.05})["P6"] == FAILED
    assert answers(as_planned | {"noise 4": -0.2})["P3"] == FAILED


def test_the_texts_turn_with_the_games(folder, monkeypatch):
    assert "interim, decides nothing: 2 of 6 games" in defences_text.text(folder).lower()
    told = {}
    for leak in (-0.1, 0.0):
        monkeypatch.setattr(defences, "recorded", lambda *_, leak=leak: invented({"hard labels": leak}))
        told[leak] = "\n".join(defences_text.on_record(folder))
    assert "accurate within a point, or more: hard labels." in told[-0.1] and "none is shown to be" in told[0.0]
    assert "all 6 games" in told[0.0] and "nan" not in told[0.0]


def test_without_two_games_nothing_is_said(tmp_path):
    assert defences_text.text(tmp_path).strip() == defences_text.NOTHING
    assert "no two games" in defences_text.on_record(tmp_path)[0]


def test_every_point_of_the_figure_has_the_same_n_and_the_caption_counts_it(folder):
    drawn = leak_and_accuracy(*defences.recorded(folder), "faces, games")
    assert len(drawn.table) == 12 and set(drawn.table["n"]) == {2} and "n = 2 games at every point" in drawn.caption
    rates, worth = invented({})
    assert "n = 6 games at every point" in leak_and_accuracy(rates, worth, "faces, games").caption
    few = (rates["view"] == "noise 1") & (rates["game"] > 2), (worth["point"] == "noise 1") & (worth["game"] > 2)
    unequal = leak_and_accuracy(rates[~few[0]], worth[~few[1]], "faces, games").caption
    assert "n = 3 or 6 games" in unequal


# -- controls ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leaky(own_cache):
    """A game whose victims train for far too long: the leak is planted. Ten victims at three points."""
    draw = replace(DRAW, groups=10, rounds=1)
    game = deal("faces", replace(GAME, epochs=40), draw, 3)
    told = [Point("DML"), *(Point(name, message=name) for name in ("noise 1", "noise 4"))]
    signals = {name: value.numpy() for name, value in points.signals(game, range(10), told, CPU).items()}
    labels = {1: game.images.train.labels[game.public].numpy()}
    return signals, list(points.attacks(signals, told, labels))


def best(scored, strength, point, members):
    """The area of the best attack of an adversary."""
    rows = [one.scores for one in scored if (one.strength, one.view) == (strength, point)]
    return max(roc_auc_score(members.ravel(), scores.ravel()) for scores in rows)


def test_a_planted_leak_is_found_and_more_noise_does_not_help(leaky):
    signals, scored = leaky
    members = signals["members"]
    plain, little, much = (best(scored, CHOOSES, name, members) for name in ("DML", "noise 1", "noise 4"))
    error = np.sqrt(2 / 12 / members.sum())  # of an area near a half, of so many members and others
    assert plain > 0.75 and little < plain + 2 * error and much < little + 2 * error and much < plain - 0.05


def test_a_model_that_saw_none_of_the_images_is_at_chance(leaky):
    signals, scored = leaky
    other = np.random.default_rng(1).permuted(signals["members"], axis=1)
    areas = [roc_auc_score(other.ravel(), one.scores.ravel()) for one in scored]
    assert abs(np.mean(areas) - 0.5) < 0.05
