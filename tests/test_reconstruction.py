"""The study of data/plan_reconstruction.md: one criterion, by victim, beside images never trained on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load, load_file

from dml.config import Draw, Experiment
from dml.data.images import images_of
from dml.evidence import reconstruction
from dml.evidence.privacy import SSIM, clearly
from dml.files import read_table
from dml.plots import leaks
from dml.privacy import reconstruction as attacks
from dml.studies import reconstruction as study

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")
SMALL = Experiment(rounds=4, epochs=2, size=18, train_images=520, unseen_images=40, glance=0)


@pytest.fixture(scope="module")
def small(own_cache):
    """The plan, for two victims of a few drawn faces and two iterations."""
    draw = Draw(groups=1, victims=1, canaries=0, unseen=20)
    return replace(study.plan(), victims={"faces": range(2)}, experiments={"faces": SMALL}, draw=draw, iterations=2)


@pytest.fixture(scope="module")
def attacked(small):
    """What was recovered of both."""
    sha256 = images_of("faces", SMALL).sha256
    return [load(study.measure(small, "faces", sha256, seed, "cpu")[0]) for seed in (0, 1)]


@pytest.fixture(scope="module")
def folder(small, attacked, tmp_path_factory):
    """Both victims as the study keeps them."""
    to = tmp_path_factory.mktemp("studies")
    for seed, found in enumerate(attacked):
        study.add(to / study.NAME, small, "faces", seed, found, CPU)
    return to


def test_the_plan_is_what_the_code_reads():
    told = study.plan()
    assert len(told.victims["facemask"]) == 16 and told.margin == 0.05 and told.draw.victims == told.draw.groups == 1
    assert {experiment.size for experiment in told.experiments.values()} == {40}


def test_every_picture_is_on_record_against_its_own_images_and_against_others(folder, small, attacked):
    table = read_table(folder / study.NAME / "pictures.csv.gz")
    assert set(table["attack"]) == set(attacks.ATTACKS) and set(table["seed"]) == {0, 1}
    counts = table.groupby(["seed", "attack", "against"]).size().unstack()
    assert (counts["own"] == counts["others"]).all() and len(counts) == 24
    own = table[(table["against"] == "own") & (table["seed"] == 1) & (table["attack"] == "round's update")]
    scores = attacked[1]["round's update/scores"]
    assert len(own) == len(scores) > 4 and np.allclose(own[list(attacks.MEASURES)], scores, atol=1e-4)


def test_the_control_judges_by_images_that_were_not_trained_on(small):
    """A picture that is one of them comes back in the control."""
    from dml.privacy.game import deal
    from dml.privacy.shadows import pick

    game = deal("faces", SMALL, small.draw, 0)
    stranger = pick(game, game.pool[~game.members[0]][:1], CPU)[0].permute(0, 3, 1, 2)
    found = {f"{name}/recovered": stranger ^ 1 for name in attacks.ATTACKS}  # a level off: no infinite likeness
    scores = attacks.others(game, 0, found, CPU)
    for name in attacks.ATTACKS:
        likeness, *_, structure, _ = scores[f"{name}/scores"][0]
        assert likeness > 45 and structure > 0.99


def test_of_drawn_faces_the_first_and_the_best_picture_are_kept(folder, attacked):
    kept = load_file(folder / study.NAME / study.PICTURES)
    for seed, found in enumerate(attacked):
        for attack in attacks.ATTACKS:
            gain = found[f"{attack}/scores"][:, 0] - found[f"{attack}/scores"][:, 1]
            for image in {0, int(gain.round(decimals=4).argmax())}:
                assert torch.equal(kept[f"{seed}/{attack}/recovered/{image}"], found[f"{attack}/recovered"][image])
    assert len(kept) <= 2 * 12 * 2 * 2


def test_no_picture_of_a_photograph_is_kept(tmp_path, small, attacked):
    people = replace(small, victims={"facemask": range(1)}, experiments={"facemask": SMALL})
    study.add(tmp_path, people, "facemask", 0, attacked[0], CPU)
    assert not list(tmp_path.rglob("*.safetensors")) and (tmp_path / "pictures.csv.gz").is_file()


# -- what it says -----------------------------------------------------------------------------------------------------


def invented(own, others, n=16):
    """Rows of n victims with ten pictures an attack, of which so many are recovered among its own and others."""
    rows = []
    for seed in range(n):
        for attack, view in attacks.ATTACKS.items():
            for against, count in (("own", own.get(attack, 0)), ("others", others.get(attack, 0))):
                for image in range(10):
                    good = image < count + (seed % 2 if count else 0)
                    scores = (12.0, 10, 10, 0.5, 0.4) if good else (12.0, 10, 10, 0.41, 0.4)
                    rows.append(("facemask", seed, attack, view, against, image, *scores))
    table = pd.DataFrame(rows, columns=[*study.KEYS, *attacks.MEASURES])
    nearer = table["psnr"] > 10
    return table.assign(nearer=nearer, recovered=clearly(table.assign(recovered=nearer)))


def test_a_picture_counts_by_both_measures_and_beside_what_was_never_trained_on():
    both = {"paired logits": 3}
    found = reconstruction.attacks(invented({**both, "round's update": 4}, both)).set_index("attack")
    assert found.loc["round's update", "answer"] == reconstruction.RECOVERED
    assert found.loc["paired logits", "answer"] == reconstruction.OPEN  # as many of images it never saw
    none = found.loc["round's update, convolutions"]
    assert none["answer"] == reconstruction.NONE and (none["nearer"], none["recovered"]) == (160, 0)
    assert (none["victims_low"], none["victims_high"]) == pytest.approx((0, 0.2059), abs=1e-3)  # exact, of 16


def test_the_margin_of_the_plan_is_that_of_every_other_page():
    assert study.plan().margin == SSIM


def test_the_texts_turn_with_the_victims(folder, monkeypatch):
    for count, word in ((0, reconstruction.NONE), (5, reconstruction.RECOVERED)):
        rows = invented({"round's update": count}, {})
        monkeypatch.setattr(reconstruction, "recorded", lambda *_, rows=rows, **__: rows)
        told = "\n".join(reconstruction.on_record(folder))
        first = f"- round's update (weights): recovers {'0' if not count else '88'} of 160 private images; "
        assert f"{first}of images never trained on, the control, 0; victims" in told
        ((claim, _, _, cell, answer, _),) = reconstruction.verdict_lines(folder)
        assert "model inversion" in claim and answer == ("**held**" if count else "**open**")
        assert ("recovered: round's update 0" in cell) == ("at most 0 of 16 [0, 21] %" in cell) == (count == 0)
        assert f"**{word}**" in told and "all 16 victims" in told and "nan" not in told
        assert "All 16 victims" in reconstruction.text(folder) and "nan" not in reconstruction.text(folder)


def test_without_two_victims_nothing_is_said(folder, tmp_path):
    assert reconstruction.recorded(folder=folder) is None  # drawn faces are no photographs
    assert reconstruction.text(tmp_path).strip() == reconstruction.NOTHING
    assert "no two victims" in reconstruction.on_record(tmp_path)[0] and reconstruction.drawn(tmp_path) is None


def test_the_figure_of_drawn_faces_counts_what_it_is_about(folder):
    pictures, rows = reconstruction.drawn(folder)
    drawn = leaks.reconstruction(pictures, rows, "drawn faces, a test")
    assert f"Of {len(rows)} images" in drawn.caption and "n = 2 victims an attack" in drawn.caption
    assert len(drawn.table) == len(rows) and set(rows["attack"]) == set(reconstruction.SHOWN)
