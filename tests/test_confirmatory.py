"""The answers of the analysis plan: each computed another way, and each status reached."""

import gzip
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dml.evidence import accuracy, confirmatory, study_text
from dml.evidence.answers import HELD, OPEN, REFUTED
from dml.plots import studies
from dml.stats import holm_corrected, paired
from dml.studies.plan import Comparison, plan

ABOVE, BELOW = (Comparison("late unseen accuracy", "fedavg", claimed) for claimed in ("above", "below"))


def difference(mean, p, equivalent):
    return replace(paired([0.1, 0.2], [0.0, 0.0], 0.005), mean=mean, p=p, equivalent=equivalent)


@pytest.mark.parametrize(
    ("comparison", "mean", "p", "equivalent", "expected"),
    [
        (ABOVE, 0.01, 0.01, 0.9, HELD),
        (ABOVE, -0.01, 0.01, 0.9, REFUTED),
        (BELOW, -0.01, 0.01, 0.9, HELD),
        (BELOW, 0.01, 0.01, 0.9, REFUTED),
        (ABOVE, 0.001, 0.2, 0.01, REFUTED),  # equivalent
        (ABOVE, 0.01, 0.05, 0.05, OPEN),
        (ABOVE, 0.001, 0.01, 0.01, HELD),  # small, and there
    ],
)
def test_a_comparison_is_held_refuted_or_open(comparison, mean, p, equivalent, expected):
    assert accuracy.answer(comparison, difference(mean, p, equivalent)) == expected


def test_holm_within_a_family():
    assert holm_corrected([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm_corrected([0.5, 0.9]).tolist() == [1.0, 1.0]


METRICS = ("unseen accuracy", "unseen log loss", "unseen calibration error", "unseen auc", "validation accuracy")
METRICS += ("train accuracy", "unseen disagreement")
SEEDS, IMAGES = (8, 9, 10, 11), 40


@pytest.fixture
def record(tmp_path):
    """Tables of the published study with four complete seeds and a fifth that lacks an arm; and their results."""
    study, rng, rows, right = plan().studies["published"], np.random.default_rng(0), [], []
    for seed in (*SEEDS, 12):
        for place, arm in enumerate(study.arms):
            if (seed, arm) == (12, "self"):
                continue
            for round_index in (10, 11, 12):
                counts = rng.integers(3 + (arm == "dml"), 6, IMAGES)
                right.append((seed, arm, round_index, 5, " ".join(map(str, counts))))
                shares = counts.mean() / 5 + np.array([-0.02, -0.01, 0, 0.01, 0.02])
                rows += [(seed, arm, round_index, c, "late unseen accuracy", v) for c, v in enumerate(shares)]
            for metric in METRICS:
                rows += [(seed, arm, 12, c, metric, rng.uniform(0.1, 0.2) + place / 100) for c in range(5)]
    folder = tmp_path / "published"
    folder.mkdir()
    results = pd.DataFrame(rows, columns=["seed", "arm", "round", "client", "metric", "value"])
    results.to_csv(folder / "results.csv.gz", index=False)
    table = pd.DataFrame(right, columns=["seed", "arm", "round", "models", "right"])
    (folder / "right.csv.gz").write_bytes(gzip.compress(table.to_csv(index=False).encode()))
    return study, results, table, tmp_path


def test_only_seeds_with_every_arm_count(record):
    study, results, _, _ = record
    assert set(confirmatory.complete(results, study, study.confirmatory)["seed"]) == set(SEEDS)
    assert confirmatory.complete(results, study, range(8)).empty  # exploratory ones never


def test_the_primary_endpoint_is_the_mean_of_clients_and_late_rounds(record):
    study, results, _, _ = record
    whole = confirmatory.complete(results, study, study.confirmatory)
    answers = accuracy.claims(whole).set_index(["family", "against"])
    late = whole[whole["metric"] == "late unseen accuracy"].groupby(["seed", "arm"])["value"].mean().unstack()
    for arm in ("fedavg", "asynchronous"):
        assert answers.loc[("C1", arm), "mean"] == pytest.approx((late["dml"] - late[arm]).mean())
    both = [stats.ttest_rel(late["dml"], late[arm]).pvalue for arm in ("fedavg", "asynchronous")]
    corrected = holm_corrected(both)
    assert answers.loc["C1", "p"].tolist() == pytest.approx(corrected.tolist())
    assert list(answers.loc["mechanism"].index) == ["local", "local+public", "fedavg+public", "self", "shuffled"]
    assert answers["flips"].min() >= 2 / 2**4  # the least that four seeds can reach


def test_the_gap_and_disagreement_are_of_the_last_round(record):
    study, results, _, _ = record
    whole = confirmatory.complete(results, study, study.confirmatory)
    answers = accuracy.claims(whole).set_index(["family", "measure", "against"])
    last = whole[whole["round"] == 12].pivot_table(
        index=["seed", "arm"], columns="metric", values="value", aggfunc="mean"
    )
    gap = (last["train accuracy"] - last["unseen accuracy"]).unstack()
    assert answers.loc[("C2", "gap", "fedavg"), "mean"] == pytest.approx((gap["dml"] - gap["fedavg"]).mean())
    apart = last["unseen disagreement"].unstack()
    expected = (apart["dml"] - apart["asynchronous"]).mean()
    assert answers.loc[("C2", "unseen disagreement", "asynchronous"), "mean"] == pytest.approx(expected)


def test_what_stands_beside_decides_nothing_and_takes_the_worst_client(record):
    study, results, _, _ = record
    whole = confirmatory.complete(results, study, study.confirmatory)
    table = confirmatory.secondary(whole).set_index(["measure", "against"])
    last = whole[(whole["round"] == 12) & (whole["metric"] == "unseen accuracy")]
    worst = last.groupby(["seed", "arm"])["value"].min().unstack()
    expected = (worst["dml"] - worst["fedavg"]).mean()
    assert table.loc[("worst client, last round", "fedavg"), "mean"] == pytest.approx(expected)
    assert (table["n"] == 4).all() and "answer" not in table


def test_the_crossed_interval_holds_the_mean_and_is_wider_than_over_seeds_alone(record):
    _, _, right, _ = record
    shares = confirmatory.by_image(right)
    assert shares[8, "dml"].shape == (IMAGES,)
    first = right[(right["seed"] == 8) & (right["arm"] == "dml")]["right"].str.split().str[0].astype(int)
    assert shares[8, "dml"][0] == pytest.approx(first.mean() / 5)
    differences = np.stack([shares[seed, "dml"] - shares[seed, "fedavg"] for seed in SEEDS])
    low, high = confirmatory.crossed(shares, SEEDS, "fedavg")
    assert low < differences.mean() < high
    same = {pair: np.full(IMAGES, values.mean()) for pair, values in shares.items()}  # no image differs from another
    alone = confirmatory.crossed(same, SEEDS, "fedavg")
    assert high - low > alone[1] - alone[0] > 0


def test_the_page_says_how_far_a_study_is_and_turns_with_its_tables(record):
    _, results, _, folder = record
    told = study_text.text(folder)
    assert "**Interim, decides nothing**: 4 of 12 confirmatory seeds are on record (8 to 11)" in told
    assert study_text.NONE in told  # the other study
    (line,) = [line for line in told.splitlines() if line.startswith("- More accurate")]
    assert re.search(r"\*\*(held|open)\*\*: [^;]*FedAvg", line)
    worse = results.copy()
    worse.loc[(worse["metric"] == "late unseen accuracy") & (worse["arm"] == "dml"), "value"] -= 0.5
    worse.to_csv(folder / "published" / "results.csv.gz", index=False)
    assert "**refuted**: FedAvg, asynchronous" in study_text.text(folder)
    results[results["seed"] == 8].to_csv(folder / "published" / "results.csv.gz", index=False)
    assert study_text.ONE in study_text.text(folder)


def test_the_figure_of_the_studies_shows_fresh_and_old_seeds_of_each_protocol(record):
    study, results, _, folder = record
    fresh = confirmatory.decisive(study, folder / "published")
    answers = {("published", "confirmatory"): accuracy.claims(fresh), ("reduced", "confirmatory"): fresh.iloc[:0]}
    drawn = studies.studies(answers | {("reduced", "exploratory"): accuracy.claims(results[results["seed"] != 12])})
    late = results[(results["metric"] == "late unseen accuracy") & results["seed"].isin(SEEDS)]
    means = late.groupby(["seed", "arm"])["value"].mean().unstack()
    row = drawn.table.set_index(["protocol", "kind", "against"]).loc["published", "confirmatory", "fedavg"]
    assert row["mean"] == pytest.approx((means["dml"] - means["fedavg"]).mean()) and row["n"] == 4
    assert row["better"] == (means["dml"] > means["fedavg"]).mean()
    assert "published protocol 4 confirmatory of 12; reduced protocol 4 exploratory;" in drawn.caption
    assert set(drawn.table["measure"]) == {"late unseen accuracy"} and drawn.png
