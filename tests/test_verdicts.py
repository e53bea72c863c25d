"""Verdicts follow from the tables, and published numbers are held against the spread of ours."""

import json
import re
from dataclasses import replace
from shutil import copy

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dml import stats
from dml.config import PROFILES, RECORDED, Experiment
from dml.data.images import load
from dml.evidence import answers, bandwidth, codings, markdown, published, transmission, verdicts
from dml.evidence.about import About
from dml.pipeline import redraw

PAPER = RECORDED / "paper-facemask"
COLUMNS = ["seed", "arm", "round", "client", "metric", "value"]


@pytest.mark.parametrize(
    ("statuses", "brief", "told"),
    [
        (["held", "held"], "held", "**held**: a, b"),
        (["held", "open"], "held in part", "**held**: a; **open**: b"),
        (["refuted", "held", "held"], "held and refuted in part", "**held**: b, c; **refuted**: a"),
        (["refuted", "open"], "refuted in part", "**refuted**: a; **open**: b"),
        (["refuted"], "refuted", "**refuted**: a"),
        (["open", "open"], "open", "**open**: a, b"),  # never "does not hold"
    ],
)
def test_a_claim_is_answered_by_three_lists(statuses, brief, told):
    lists = answers.lists(dict(zip("abc", statuses, strict=False)))
    assert answers.brief(lists) == brief and answers.told(lists) == told


def judged(folder):
    about = About.read(folder)
    return verdicts.verdicts(folder, about)


def test_a_folder_is_judged_by_the_tables_it_has(tmp_path):
    copy(PAPER / "manifest.json", tmp_path)
    assert judged(tmp_path).empty and list(judged(tmp_path).columns) == verdicts.COLUMNS
    copy(PAPER / "privacy_differences.csv", tmp_path)
    assert judged(tmp_path)["claim"].tolist() == ["C4", "C4"]
    copy(PAPER / "results.csv", tmp_path)
    assert judged(tmp_path)["claim"].tolist() == ["C1", "C2", "C4", "C4"]


def test_the_published_protocol_has_a_verdict_on_every_claim_with_a_figure_that_exists():
    table = judged(PAPER)
    assert set(table["claim"]) >= {"C1", "C2", "C3", "C4", "L1", "L2", "F2"}
    assert (table[["held", "refuted", "open"]] != "").any(axis=1).all()
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
    return judged(tmp_path).set_index("claim").loc["C1"]


@pytest.mark.parametrize(("shift", "status"), [(0.03, "held"), (-0.03, "refuted"), (0.0, "refuted")])
def test_claim_c1_turns_with_the_results(shift, status, tmp_path):
    assert shifted(tmp_path, shift)[status] == "FedAvg, asynchronous"  # without a difference: equivalent


def test_claims_about_bytes_turn_with_the_tables(tmp_path):
    for name in ("ladder", "scaling", "codings"):
        copy(PAPER / f"bandwidth_{name}.csv", tmp_path)
    copy(PAPER / "manifest.json", tmp_path)
    ladder, scaling = (pd.read_csv(tmp_path / f"bandwidth_{name}.csv") for name in ("ladder", "scaling"))
    before = judged(tmp_path).set_index(["claim", "system"])
    assert (
        before.loc[("C3", "as published"), "held"].count(",") == 7 and before.loc[("C3", "with our sum"), "open"] == ""
    )
    assert before.loc[("L1", "as published"), "held"] == "" and before.loc[("L1", "with our sum"), "refuted"] == ""
    assert before.loc[("L2", "with our sum"), ["held", "refuted"]].tolist() == ["a round", "a run"]
    ladder.loc[ladder["arm"] == "dml", ["up", "down", "sent", "setup", "amortised"]] *= 1e6
    ladder.to_csv(tmp_path / "bandwidth_ladder.csv", index=False)
    grows = scaling["topology"] == "server, one sum"
    scaling.loc[grows, "down"] *= 1 + scaling.loc[grows, "clients"] / 1000
    scaling.to_csv(tmp_path / "bandwidth_scaling.csv", index=False)
    after = judged(tmp_path)
    assert set(after["claim"]) == {"C3", "F2", "L1", "L2"} and (after["held"] == "").all()


def test_bytes_as_a_person_would_send_them_by_hand():
    """A run of two rounds: the model is 1,000 bytes, the images 600; files take a third, compression a half of it."""
    ladder = pd.DataFrame(
        [("dml", 10.0, 20.0, 60.0, 1600.0, 830.0), ("fedavg", 900.0, 900.0, 3600.0, 1000.0, 2300.0)],
        columns=["arm", "up", "down", "sent", "setup", "amortised"],
    )
    codings = pd.DataFrame(
        [("image", "files", 100, 300), ("image", "PNG", 250, 300), ("weights, float32", "xz", 50, 100)],
        columns=["what", "coding", "bytes", "plain"],
    )
    more = pd.DataFrame([(f"weights, {one}", "xz", 9, 9) for one in ("8 bits", "top 1 %")], columns=codings.columns)
    table = transmission.ratios(ladder, pd.concat([codings, more]), clients=5)
    ratio = table.set_index(["system", "what"])["ratio"]
    assert ratio["with our sum", transmission.ROUND] == 1800 / 30
    assert ratio["as published", transmission.ROUND] == 1800 / 50  # up once, and four of its peers' down
    assert ratio["with our sum", transmission.RUN] == pytest.approx(4600 / 1660)
    assert ratio["as published", transmission.RUN] == pytest.approx(4600 / 1700)
    assert ratio["with our sum", transmission.CODED] == pytest.approx(2300 / (60 + 200 + 500))
    assert ratio["as published", transmission.CODED] == pytest.approx(2300 / (100 + 200 + 500))


def test_the_cost_of_sharing_losses_in_per_cent_by_hand():
    ladder = pd.read_csv(PAPER / "bandwidth_ladder.csv")
    dml, fedavg = (ladder.set_index("arm").loc[arm] for arm in ("dml", "fedavg"))
    tables = [ladder, *(pd.read_csv(PAPER / f"bandwidth_{name}.csv") for name in ("scaling", "codings"))]
    (row,) = [row for row in transmission.judged(tables, About.read(PAPER)) if row["claim"] == "L2"]
    share = 100 * (dml["up"] + dml["down"]) / (fedavg["up"] + fedavg["down"])
    assert row["short"].startswith(f"{share:.3f} % of FedAvg's round, ") and 0.006 < share < 0.007
    coded = tables[2].set_index(["what", "coding"])
    images = coded.loc[("image", "files"), "bytes"] / 30_000 * (dml["setup"] - fedavg["setup"])
    kept = coded.loc[("weights, float32", "xz"), "bytes"] / coded.loc[("weights, float32", "xz"), "plain"]
    run = (dml["sent"] + images + kept * fedavg["setup"]) / (kept * (fedavg["sent"] + fedavg["setup"]))
    assert row["short"].endswith(f", {100 * run:.0f} % of its run")


def test_published_numbers_are_shown_in_their_units():
    rows = [
        ("dml", "accuracy, mean of the clients", 0.9445, 0.9358, 0.92, 0.95, 8, True),
        ("dml", "accuracy minus fedavg's", 0.0179, -0.0036, -0.02, 0.0123, 8, False),
        ("dml", "training loss, last local epoch", 0.1234, 0.2, 0.1, 0.3, 8, True),
    ]
    table = pd.DataFrame(rows, columns=["arm", "what", "published", "mean", "low", "high", "n", "inside"])
    exact = pd.DataFrame([("folds", 73, 73)], columns=["what", "published", "here"])
    share, gap, loss = markdown.comparison(table, exact).splitlines()[2:5]
    assert "| 94.45 | 93.58 | [92.00, 95.00] | 8 | yes |" in share
    assert "| +1.79 | -0.36 | [-2.00, +1.23] | 8 | **no** |" in gap
    assert "| 0.123 | 0.200 | [0.100, 0.300] | 8 | yes |" in loss


def test_only_the_published_protocol_on_its_images_has_published_numbers():
    paper = PROFILES["paper"].experiment
    assert len(published.reported("facemask", paper)) > 5
    for data, experiment in (("faces", paper), ("facemask", PROFILES["reduced"].experiment)):
        assert published.reported(data, experiment).empty
    assert published.reported("facemask", replace(paper, rounds=11)).empty


def test_forwarding_is_what_real_messages_of_five_clients_cost():
    """`transmission.ratios` multiplies; the scaling table has the messages."""
    scaling, ladder = (pd.read_csv(PAPER / f"bandwidth_{name}.csv") for name in ("scaling", "ladder"))
    five = scaling[scaling["clients"] == 5].set_index("topology").loc["server, forwarding"]
    ladder.loc[ladder["arm"] == "dml", "up"] = five["up"]
    table = transmission.ratios(ladder, pd.read_csv(PAPER / "bandwidth_codings.csv"), 5)
    rows = table[(table["system"] == "as published") & (table["what"] == transmission.ROUND)]
    assert (rows["dml"] == five["up"] + five["down"]).all()


def test_the_break_even_costs_the_same_either_way():
    about, codings = About.read(PAPER), pd.read_csv(PAPER / "bandwidth_codings.csv").set_index("what")
    even = transmission.break_even(about, codings.reset_index())
    weights = 2 * 4 * 1_862_785
    assert even["images at hand"] * 12 == pytest.approx(weights)  # a loss up, two log-probabilities down
    assert even["fresh images sent"] * (12 + 30_001) == pytest.approx(weights)
    files = codings.loc["image"].query("coding == 'files'")["bytes"].iloc[0]
    kept = codings.loc["weights, float32", "bytes"] / codings.loc["weights, float32", "plain"]
    assert even["fresh images and weights coded"] * (12 + files) == pytest.approx(weights * kept, rel=1e-3)


def test_codings_are_of_real_files_and_messages(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("unseen", 2)):
        for name in ("a", "b"):
            (tmp_path / "own" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "own" / part / name / f"{index}.png")
    experiment = Experiment(rounds=1, size=20, epochs=1)
    images = load(str(tmp_path / "own"), size=20, train_count=0, unseen_count=0, cache=tmp_path / "cache")
    table = codings.codings(images, str(tmp_path / "own"), experiment, 0).set_index(["what", "coding"])
    sizes = [file.stat().st_size for file in (tmp_path / "own" / "train").rglob("*.png")]
    assert table.loc[("image", "files"), "bytes"] == pytest.approx(np.mean(sizes)) and len(sizes) == 60
    assert table.loc[("image", "PNG"), "bytes"] > 1200  # noise does not get smaller
    message = table.loc[("weights, float32", "xz")]
    assert 0.8 * message["plain"] < message["bytes"] < message["plain"]
    assert codings.smaller(table.reset_index(), "image") == 1


def test_recorded_tables_of_the_ladder_follow_from_the_accuracies():
    for folder in redraw.recorded():
        about_seeds = pd.read_csv(folder / "bandwidth_accuracy.csv")
        results = about_seeds.assign(round=1, client=0, metric="unseen accuracy")
        again = bandwidth.ladder(results, pd.read_csv(folder / "bandwidth_traffic.csv"))
        recorded = pd.read_csv(folder / "bandwidth_ladder.csv")
        pd.testing.assert_frame_equal(again, recorded, check_dtype=False, check_exact=False, rtol=1e-9)


@pytest.mark.parametrize(("gain", "status"), [(0.05, "held"), (-0.05, "refuted")])
def test_the_claim_about_many_clients_turns_with_the_results(gain, status, tmp_path):
    table = pd.read_csv(RECORDED / "reduced-facemask" / "clients.csv")
    unseen, dml = table["metric"] == "unseen accuracy", table["arm"] == "dml"
    table.loc[unseen, "value"] = 0.8 + table["seed"] / 1000
    table.loc[unseen & dml, "value"] += gain + table["seed"] / 3000
    copy(RECORDED / "reduced-facemask" / "manifest.json", tmp_path)
    table.to_csv(tmp_path / "clients.csv", index=False)
    assert judged(tmp_path)[status].tolist() == ["FedAvg"]
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
