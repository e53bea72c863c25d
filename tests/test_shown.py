"""The small tables that notebooks show: the lie by hand, what rules bear, sources, what is computed elsewhere."""

import math

import pandas as pd
import pytest
import torch

from dml.evidence import scaling
from dml.exchange.messages import Losses
from dml.hostile import arms, rules
from dml.hostile.attacks import PREDICTIONS, WEIGHTS
from dml.pipeline import crowded, lies, shown


def ends_at(mean):
    """The probability of the label at which cross-entropy plus the student-first term is least, found by search."""
    p = torch.linspace(1e-4, 1 - 1e-4, 200_001, dtype=torch.float64)
    loss = -p.log() + p * p.log() + (1 - p) * (1 - p).log() - p * mean
    return p[loss.argmin()].item()


def test_one_lie_flips_an_image_as_published_and_not_with_the_clip():
    table = lies.one_lie(margin=2)
    assert table.index.to_list() == ["1e-07", "0.02"]
    assert table["peers' mean margin"].to_numpy() == pytest.approx([-2.53, 0.52], abs=0.005)
    for row in table.itertuples():
        p = ends_at(row[1])
        assert math.log(p / (1 - p)) == pytest.approx(row[1] + 1 / p, abs=0.01)  # the notebook's equation
        assert row[2] == ("right" if p > 0.5 else "wrong")
    assert ends_at(-2.01) < 0.5 < ends_at(-1.99)


def test_the_largest_honest_margin_that_one_liar_of_four_peers_overrules():
    assert [lies.one_lie(margin)["with labels"].iloc[0] for margin in (2.6, 2.8)] == ["wrong", "right"]


def test_among_relatives_a_logit_has_no_bound_and_a_probability_has():
    table = lies.among_relatives(margin=2)
    assert table["mean logit"].to_list() == pytest.approx([2, (4 * 2 - 30) / 5, (3 * 2 - 60) / 5])
    assert -table["mean probability"].diff().dropna().to_numpy() == pytest.approx([0.176, 0.176], abs=0.001)
    assert (table["sharpened"] > 0.5).all()


def test_what_a_rule_bears_is_what_it_is_not_refused():
    table = lies.borne(rows=(4, 5, 20))
    assert table.columns.to_list() == ["4 rows", "5", "20", "needs"] and list(table.index) == list(rules.REQUIRED)
    for rule, most in table["4 rows"].items():
        assert rules.bears(rule, 4, most) or most == 0
        assert not rules.bears(rule, 4, most + 1)
    arms.check("dml", "median", 5, table.loc["median", "4 rows"])  # of five clients a rule sees four peers
    arms.check("dml", "score", 5, table.loc["score", "5"])
    with pytest.raises(ValueError, match="not 4"):
        arms.check("dml", "median", 5, table.loc["median", "4 rows"] + 1)


def test_every_attack_on_messages_is_named_with_what_it_has_to_know():
    named = [name for names in lies.known()["attacks"] for name in names.split(", ")]
    assert set(named) == {*PREDICTIONS, *WEIGHTS}


def test_the_source_of_a_method_is_not_indented():
    text = shown.source(rules.median, Losses.log_probabilities).data
    assert text.startswith("def median(") and "\n\ndef log_probabilities(self" in text


def test_a_picture_is_recovered_only_when_it_is_nearer_and_alike():
    rows = [
        ("a", "v", 20.0, 10.0, 15.0, ssim, 0.5, nearer) for ssim, nearer in ((0.9, True), (0.52, True), (0.9, False))
    ]
    names = ["attack", "view", "psnr", "psnr of the mean", "psnr of the nearest public", "ssim", "ssim of the mean"]
    table = shown.reconstructed(pd.DataFrame(rows, columns=[*names, "recovered"]))
    assert table.loc[("a", "v"), ["nearer", "recovered"]].to_list() == pytest.approx([2 / 3, 1 / 3])


def test_secured_bytes_add_up_and_nothing_is_shown_without_the_libraries(monkeypatch):
    empty = pd.DataFrame(columns=["message", "direction", "bytes", "error"])
    some = pd.DataFrame(
        [("A", "up", 3.0, 1e-6), ("B", "down", 4.0, 1e-6), ("C", "up", 5.0, 1e-6)], columns=empty.columns
    )
    monkeypatch.setattr(scaling, "secured", lambda images: some)
    assert shown.secured(24)["All"].to_dict() == {"up": 8.0, "down": 4.0}
    monkeypatch.setattr(scaling, "secured", lambda images: empty)
    assert shown.secured(24).empty


def test_the_authors_weights_are_shown_in_both_forms():
    sizes = shown.authors_estimate()["bytes"]
    assert sizes["all, JSON text"] / sizes["all, float32"] == pytest.approx(5.6, abs=0.05)
    assert sizes["all, float32"] == 4 * 1_862_785


def test_a_float32_sum_of_many_is_near_the_exact_one():
    errors = crowded.float32_errors(counts=(5, 1000))
    assert errors.index.to_list() == [5, 1000]
    assert (errors.iloc[:, 0].astype(float) < 1e-6).all()
