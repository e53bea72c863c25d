"""The answers of the analysis plan: each computed another way, and each status reached."""

import gzip
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dml.config import RECORDED
from dml.evidence import accuracy, beside, confirmatory, repeated, study_text
from dml.evidence import tuned as tuned_text
from dml.evidence.about import read
from dml.evidence.answers import HELD, OPEN, REFUTED
from dml.plots import studies
from dml.stats import Estimate, holm_corrected, paired
from dml.studies import tuned
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
                rows += [(seed, arm, round_index, c, "unseen sample accuracy", v - 0.1) for c, v in enumerate(shares)]
            for metric in METRICS:
                rows += [(seed, arm, 12, c, metric, rng.uniform(0.1, 0.2) + place / 100) for c in range(5)]
    folder = tmp_path / "published"
    folder.mkdir()
    results = pd.DataFrame(rows, columns=["seed", "arm", "round", "client", "metric", "value"])
    results.to_csv(folder / "results.csv.gz", index=False)
    pairs = results[["seed", "arm"]].drop_duplicates()
    costs = pairs.assign(processor=pairs["seed"].map(lambda seed: "A" if seed == 8 else "B"))
    costs.to_csv(folder / "costs.csv", index=False)
    (folder / "manifest.json").write_text('{"unseen_copies": [3, 7]}')
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
    both = confirmatory.by_seed_and_image(shares, SEEDS, ("local", "fedavg"))
    assert np.array_equal(both[1], differences)
    low, high = confirmatory.crossed(both)[1]
    assert low < differences.mean() < high
    assert confirmatory.crossed(both[1:])[0] == pytest.approx([low, high])  # the draws do not depend on the company
    same = np.repeat(differences.mean(axis=1, keepdims=True), IMAGES, axis=1)  # no image differs from another
    ((first, last),) = confirmatory.crossed(same[None])
    assert high - low > last - first > 0


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


@pytest.fixture
def kinds(record):
    """Seeds that were seen before, seeds that are fresh, and DML minus FedAvg of each in the sample of images."""
    study, results, _, _ = record
    fresh = confirmatory.complete(results, study, SEEDS)
    before = fresh[fresh["seed"].isin((9, 10, 11))].copy()
    sample = before["metric"] == "unseen sample accuracy"
    before.loc[sample & (before["arm"] == "dml"), "value"] -= 0.05
    tables = (table[table["metric"] == "unseen sample accuracy"] for table in (before, fresh))
    gaps = (table.groupby(["seed", "arm"])["value"].mean().unstack() for table in tables)
    return before, fresh, [(gap["dml"] - gap["fedavg"]).to_numpy() for gap in gaps]


def test_seeds_before_the_plan_stand_beside_with_an_interval_of_their_own(kinds):
    before, fresh, (first, second) = kinds
    found = beside.kinds(before, fresh)
    gap, welch = found["DML minus `fedavg`"], stats.ttest_ind(second, first, equal_var=False)
    assert gap.before.tolist() == pytest.approx(first.tolist()) and gap.fresh.tolist() == pytest.approx(second.tolist())
    assert gap.apart.mean == pytest.approx(second.mean() - first.mean()) and gap.p == pytest.approx(welch.pvalue)
    assert (gap.apart.low, gap.apart.high) == pytest.approx(tuple(welch.confidence_interval()))
    assert gap.both.mean == pytest.approx(np.concatenate([first, second]).mean()) and gap.both.n == 7
    assert found["DML minus `self`"].both.n == 7 and len(found) == 9
    last = found["the same to `fedavg`, last round, all images"]
    assert last.before.tolist() == pytest.approx(last.fresh.loc[[9, 10, 11]].tolist())
    assert found["`dml` itself, %"].apart.mean > found["`fedavg` itself, %"].apart.mean


def test_seeds_of_several_machines_are_told_apart_and_repeated_ones_compared(record, kinds):
    _, _, _, folder = record
    before, fresh, _ = kinds
    costs, gap = pd.read_csv(folder / "published" / "costs.csv"), beside.gap(before, fresh, "fedavg")
    apart = beside.by_machine(gap, "C", costs)
    assert {name: list(part.index) for name, part in apart.items()} == {"C": [9, 10, 11], "A": [8], "B": [9, 10, 11]}
    assert apart["B"].tolist() == pytest.approx(gap.fresh.loc[[9, 10, 11]].tolist())
    costs.loc[(costs["seed"] == 9) & (costs["arm"] == "fedavg"), "processor"] = "A"
    assert list(beside.by_machine(gap, "C", costs)["two machines"].index) == [9]
    devices = folder / "devices"
    devices.mkdir()
    repeated = fresh[fresh["seed"].isin((9, 10, 11)) & fresh["arm"].isin(("dml", "fedavg"))].copy()
    repeated = repeated[(repeated["seed"] != 11) | (repeated["arm"] == "dml")]  # of which FedAvg is not done
    repeated.loc[repeated["arm"] == "dml", "value"] -= 0.01
    repeated.to_csv(devices / "results.csv.gz", index=False)
    told = study_text.text(folder)
    assert f"(exploratory) -0.25 [-1.09, +0.58] (n = 8); A {100 * gap.fresh[8]:+.2f} (n = 1); B " in told
    assert "as well (2 of 8), GPU minus CPU: `dml` +1.00 [+1.00, +1.00] (n = 2); `fedavg` +0.00" in told
    assert "in bf16" not in told
    devices.rename(folder / "precision")
    kept = costs[costs["seed"].isin((9, 10)) & costs["arm"].isin(("dml", "fedavg"))]  # in float32 on B
    kept = kept.assign(processor="B").set_index(["seed", "arm"])
    kept.loc[(9, "fedavg"), "processor"] = "C"
    kept.to_csv(folder / "precision" / "costs.csv")
    told = study_text.text(folder)
    assert "The same seeds in bf16 as well (1 of 5), float32 minus bf16: `dml` +1.00 (n = 1); `fedavg` +0.00" in told
    kept.assign(processor="C").to_csv(folder / "precision" / "costs.csv")
    assert "bf16" not in study_text.text(folder)


def test_earlier_seeds_once_more_say_whether_the_machine_moves_them_and_whether_the_kinds_are_apart_on_it(record):
    _, results, _, folder = record
    sample = read(RECORDED / "paper-facemask", "results").query("metric == 'unseen sample accuracy'")
    again = sample[sample["arm"].isin(("dml", "fedavg"))].copy()
    again.loc[again["arm"] == "dml", "value"] -= 0.01
    (folder / "earlier").mkdir()
    again.to_csv(folder / "earlier" / "results.csv.gz", index=False)
    again[["seed", "arm"]].drop_duplicates().assign(processor="B").to_csv(folder / "earlier" / "costs.csv", index=False)
    told = study_text.text(folder)
    assert "as well (8 of 8), in that sample, CPU minus GPU: `dml` +1.00 [+1.00, +1.00] (n = 8); `fedavg` +0.00" in told
    fresh = results[(results["metric"] == "unseen sample accuracy") & results["seed"].isin((9, 10, 11))]
    late = again[again["round"] > again["round"].max() - plan().late_rounds]
    first, second = (
        each.groupby(["seed", "arm"])["value"].mean().unstack().eval("dml - fedavg") for each in (late, fresh)
    )
    welch = stats.ttest_ind(second, first, equal_var=False)
    low, high = welch.confidence_interval()
    assert f"on the B: DML minus `fedavg` {100 * first.mean():+.2f} [" in told and "(n = 3) of confirmatory" in told
    apart = f"apart by {100 * (second.mean() - first.mean()):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
    assert f"{apart}, p = {welch.pvalue:.2g} (" in told
    assert "So machine and versions move the difference, and the two kinds of seed are apart there." in told
    costs = again[["seed", "arm"]].drop_duplicates().assign(processor="D")  # no confirmatory seed is of that GPU
    costs.to_csv(folder / "earlier" / "costs.csv", index=False)
    assert "exploratory seeds on a GPU" not in study_text.text(folder)


@pytest.mark.parametrize(
    ("low", "high", "shift", "expected"),
    [
        (-0.01, 0.01, 0.0, "are not shown to move the difference, and the two kinds of seed are not shown to be apart"),
        (-0.02, -0.01, 0.0, "versions move the difference, and the two kinds of seed are not shown to be apart there"),
        (-0.01, 0.01, 1.0, "are not shown to move the difference, and the two kinds of seed are apart there."),
    ],
)
def test_nothing_shown_is_not_called_nothing(low, high, shift, expected):
    kinds = beside.Kinds(*(pd.Series([0.0, 0.1, 0.2, 0.3]) + each for each in (0.0, shift)))
    assert expected in repeated.shown(Estimate((low + high) / 2, low, high, 8), kinds)


def test_accuracy_without_copies_leaves_them_out(record):
    _, _, right, folder = record
    shares = confirmatory.by_image(right)
    kept = [image for image in range(IMAGES) if image not in (3, 7)]
    gaps = [(shares[seed, "dml"] - shares[seed, "fedavg"])[kept].mean() for seed in SEEDS]
    assert confirmatory.without(shares, SEEDS, [3, 7], "fedavg").mean == pytest.approx(np.mean(gaps))
    assert f"the 2 that are exact copies of another one: {100 * np.mean(gaps):+.2f} [" in study_text.text(folder)


def test_tuned_arms_are_told_of_once_all_their_runs_are_on_record(record):
    _, results, _, folder = record
    few = replace(plan().tuned, arms=("dml", "local+public"), public_epochs=(1, 3), learning_rates=(0.001,))
    few = replace(few, run_on=range(8, 11))
    rows = [
        (arm, epochs, 0.001, seed, 12, metric, 0.9 + lift * (epochs == best) + 0.01 * (arm == "dml") * (seed % 2))
        for arm, best in (("dml", 3), ("local+public", 1))
        for epochs in (1, 3)
        for seed in (0, 1, *([8, 9, 10] if epochs == best else []))
        for metric, lift in (("validation accuracy", 0.05), ("late unseen accuracy", 0.02))
    ]
    table = pd.DataFrame(rows, columns=[*tuned.KEY, "round", "metric", "value"])
    (folder / "tuned").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for module in (tuned, tuned_text):
            patch.setattr(module, "plan", lambda: replace(plan(), tuned=few))
        table[table["seed"] < 10].to_csv(folder / "tuned" / "results.csv", index=False)
        (told,) = tuned_text.text(folder / "tuned", results)
        assert "seeds 0 and 1): 8 of 8 runs that choose and 4 of 6 with what was chosen" in told
        assert (tuned_text.brief(folder / "tuned", results), tuned_text.on_record(folder / "tuned", results)) == (
            "",
            [],
        )
        table.to_csv(folder / "tuned" / "results.csv", index=False)
        first, _, _, _, dml, local = tuned_text.text(folder / "tuned", results)
        few_words, (paragraph,) = (tell(folder / "tuned", results) for tell in (tuned_text.brief, tuned_text.on_record))
    assert "6 of 6" in first and "| `dml` | 3 | 0.001 | " in dml and dml.endswith(" |  |  |")
    late = accuracy.values(results, "late unseen accuracy").loc[[8, 9, 10], "local+public"]
    assert f"| `local+public` | 1 | 0.001 | {100 * (0.92 - late).mean():+.2f} [" in local
    usual = accuracy.values(results, "late unseen accuracy").loc[[8, 9, 10], "dml"] - 0.92
    assert "| +0.33 [" in local and f" | {100 * usual.mean():+.2f} [" in local and local.endswith("(n = 3) |")
    assert few_words.startswith(f"Published, `local+public` tuned: DML {100 * usual.mean():+.2f} [")
    assert re.search(r"\], tuned \+0\.33 \[\S+ \S+\] \(3\)\.$", few_words)
    assert "n = 3, without a verdict. DML minus `local+public` +0.33 [" in paragraph
    gain = accuracy.values(results, "late unseen accuracy").loc[[8, 9, 10], "dml"].rsub(0.92).mean() + 0.01 / 3
    assert f"minus DML as published {100 * gain:+.2f} [" in paragraph
    known = accuracy.values(results, "validation accuracy").loc[[8, 9, 10], "local+public"]
    private = 0.95 - known.mean()  # of its own choice, a constant
    assert f"| {100 * private:+.2f} [" in local and " of these seeds +" in paragraph
    assert f"others' choices: minus `local+public` {100 * usual.mean():+.2f} [" in paragraph
    assert list(tuned_text.text(folder / "none", results)) == []


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
