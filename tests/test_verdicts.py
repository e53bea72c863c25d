"""Verdicts follow from the tables, and published numbers are held against the spread of ours."""

import json
import re
from shutil import copy

import numpy as np
import pandas as pd
import pytest

from dml import stats
from dml.config import PROFILES, RECORDED
from dml.evidence import markdown, published, verdicts
from dml.evidence.about import About
from dml.pipeline import redraw

PAPER = RECORDED / "paper-facemask"
COLUMNS = ["seed", "arm", "round", "client", "metric", "value"]


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "holds only when a"),
        (["fails", "holds", "holds"], "holds only when b or c"),
        (["fails", "undecided"], "does not hold"),
        (["no difference", "undecided"], "does not hold"),
        (["undecided", "undecided"], "cannot be tested with so few seeds"),
    ],
)
def test_the_verdict_on_a_claim_follows_from_its_comparisons(statuses, verdict):
    assert verdicts.overall(dict(zip("abc", statuses, strict=False))) == verdict


def judged(folder):
    about = About.read(folder)
    return verdicts.verdicts(folder, about)


def test_a_folder_is_judged_by_the_tables_it_has(tmp_path):
    copy(PAPER / "manifest.json", tmp_path)
    assert judged(tmp_path).empty and list(judged(tmp_path).columns) == verdicts.COLUMNS
    copy(PAPER / "privacy_differences.csv", tmp_path)
    assert judged(tmp_path)["claim"].tolist() == ["C4"]
    copy(PAPER / "results.csv", tmp_path)
    assert judged(tmp_path)["claim"].tolist() == ["C1", "C2", "C4"]


def test_the_published_protocol_has_a_verdict_on_every_claim_with_a_figure_that_exists():
    table = judged(PAPER)
    assert set(table["claim"]) >= {"C1", "C2", "C3", "C4", "L1", "L2", "F2"}
    assert table["verdict"].str.match("holds|does not hold|cannot be tested").all()
    assert table["why"].str.contains(r"\d").all() and not table["why"].str.contains("nan").any()
    text = markdown.judged(table, "a title")
    assert text.count("\n| ") == len(table) + 1 and "a title" in text


def shifted(tmp_path, shift):
    """The verdict on C1 of ten seeds in which DML's unseen accuracy is `shift`, give or take, above all others'."""
    results = pd.read_csv(PAPER / "results.csv")
    results = pd.concat(results[results["seed"] == 0].assign(seed=seed) for seed in range(10))
    unseen, dml = results["metric"] == "unseen accuracy", results["arm"] == "dml"
    noise = np.random.default_rng(0).normal(0, 0.001, 10)
    results.loc[unseen, "value"] = 0.9
    results.loc[unseen & dml, "value"] += shift + noise[results.loc[unseen & dml, "seed"]]
    results.to_csv(tmp_path / "results.csv", index=False)
    copy(PAPER / "manifest.json", tmp_path)
    return judged(tmp_path).set_index("claim").loc["C1", "verdict"]


@pytest.mark.parametrize(("shift", "verdict"), [(0.03, "holds"), (-0.03, "does not hold"), (0.0, "does not hold")])
def test_claim_c1_turns_with_the_results(shift, verdict, tmp_path):
    assert shifted(tmp_path, shift) == verdict


def test_claims_about_bytes_turn_with_the_tables(tmp_path):
    for name in ("ladder", "targets", "scaling"):
        copy(PAPER / f"bandwidth_{name}.csv", tmp_path)
    copy(PAPER / "manifest.json", tmp_path)
    ladder, scaling = (pd.read_csv(tmp_path / f"bandwidth_{name}.csv") for name in ("ladder", "scaling"))
    before = judged(tmp_path).set_index("claim")["verdict"]
    assert before["C3"] == before["L1"] == "holds" and before["L2"] == "holds only when the public images are at hand"
    ladder.loc[ladder["arm"] == "dml", ["up", "down", "sent"]] *= 1e6
    ladder.to_csv(tmp_path / "bandwidth_ladder.csv", index=False)
    grows = scaling["topology"] == "server, one sum"
    scaling.loc[grows, "down"] *= 1 + scaling.loc[grows, "clients"] / 1000
    scaling.to_csv(tmp_path / "bandwidth_scaling.csv", index=False)
    after = judged(tmp_path).set_index("claim")["verdict"]
    assert all(after[claim] == "does not hold" for claim in ("C3", "F2", "L1", "L2"))


@pytest.mark.parametrize(("gain", "verdict"), [(0.05, "holds"), (-0.05, "does not hold")])
def test_the_claim_about_many_clients_turns_with_the_results(gain, verdict, tmp_path):
    table = pd.read_csv(RECORDED / "reduced-facemask" / "clients.csv")
    unseen, dml = table["metric"] == "unseen accuracy", table["arm"] == "dml"
    table.loc[unseen, "value"] = 0.8 + table["seed"] / 1000
    table.loc[unseen & dml, "value"] += gain + table["seed"] / 3000
    copy(RECORDED / "reduced-facemask" / "manifest.json", tmp_path)
    table.to_csv(tmp_path / "clients.csv", index=False)
    assert judged(tmp_path)["verdict"].tolist() == [verdict]
    table[table["clients"] <= 5].to_csv(tmp_path / "clients.csv", index=False)
    assert judged(tmp_path).empty  # the run itself has five


def test_one_seed_counts_how_many_reach_the_published_gap():
    means = published.published().groupby("arm")["accuracy"].mean()
    gap = means["dml"] - means["fedavg"]
    rows = [
        (s, a, 1, 0, "unseen accuracy", v)
        for s, d in enumerate([gap + 0.001, gap + 0.01, 0.0, -0.01])
        for a, v in (("dml", 0.5 + d), ("fedavg", 0.5), ("asynchronous", 0.5 + d))
    ]
    table = published.one_seed(pd.DataFrame(rows, columns=COLUMNS)).set_index("against")
    assert gap == pytest.approx(0.0179, abs=1e-4)
    assert table.loc["fedavg", ["n", "reached"]].tolist() == [4, 2]
    assert table.loc["asynchronous", "reached"] == 0 and table.loc["asynchronous", "mean"] == 0
    assert table.loc["asynchronous", "share_low"] == 0 and 0.4 < table.loc["asynchronous", "share_high"] < 0.6  # Wilson


def test_a_prediction_interval_by_hand():
    found = published.prediction(np.array([1.0, 2.0, 3.0]))  # sd 1, t(0.975, 2) = 4.302653, sqrt(4 / 3)
    assert (found["mean"], found["n"]) == (2, 3)
    assert (found["low"], found["high"]) == pytest.approx((2 - 4.968275, 2 + 4.968275), abs=1e-5)
    assert np.isnan(published.prediction(np.array([1.0]))["low"])


def test_every_published_number_is_compared():
    table = published.on_record()
    assert len(table[table["arm"] == "fedavg"]) == 1 + 5 + 3 + 2 and set(table["arm"]) == set(published.COUNTERPARTS)
    scores = published.scores()
    for row in scores.itertuples():
        what = row.metric if row.arm == "pooled" else f"{row.metric}, client {row.client}"
        assert table.loc[(table["arm"] == row.arm) & (table["what"] == what), "published"].item() == row.value
    inside = table["published"].between(table["low"], table["high"])
    assert (table["inside"] == inside).all() and not inside.all() and inside.any()


def test_facts_of_the_published_protocol_are_ours_too():
    exact = published.facts(PROFILES["paper"].experiment).set_index("what")
    same = exact[~exact.index.str.startswith("bytes")]
    assert len(same) == 4 and (same["published"] == same["here"]).all()
    assert exact.loc["bytes of the weights, all (JSON; float32)", "here"] == 4 * 1_862_785


def test_published_histories_have_the_protocols_shape():
    table = published.history()
    counts = table.groupby("arm").size()
    assert counts.to_dict() == {"fedavg": 130, "asynchronous": 250, "dml": 262}
    local = table[table["phase"] == "local"].groupby(["arm", "round"]).size()
    assert local.eq(10).all() and table["accuracy"].between(0, 1).all()


def test_recorded_runs_say_who_made_them():
    for folder in redraw.recorded():
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        assert len(manifest["data_sha256"]) == 64 and manifest["device"] and manifest["versions"]["torch"]
        assert re.match(r"[0-9a-f]{40}", manifest["commit"])
        costs = pd.read_csv(folder / "costs.csv")
        results = pd.read_csv(folder / "results.csv")
        assert set(costs["seed"]) == set(results["seed"]) == set(manifest["seeds"])
        assert (costs["wall_s"] > 0).all()


def test_recorded_arms_are_paired():
    """Every arm has every seed, and what they share they share: the pre-training of a seed is one for all arms."""
    history = pd.read_csv(PAPER / "history.csv")
    first = history[(history["phase"] == "pretrain")].pivot(index=["seed", "epoch"], columns="arm", values="loss")
    assert first.notna().all(axis=None) and (first.nunique(axis=1) == 1).all()
    table = stats.per_seed(pd.read_csv(PAPER / "results.csv"), "unseen accuracy")
    assert table.notna().all(axis=None) and len(table) >= 3
