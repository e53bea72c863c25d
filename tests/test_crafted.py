"""The server that crafts its answer: tables, signals, attacks, the record of data/plan_crafted.md."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dml.arms import steps
from dml.config import CLIP, Draw, Experiment
from dml.evidence import crafted as text
from dml.evidence import games
from dml.evidence.answers import FAILED, HELD, OPEN
from dml.exchange.messages import FLOOR
from dml.files import read_table
from dml.losses import model_loss, peer_loss
from dml.privacy import chosen, crafted
from dml.privacy.game import VICTIM, deal
from dml.privacy.shadows import pick
from dml.privacy.views import Tap
from dml.studies import crafted as study
from dml.studies import privacy
from dml.studies.games import RATES
from dml.training.memory import carry_out

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")
EXPERIMENT = Experiment(rounds=4, epochs=2, size=18, train_images=520, unseen_images=40, glance=0)
DRAW = Draw(groups=3, victims=1, canaries=4, unseen=20, rounds=2)
LABELS = torch.tensor([0, 1, 2, 2])


@pytest.fixture(scope="module")
def game(own_cache):
    return deal("faces", EXPERIMENT, DRAW, 7)


@pytest.fixture(scope="module")
def played(game):
    """The signals of two victims, and the fits that made them."""
    fits = []

    def watch(asked):
        fits.extend(asked)
        return carry_out(asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crafted, "carry_out", watch)
        return crafted.signals(game, range(2), CPU), fits


@pytest.fixture(scope="module")
def found(played):
    return played[0]


# -- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", (2, 3))
def test_every_table_is_a_distribution_and_says_what_its_name_says(classes):
    labels = LABELS % classes
    peers = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(classes), 4)).log()
    made = crafted.tables(peers, labels)
    assert all(torch.allclose(table.exp().sum(-1), torch.ones(4, dtype=table.dtype)) for table in made.values())
    assert torch.equal(made["honest"], peers)
    for name, clip in (("wrong", FLOOR), ("wrong, clipped", CLIP)):
        assert torch.equal(made[name].argmax(-1), (labels + 1) % classes)
        assert made[name].exp().max(-1).values.numpy() == pytest.approx(1 - clip, abs=1e-6)
        assert model_loss(made[name], labels).numpy() == pytest.approx(-np.log(clip / (classes - 1)), rel=1e-3)
    assert model_loss(made["flat"], labels).numpy() == pytest.approx(np.log(classes), rel=1e-6)


def test_a_flat_table_has_its_free_optimum_nearer_to_a_coin_than_the_labels_alone():
    """With labels and a flat table p solves logit p = 1 / p, 0.78; with labels alone it is 1."""
    table = torch.full((1, 2), 0.5).log()
    grid = torch.linspace(0.01, 0.99, 99)
    log_p = torch.stack([1 - grid, grid], dim=-1).log()
    loss = peer_loss("student-first", log_p, table.expand(99, 2)) - log_p[:, 1]
    assert grid[loss.argmin()].item() == pytest.approx(0.78, abs=0.011)


# -- signals ----------------------------------------------------------------------------------------------------------


def test_the_first_look_is_what_a_server_that_chooses_reads(game, found):
    fed = game.federation(1, Tap(), CPU)
    carry_out(steps.local(fed, 1))
    own, _ = chosen.answers(fed, *pick(game, game.pool, CPU))
    assert torch.equal(found["first"][1], own)
    assert found["loss/own"][1] == pytest.approx(torch.nn.functional.softplus(-own).mean().item(), rel=1e-4)


def test_a_wrong_table_is_seen_on_the_labels_and_drives_the_victim_off_them(found):
    assert (found["loss/wrong"] > 16).all() and (found["loss/flat"] < 0.7).all()
    assert (found["loss/honest"] < found["loss/wrong, clipped"]).all()
    for kind in crafted.IMAGES:
        honest, wrong = (found[f"{name}, {kind} images"] for name in ("honest", "wrong"))
        assert wrong.mean() < honest.mean()


def test_the_second_round_trains_on_the_images_of_its_name(game, played):
    """Fresh images are those of the second fold, kept ones the victim's own of the first."""
    local = [fit for fit in played[1] if fit.phase == "local"][: EXPERIMENT.clients + 8]  # of the first victim
    first, second = local[: EXPERIMENT.clients], local[EXPERIMENT.clients :]
    assert [fit.round for fit in second] == [2] * 8
    fed = game.federation(0, Tap(), CPU)
    fresh, own = (fed.train[torch.from_numpy(fed.folds.private[at][VICTIM])] for at in (1, 0))
    for fit, source in zip(second, (fresh, own) * 4, strict=True):
        assert torch.equal(fit.images, source[: len(fit.images)])
    assert torch.equal(second[1].images, first[VICTIM].images)
    assert not torch.equal(second[0].images, second[1].images[: len(second[0].images)])


def test_every_victim_is_the_same_whoever_else_is_in_its_job(game, found):
    alone = crafted.signals(game, [1], CPU)
    assert all(torch.equal(alone[name][0], found[name][1]) for name in found)


# -- attacks ----------------------------------------------------------------------------------------------------------


def test_what_is_planted_at_the_second_look_is_found_there_and_nowhere_else():
    rng = np.random.default_rng(0)
    members = rng.permuted(np.tile(np.arange(40) < 20, (12, 1)), axis=1)
    game = {"members": members, "first": rng.normal(size=(12, 40))}
    game |= {view: rng.normal(size=(12, 40)) for view in crafted.views()}
    game["wrong, kept images"] = game["first"] + 0.2 * rng.normal(size=(12, 40)) + 0.5 * members
    areas = {one[1:3]: roc_auc_score(members.ravel(), one.scores.ravel()) for one in crafted.attacks(game)}
    both = {view: area for (view, attack), area in areas.items() if attack == "likelihood ratio, both looks"}
    assert both.pop("wrong, kept images") > 0.9 and all(abs(area - 0.5) < 0.1 for area in both.values())
    assert {attack for view, attack in areas if view == crafted.ONE_LOOK} == {
        f"{name}, first look" for name in ("loss threshold", "LiRA offline", "LiRA online")
    }


# -- the record -------------------------------------------------------------------------------------------------------


def test_the_plan_names_views_that_there_are_and_the_games_of_the_other_plan():
    here, other = study.plan(), privacy.plan()
    asked = {name for family in here.families.values() for one in family for name in (one.view, one.minus)}
    assert asked == {crafted.ONE_LOOK, *crafted.views()}
    assert list(crafted.views()) == [f"{name}, {kind} images" for name in text.TABLES for kind in text.IMAGES]
    assert (here.games, here.draw, here.experiment, here.margin) == (
        other.games,
        other.draw,
        other.experiment,
        other.margin,
    )


def test_a_game_is_added_once_with_its_scores_and_checks(tmp_path):
    here = replace(study.plan(), data="faces", experiment=EXPERIMENT, draw=DRAW, games=range(4, 5))
    folder = study.carry_out([4], "cpu", tmp_path, here)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert study.carry_out([4], "cpu", tmp_path, here) == folder
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    rates, costs = read_table(folder / "rates.csv.gz"), read_table(folder / "costs.csv")
    assert set(rates["view"]) == {crafted.ONE_LOOK, *crafted.views()} and rates["value"].notna().all()
    assert costs["victims"].tolist() == [3] and costs["shadows"].tolist() == [2]
    checks = read_table(folder / "checks.csv").set_index("check")["value"]
    assert checks["loss/wrong"] == pytest.approx(-np.log(FLOOR), rel=1e-3)
    assert all(0 <= checks[name] <= 1 for name in checks.index if name.startswith("accuracy/"))
    scores = read_table(folder / "scores" / "4.csv.gz")
    assert len(scores) == 3 * scores["candidate"].nunique()


# -- what is said of it -----------------------------------------------------------------------------------------------


def invented(to, wrong_kept=0.2, again_kept=0.05, lost=0.3, n=10):
    """Tables of n games in which a wrong table finds so much more than an honest one where images are kept, a second
    look so much more than one, and the wrong table costs the victim so much accuracy. Returns the folder of studies.
    """
    rng, rates, told = np.random.default_rng(0), [], []
    lift = {"honest, kept images": again_kept, "wrong, kept images": again_kept + wrong_kept}
    lift["wrong, clipped, kept images"] = lift["wrong, kept images"]
    for game in range(200, 200 + n):
        for view in (crafted.ONE_LOOK, *crafted.views()):
            for metric in ("auc", "tpr", "canaries"):
                value = 0.6 + lift.get(view, 0) + rng.normal(0, 0.001)
                rates.append((game, crafted.CRAFTS, view, "LiRA offline, first look", metric, value))
        for view in crafted.views():
            value = 0.9 - (lost if view.startswith("wrong, fresh") else 0) + rng.normal(0, 0.001)
            told.append((game, f"accuracy/{view}", value))
        losses = {"own": 0.2, "honest": 0.3, "wrong": 16.1, "wrong, clipped": 3.9, "flat": 0.7}
        told += [(game, f"loss/{name}", value) for name, value in losses.items()]
    folder = to / study.NAME
    folder.mkdir(parents=True)
    pd.DataFrame(rates, columns=RATES).to_csv(folder / "rates.csv.gz", index=False)
    pd.DataFrame(told, columns=privacy.CHECKS).to_csv(folder / "checks.csv", index=False)
    costs = pd.DataFrame({"game": range(200, 200 + n), "victims": 12, "shadows": 11, "cpu_s": 100.0})
    costs.to_csv(folder / "costs.csv", index=False)
    return to


@pytest.mark.parametrize(
    ("facts", "failed"),
    [
        ({}, set()),
        ({"wrong_kept": 0.0}, {"P2", "P3"}),
        ({"wrong_kept": -0.1}, {"P2", "P3"}),
        ({"again_kept": 0.0}, {"P4"}),
        ({"lost": 0.02}, {"P6"}),
    ],
)
def test_predictions_turn_with_the_games(tmp_path, facts, failed):
    folder = invented(tmp_path, **facts)
    rates = games.recorded(folder, study.NAME)
    found = text.judged(rates, folder)
    assert {name for name, (_, answer) in found.items() if answer == FAILED} == failed
    assert {answer for name, (_, answer) in found.items() if name not in failed} == {HELD}
    assert f"{100 * facts.get('lost', 0.3):.0f}"[:1] in found["P6"][0]


def test_a_game_that_is_missing_leaves_all_open_and_is_named(tmp_path):
    folder = invented(tmp_path, n=9)
    rates = games.recorded(folder, study.NAME)
    assert {answer for _, answer in text.judged(rates, folder).values()} == {OPEN}
    assert "interim, decides nothing: 9 of 10 games" in text.on_record(folder)


def test_the_page_has_a_row_a_table_and_the_paragraph_its_numbers(tmp_path):
    folder = invented(tmp_path)
    page, told = "\n".join(text.lines(folder)), text.on_record(folder)
    rows = {line.split(" | ")[0]: line for line in page.splitlines() if line.startswith("| ")}
    assert "| wrong" in rows and "16.10" in rows["| wrong"] and "0.850" in rows["| wrong"] and "60.0" in rows["| wrong"]
    assert "nan" not in page and "0.850" in told and "0.650" in told and "**held**" in told
    assert "20 CPU minutes" not in page and "0.3 CPU hours" in page
    (tmp_path / study.NAME / "rates.csv.gz").unlink()
    assert text.on_record(folder) == text.NOTHING == "\n".join(text.lines(folder))
