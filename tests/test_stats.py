"""Intervals, p values and verdicts against numbers computed by hand."""

import numpy as np
import pandas as pd
import pytest

from dml import stats
from dml.evidence import accuracy as claims
from dml.evidence import markdown

COLUMNS = ["seed", "arm", "round", "client", "metric", "value"]
SIX = np.array([0.010, 0.012, 0.008, 0.011, 0.009, 0.013])  # differences that all point up


def table(values, metric="unseen accuracy", round=1):
    """Results with one client: {arm: one value a seed}."""
    rows = [(seed, arm, round, 0, metric, v) for arm, each in values.items() for seed, v in enumerate(each)]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_t_interval_by_hand():
    found = stats.interval([1.0, 2.0, 3.0])  # sd 1, sem 1 / sqrt(3), t(0.975, 2) = 4.302653
    assert (found.mean, found.n) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_one_seed_has_a_mean_and_no_interval():
    for found, mean in ((stats.interval([0.7]), 0.7), (stats.paired([0.7], [0.5]), 0.2)):
        assert found.n == 1 and found.mean == pytest.approx(mean) and found.verdict == "undecided"
        assert np.isnan([found.low, found.high, found.p]).all()


def test_two_to_five_seeds_have_a_t_interval_of_the_difference():
    one = stats.interval([0.0, 2.0])  # sem 1, t(0.975, 1) = 12.706205
    assert (one.low, one.high) == pytest.approx((1 - 12.706205, 1 + 12.706205), abs=1e-5)
    two = stats.paired([0.7, 0.8], [0.5, 0.5])  # 0.2 and 0.3: sem 0.05
    assert (two.mean, two.n, two.p) == (pytest.approx(0.25), 2, pytest.approx(0.5))
    assert (two.low, two.high) == pytest.approx((0.25 - 0.635310, 0.25 + 0.635310), abs=1e-5)
    five = stats.paired([1, 2, 3, 4, 5], np.zeros(5))  # sem sqrt(0.5), t(0.975, 4) = 2.776445
    assert (five.low, five.high) == pytest.approx((3 - 1.963243, 3 + 1.963243), abs=1e-5)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3], 0.25),  # 1 of 8 sign patterns reaches the mean, doubled
        ([1, 2, 3, 4, 5], 0.0625),
        ([-1, -2, -3, -4, -5], 0.0625),
        ([1, 2, -1], 0.75),  # sums 4, 2, 2, 0, 0, -2, -2, -4: 3 of 8 are at least 2
        (SIX, 0.03125),
    ],
)
def test_sign_flip_p_by_hand(differences, p):
    assert stats.paired(differences, np.zeros(len(differences))).p == pytest.approx(p)


def test_bca_interval_surrounds_the_mean_and_repeats_exactly():
    found = stats.paired(0.8 + SIX, np.full(6, 0.8))
    assert found.mean == pytest.approx(0.0105)
    assert 0.008 < found.low < found.mean < found.high < 0.013
    assert stats.paired(0.8 + SIX, np.full(6, 0.8)) == found
    down = stats.paired(np.full(6, 0.8), 0.8 + SIX)
    assert down.low < down.mean < down.high < 0 and down.mean == -found.mean


def test_bca_interval_leans_toward_the_long_tail():
    skewed = np.array([0.0, 0.0, 0.1, 0.1, 0.1, 0.2, 0.2, 2.0])
    found = stats.paired(skewed, np.zeros(8))
    assert found.high - found.mean > 1.5 * (found.mean - found.low)


@pytest.mark.parametrize(
    ("arm", "other", "difference", "p"),
    [
        ([0.5, 0.6, 0.7], [0.25, 0.35, 0.45], 0.25, 0.25),
        ([0.3, 0.4, 0.5], [0.1, 0.2, 0.3], 0.2, 0.25),  # equal but for the last bit
        ([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], 0.0, 1.0),
        ([0.5] * 6, [0.25] * 6, 0.25, 0.03125),
        ([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 0.2, 0.03125),
    ],
)
def test_identical_differences_give_an_interval_of_no_width(arm, other, difference, p):
    found = stats.paired(arm, other)
    assert (found.mean, found.low, found.high) == pytest.approx((difference,) * 3) and found.p == pytest.approx(p)


def test_verdict_takes_interval_and_p():
    zero = np.zeros
    assert stats.paired(SIX, zero(6)).verdict == "higher"
    assert stats.paired(-SIX, zero(6)).verdict == "lower"
    five = stats.paired(SIX[:5], zero(5))
    assert five.low > 0 and five.verdict == "undecided"  # p cannot be below 0.0625
    assert stats.paired(SIX[:5] / 2, zero(5)).verdict == "same"  # above zero, but by less than anyone minds
    assert stats.paired(3 * (SIX - SIX.mean()), zero(6)).verdict == "same"  # within a percentage point of zero
    assert stats.paired(10 * (SIX - SIX.mean()), zero(6)).verdict == "undecided"
    assert stats.paired(np.full(6, 0.001), zero(6)).verdict == "higher"  # significance first, then the margin


def test_better_is_the_share_of_seeds_and_ties_count_half():
    assert stats.paired([3, 2, 1, 0], [0, 2, 2, 2]).above_zero == pytest.approx(1.5 / 4)
    assert stats.paired([0.7], [0.5]).above_zero == 1


def test_holm_by_hand():
    """0.01, 0.02, 0.03, 0.4 times 4, 3, 2, 1 are 0.04, 0.06, 0.06, 0.4: none may be below the one before."""
    found = stats.holm([stats.Estimate(0, 0, 0, 6, p) for p in (0.03, 0.4, np.nan, 0.01, 0.02)])
    assert [each.p for each in found] == pytest.approx([0.06, 0.4, np.nan, 0.04, 0.06], nan_ok=True)
    assert [each.p for each in stats.holm([stats.Estimate(0, 0, 0, 6, p) for p in (0.9, 0.6)])] == [1, 1]
    assert stats.holm([]) == []


def test_an_interval_of_six_is_the_bootstraps_and_of_five_is_students():
    five, student = stats.interval(SIX[:5]), stats.t_interval(SIX[:5])
    assert (five.mean, five.low, five.high, five.n) == (student.mean, student.low, student.high, student.n)
    paired = stats.paired(SIX, np.zeros(6))
    one = stats.interval(SIX)
    assert (one.mean, one.low, one.high) == (paired.mean, paired.low, paired.high)
    assert stats.t_interval(SIX).high - stats.t_interval(SIX).low > one.high - one.low


def test_per_seed_averages_the_clients_of_the_last_round_and_keeps_the_arms_in_order():
    rows = [
        (seed, arm, round, client, metric, 100 * seed + 10 * client + round + (0.5 if arm == "dml" else 0))
        for seed in (3, 0)
        for arm, rounds in (("pooled", 1), ("dml", 2), ("asynchronous", 2))
        for round in range(1, rounds + 1)
        for client in (0, 1, 2)
        for metric in ("unseen accuracy", "unseen auc")
    ]
    found = stats.per_seed(pd.DataFrame(rows, columns=COLUMNS), "unseen accuracy")
    assert list(found.columns) == ["pooled", "dml", "asynchronous"] and list(found.index) == [0, 3]
    assert found["pooled"].tolist() == [11, 311]  # round 1 is its last; clients 0, 10, 20 on top
    assert found["dml"].tolist() == [12.5, 312.5]
    assert found["asynchronous"].tolist() == [12, 312]


def test_per_seed_leaves_out_an_arm_that_lacks_the_metric():
    both = pd.concat([table({"dml": [1.0], "pooled": [2.0]}), table({"dml": [0.5]}, "train accuracy")])
    assert list(stats.per_seed(both, "train accuracy").columns) == ["dml"]


def test_summarise_and_compare_name_their_arms():
    results = table({"dml": [0.9, 0.8, 0.7], "fedavg": [0.6, 0.6, 0.6], "local": [0.5, 0.6, 0.4]})
    summary = stats.summarise(results, "unseen accuracy")
    assert list(summary.columns) == ["arm", "mean", "low", "high", "n"]
    assert summary["arm"].tolist() == ["dml", "fedavg", "local"] and summary["n"].tolist() == [3, 3, 3]
    assert summary["mean"].tolist() == pytest.approx([0.8, 0.6, 0.5])
    found = stats.compare(results, "unseen accuracy", "fedavg")
    assert list(found.columns) == ["arm", "against", "mean", "low", "high", "n", "better", "p", "verdict"]
    assert found["arm"].tolist() == ["dml", "local"] and set(found["against"]) == {"fedavg"}
    assert found["mean"].tolist() == pytest.approx([0.2, -0.1]) and found["p"].tolist() == pytest.approx(
        [0.5, 0.5]
    )  # 0.25 twice


def test_pairs_are_of_the_same_seed_whatever_the_order_of_rows():
    results = table({"dml": [0.9, 0.5, 0.1], "fedavg": [0.8, 0.4, 0.0]})
    shuffled = results.iloc[[4, 0, 5, 2, 1, 3]]
    found = stats.compare(shuffled, "unseen accuracy", "fedavg")
    assert found[["mean", "low", "high"]].iloc[0].tolist() == pytest.approx([0.1] * 3)


def test_gap_is_train_minus_unseen_of_each_client():
    rows = [
        (0, "dml", 2, 0, "train accuracy", 0.9),
        (0, "dml", 2, 0, "unseen accuracy", 0.7),
        (0, "dml", 2, 1, "train accuracy", 0.8),
        (0, "dml", 2, 1, "unseen accuracy", 0.9),
        (0, "dml", 2, 1, "unseen auc", 1.0),
        (0, "pooled", 2, -1, "unseen accuracy", 0.9),  # has no clients and so no gap
    ]
    found = stats.gaps(pd.DataFrame(rows, columns=COLUMNS))
    assert list(found.columns) == COLUMNS and set(found["metric"]) == {"gap"}
    assert found["client"].tolist() == [0, 1] and found["value"].tolist() == pytest.approx([0.2, -0.1])


OTHERS = ("fedavg", "asynchronous", "fedavg+public", "local+public", "self")
REPORTED = pd.DataFrame(
    [("dml", 0, 0.9), ("dml", 1, 0.8), ("fedavg", 0, 0.75), ("fedavg", 1, 0.75)], columns=["arm", "client", "accuracy"]
)


def claimed(shift, seeds=8):
    """Results in which DML's unseen accuracy exceeds that of all others by about `shift`; it trains no better."""
    rise = shift * (1 + np.resize(SIX, seeds))
    dml, rest = 0.7 + rise, np.full(seeds, 0.7)
    return pd.concat(
        [
            table({"dml": dml} | dict.fromkeys(OTHERS, rest)),
            table({"dml": np.full(seeds, 0.95)} | dict.fromkeys(OTHERS, np.full(seeds, 0.95)), "train accuracy"),
            table({"dml": 0.2 - rise} | dict.fromkeys(OTHERS, np.full(seeds, 0.2)), "unseen disagreement"),
        ]
    )


@pytest.mark.parametrize(
    ("shift", "seeds", "verdict"),
    [(0.05, 8, "holds"), (-0.05, 8, "fails"), (0.05, 7, "undecided"), (0.005, 5, "no difference")],
)
def test_claims_hold_fail_or_stay_undecided(shift, seeds, verdict):
    found = claims.claims(claimed(shift, seeds), REPORTED)
    assert len(found) == len(claims.CLAIMS) and set(found["verdict"]) == {verdict} and set(found["n"]) == {seeds}
    signs = dict(zip(found["measure"], np.sign(found["mean"]), strict=True))
    up = np.sign(shift)
    assert signs == {"unseen accuracy": up, "unseen disagreement": -up, "gap": -up}


@pytest.mark.parametrize(("size", "verdict"), [(0.03, "undecided"), (0.005, "no difference")])
def test_claims_without_a_difference_are_undecided_unless_it_is_surely_small(size, verdict):
    results = claimed(0.0)
    results.loc[results["arm"] == "dml", "value"] += np.tile([size, -size], 12)  # eight seeds of three metrics
    found = claims.claims(results, REPORTED).set_index("measure")
    assert set(found.drop("gap")["verdict"]) == {verdict} and set(found["better"]) == {0.5}
    assert set(found.loc["gap", "verdict"]) == {"no difference"}  # train and unseen moved together


def test_claims_give_the_reported_difference_where_the_paper_has_one():
    found = claims.claims(claimed(0.05), REPORTED).set_index(["measure", "against"])["reported"]
    assert found["unseen accuracy", "fedavg"] == pytest.approx(0.1)  # 0.85 - 0.75
    assert found.drop(("unseen accuracy", "fedavg")).isna().all()
    assert claims.claims(claimed(0.05), REPORTED.iloc[:0])["reported"].isna().all()


def test_claims_as_markdown_state_points_intervals_and_verdicts():
    costs = pd.DataFrame({"seed": [0, 1], "arm": ["dml", "dml"], "cpu_s": [10.0, 14.0]})
    costs = pd.concat([costs, *(costs.assign(arm=arm) for arm in OTHERS)])
    text = markdown.claims(claimed(0.05), costs, REPORTED, "a title")
    lines = text.splitlines()
    assert "a title" in lines[0] and "n = 8" in lines[0]
    (row,) = [line for line in lines if line.startswith("| `dml`")]
    assert "85.00" in row and "75.05" in row and "12" in row
    (row,) = [line for line in lines if line.startswith("| C1 | `fedavg` |")]
    assert "+10.00" in row and "+5.05" in row and "| 8 of 8 | 0.039 | holds |" in row
    tables = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in tables[: 2 + 6]}) == 1 and "nan" not in text.lower()


def test_claims_as_markdown_of_one_seed_claim_no_interval():
    costs = pd.DataFrame({"seed": 0, "arm": ["dml", *OTHERS], "cpu_s": 1.0})
    text = markdown.claims(claimed(0.05, 1), costs, REPORTED.iloc[:0], "one")
    rows = [line for line in text.splitlines() if line.startswith(("| `", "| C"))]
    assert len(rows) == 6 + len(claims.CLAIMS) and not any("[" in row or "nan" in row.lower() for row in rows)
    assert text.count("| undecided |") == len(claims.CLAIMS)
