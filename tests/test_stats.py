"""Intervals, p values and verdicts against numbers computed by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from dml import stats
from dml.evidence import accuracy, markdown

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


def paired(arm, other):
    return stats.paired(arm, other, 0.005)


def test_one_seed_has_a_mean_and_no_interval():
    one, difference = stats.interval([0.7]), paired([0.7], [0.5])
    assert (one.n, one.mean) == (1, 0.7) and np.isnan([one.low, one.high]).all()
    assert difference.n == 1 and difference.mean == pytest.approx(0.2) and difference.verdict == "open"
    assert np.isnan(
        [getattr(difference, name) for name in ("low", "high", "p", "flips", "equivalent", "least", "most")]
    ).all()


def test_student_and_equivalence_by_hand():
    values = np.array([0.010, 0.004, 0.007, 0.001, 0.006])
    one = paired(values, np.zeros(5))
    mean, error = values.mean(), values.std(ddof=1) / 5**0.5
    wide, narrow = 2.776445 * error, 2.131847 * error  # Student's t with 4 degrees of freedom, 97.5 % and 95 %
    assert (one.low, one.high) == pytest.approx((mean - wide, mean + wide), rel=1e-5)
    assert (one.least, one.most) == pytest.approx((mean - narrow, mean + narrow), rel=1e-5)
    assert one.p == pytest.approx(2 * student.sf(mean / error, 4))
    below, above = student.cdf((mean - 0.005) / error, 4), student.sf((mean + 0.005) / error, 4)
    assert one.equivalent == pytest.approx(max(below, above))
    assert (one.n, one.mean) == (5, pytest.approx(mean))


def test_equivalence_holds_exactly_when_the_90_percent_interval_is_inside_the_margin():
    rng, shown = np.random.default_rng(0), []
    for spread in (0.001, 0.004, 0.008):
        for _ in range(20):
            one = paired(rng.normal(0.001, spread, 12), np.zeros(12))
            shown.append(one.least > -0.005 and one.most < 0.005)
            assert shown[-1] == (one.equivalent < 0.05)
    assert any(shown) and not all(shown)


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
    assert paired(differences, np.zeros(len(differences))).flips == pytest.approx(p)


@pytest.mark.parametrize(
    ("arm", "other", "difference", "flips", "verdict"),
    [
        ([0.5, 0.6, 0.7], [0.25, 0.35, 0.45], 0.25, 0.25, "higher"),
        ([0.3, 0.4, 0.5], [0.1, 0.2, 0.3], 0.2, 0.25, "higher"),  # equal but for the last bit
        ([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], 0.0, 1.0, "same"),
        ([0.5] * 6, [0.25] * 6, 0.25, 0.03125, "higher"),
        ([0.1, 0.2, 0.3], [0.3, 0.4, 0.5], -0.2, 0.25, "lower"),
    ],
)
def test_identical_differences_give_an_interval_of_no_width(arm, other, difference, flips, verdict):
    one = paired(arm, other)
    assert (one.mean, one.low, one.high) == pytest.approx((difference,) * 3)
    assert one.flips == pytest.approx(flips) and one.verdict == verdict


def test_the_verdict_takes_the_difference_first_and_then_the_margin():
    zero, spread = np.zeros(6), SIX - SIX.mean()  # sd 0.0019, sem 0.00076
    assert paired(SIX, zero).verdict == "higher" and paired(-SIX, zero).verdict == "lower"
    assert paired(0.001 + 0.1 * spread, zero).verdict == "higher"  # small, and there
    assert paired(spread, zero).verdict == "same"  # 2.015 sem is less than half a point
    assert paired(4 * spread, zero).verdict == "open"


def test_better_is_the_share_of_seeds_and_ties_count_half():
    assert paired([3, 2, 1, 0], [0, 2, 2, 2]).above_zero == pytest.approx(1.5 / 4)
    assert paired([0.7], [0.5]).above_zero == 1


def test_holm_by_hand():
    """0.01, 0.02, 0.03, 0.4 times 4, 3, 2, 1 are 0.04, 0.06, 0.06, 0.4: none may be below the one before."""
    one = paired(SIX, np.zeros(6))
    corrected = stats.holm([replace(one, p=p, equivalent=1 - p) for p in (0.03, 0.4, np.nan, 0.01, 0.02)])
    assert [each.p for each in corrected] == pytest.approx([0.06, 0.4, np.nan, 0.04, 0.06], nan_ok=True)
    assert corrected[1].equivalent == 1 and stats.holm([]) == []
    assert stats.holm_corrected([0.9, 0.6]).tolist() == [1, 1]


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
    found = stats.compare(results, "unseen accuracy", "fedavg", 0.005)
    assert list(found.columns) == ["arm", "against", "mean", "low", "high", "n", "better", "p", "verdict"]
    assert found["arm"].tolist() == ["dml", "local"] and set(found["against"]) == {"fedavg"}
    assert found["mean"].tolist() == pytest.approx([0.2, -0.1])
    alone = [paired(results_of, [0.6] * 3).p for results_of in ([0.9, 0.8, 0.7], [0.5, 0.6, 0.4])]
    assert found["p"].tolist() == pytest.approx(stats.holm_corrected(alone).tolist())


def test_pairs_are_of_the_same_seed_whatever_the_order_of_rows():
    results = table({"dml": [0.9, 0.5, 0.1], "fedavg": [0.8, 0.4, 0.0]})
    shuffled = results.iloc[[4, 0, 5, 2, 1, 3]]
    found = stats.compare(shuffled, "unseen accuracy", "fedavg", 0.005)
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


OTHERS = ("fedavg", "asynchronous", "local", "local+public", "fedavg+public", "self")
REPORTED = pd.DataFrame(
    [("dml", 0, 0.9), ("dml", 1, 0.8), ("fedavg", 0, 0.75), ("fedavg", 1, 0.75)], columns=["arm", "client", "accuracy"]
)
ASKED = 2 + 3 + 4  # comparisons of these arms: C1, C2, mechanism


def claimed(shift, seeds=8, last="unseen accuracy"):
    """Results in which DML's unseen accuracy exceeds that of all others by about `shift`; it trains no better."""
    rise = shift * (1 + np.resize(SIX, seeds))
    dml, rest = 0.7 + rise, np.full(seeds, 0.7)
    unseen = [table({"dml": dml} | dict.fromkeys(OTHERS, rest), metric) for metric in {"unseen accuracy", last}]
    return pd.concat(
        [
            *unseen,
            table({"dml": np.full(seeds, 0.95)} | dict.fromkeys(OTHERS, np.full(seeds, 0.95)), "train accuracy"),
            table({"dml": 0.2 - rise} | dict.fromkeys(OTHERS, np.full(seeds, 0.2)), "unseen disagreement"),
        ]
    )


@pytest.mark.parametrize(
    ("shift", "seeds", "answer"),
    [(0.05, 8, "held"), (-0.05, 8, "refuted"), (0.05, 2, "held"), (0.05, 1, "open")],
)
def test_claims_are_held_refuted_or_open(shift, seeds, answer):
    rows = accuracy.claims(claimed(shift, seeds), REPORTED)
    assert len(rows) == ASKED and set(rows["answer"]) == {answer} and set(rows["n"]) == {seeds}
    signs = dict(zip(rows["measure"], np.sign(rows["mean"]), strict=True))
    up = np.sign(shift)
    assert signs == {"unseen accuracy": up, "unseen disagreement": -up, "gap": -up}
    assert (rows["better"] == (1 if shift > 0 else 0)).all()


@pytest.mark.parametrize(("size", "answer"), [(0.03, "open"), (0.003, "refuted")])
def test_claims_without_a_difference_are_open_unless_it_is_surely_small(size, answer):
    results = claimed(0.0)
    results.loc[results["arm"] == "dml", "value"] += np.tile([size, -size], 12)  # eight seeds of three metrics
    rows = accuracy.claims(results, REPORTED).set_index("measure")
    assert set(rows.drop("gap")["answer"]) == {answer} and set(rows["better"]) == {0.5}
    assert set(rows.loc["gap", "answer"]) == {"refuted"}  # train and unseen moved together


def test_claims_are_about_the_last_rounds_where_they_are_kept():
    late = accuracy.claims(claimed(0.05, last=accuracy.LATE), REPORTED)
    assert set(late[late["family"] != "C2"]["measure"]) == {accuracy.LATE}
    early = accuracy.claims(claimed(0.05), REPORTED)
    assert set(early[early["family"] != "C2"]["measure"]) == {accuracy.LAST}


def test_claims_give_the_reported_difference_where_the_paper_has_one():
    reported = accuracy.claims(claimed(0.05), REPORTED).set_index(["family", "against"])["reported"]
    assert reported["C1", "fedavg"] == pytest.approx(0.1)  # 0.85 - 0.75
    assert reported.drop(("C1", "fedavg")).isna().all()
    assert accuracy.claims(claimed(0.05))["reported"].isna().all()


def test_an_arm_that_did_not_run_is_not_asked_about():
    results = claimed(0.05)
    rows = accuracy.claims(results[results["arm"] != "self"])
    assert len(rows) == ASKED - 1 and "self" not in set(rows["against"])


def test_claims_as_markdown_state_points_intervals_and_answers():
    costs = pd.DataFrame({"seed": [0, 1], "arm": ["dml", "dml"], "cpu_s": [10.0, 14.0]})
    costs = pd.concat([costs, *(costs.assign(arm=arm) for arm in OTHERS)])
    text = markdown.claims(claimed(0.05), costs, REPORTED, "a title")
    lines = text.splitlines()
    assert "a title" in lines[0] and "n = 8" in lines[0] and "within 0.5 points" in lines[0]
    (row,) = [line for line in lines if line.startswith("| `dml`")]
    assert "85.00" in row and "75.05" in row and "12" in row
    (row,) = [line for line in lines if line.startswith("| C1 | `fedavg` |")]
    assert "+10.00" in row and "+5.05" in row and "| 8 of 8 |" in row and "| **held** |" in row
    tables = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in tables[: 2 + 7]}) == 1 and "nan" not in text.lower()


def test_claims_as_markdown_of_one_seed_claim_no_interval():
    costs = pd.DataFrame({"seed": 0, "arm": ["dml", *OTHERS], "cpu_s": 1.0})
    text = markdown.claims(claimed(0.05, 1), costs, REPORTED.iloc[:0], "one")
    rows = [line for line in text.splitlines() if line.startswith(("| `", "| C", "| m"))]
    assert len(rows) == 7 + ASKED and not any("[" in row or "nan" in row.lower() for row in rows)
    assert text.count("| **open** |") == ASKED
