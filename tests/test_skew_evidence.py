"""The map, the gains by model and the verdict rows, from small tables whose answers are known."""

import re

import numpy as np
import pandas as pd
import pytest

from dml.evidence import mixed, pictures, relatives
from dml.evidence.predictions import answered
from dml.evidence.skew import (
    ABOVE,
    BELOW,
    EQUAL,
    UNDECIDED,
    fields_of,
    judged,
    skew_map,
    state,
)
from dml.evidence.skew_text import advice, def_kt, finding, on_record, same, text
from dml.evidence.skew_text import judged as judged_on_record
from dml.plots import mixed as drawing_models
from dml.plots import relatives as drawing_relatives
from dml.plots import skew as drawing
from dml.studies.skew import CELLS, COSTS, METRICS, RESULTS

HIGH = "label_alpha 0.1; public_fold balanced"
BLIND = "label_alpha 0.1; public_fold unlabelled"
MIXED = "label_alpha inf; models visionnet,resnet8"
WOBBLE = (0.0, 0.002, -0.002, 0.001)


@pytest.fixture
def tables():
    """Four seeds, two clients; labelled DML is 2 points under fedavg+public, unlabelled 10 points over local."""
    means = {
        HIGH: {"dml": 0.90, "local": 0.70, "local+public": 0.85, "fedavg": 0.60, "fedavg+public": 0.92},
        BLIND: {"dml": 0.80},
        MIXED: {"dml": 0.91, "local+public": 0.90},
    }
    means[HIGH] |= {"def-kt": 0.93, "def-kt, only moved": 0.929}
    rows = []
    for cell, arms in means.items():
        for place, (arm, mean) in enumerate(arms.items()):
            for seed, wobble in enumerate(WOBBLE):
                for client in (0, 1):
                    gain = 0.04 if cell == MIXED and arm == "dml" and client == 1 else 0
                    value = mean + gain + wobble * (place % 2) + (0.01 if client else -0.01)
                    rows.append((cell, seed, arm, client, "unseen accuracy", value))
    cells = [
        (cell, seed, c, 100, 0.0 if cell == MIXED else 0.38) for cell in means for seed in range(4) for c in (0, 1)
    ]
    return pd.DataFrame(rows, columns=RESULTS), pd.DataFrame(cells, columns=CELLS)


def test_the_map_compares_with_the_best_rule_of_the_cell_or_of_its_twin(tables):
    found = skew_map(*tables).set_index("cell")
    assert list(found.index) == [HIGH, BLIND]  # a cell of models is no place on this map
    high, blind = found.loc[HIGH], found.loc[BLIND]
    assert (high["against"], high["state"], high["best"], high["n"]) == ("fedavg+public", BELOW, "fedavg+public", 4)
    assert high["mean"] == pytest.approx(-0.02, abs=1e-3) and high["distance"] == pytest.approx(0.38)
    assert (blind["against"], blind["state"], blind["best"]) == ("local", ABOVE, "dml")  # not local+public: no labels
    assert blind["mean"] == pytest.approx(0.10, abs=1e-3)


def test_a_cell_that_repeats_the_deal_of_another_counts_once(tables, tmp_path):
    results, cells = tables
    names = {HIGH: HIGH.replace("0.1", "0.01")}
    again, shown = (table[table["cell"] == HIGH].replace({"cell": names}) for table in tables)
    both = pd.concat([results, again]), pd.concat([cells, shown])
    assert list(skew_map(*both)["cell"]) == [HIGH, BLIND] == list(skew_map(*tables)["cell"])
    (tmp_path / "skew").mkdir()
    both[1].to_csv(tmp_path / "skew" / "cells.csv", index=False)
    both[0].to_csv(tmp_path / "skew" / "results.csv.gz", index=False)
    assert same(tmp_path, skew_map(*both)) == " 1 more repeat the deal of another to the last image and are left out."
    other = pd.concat([results, again.assign(value=again["value"] + 0.001 * (again["seed"] == 3))]), both[1]
    other[0].to_csv(tmp_path / "skew" / "results.csv.gz", index=False)
    told = same(tmp_path, skew_map(*other))
    assert len(skew_map(*other)) == 3 and told.endswith("deal on some seeds (labelled and balanced: 3 of 4).")


def test_clients_that_hold_the_same_classes_are_no_case_of_skew(tables):
    results, cells = (table.replace({"cell": {HIGH: HIGH.replace("0.1", "inf")}}) for table in tables)
    assert judged((results[results["cell"] != BLIND], cells)) == []
    assert "| have the same mixture of classes |" in advice(skew_map(results, cells))


def test_states():
    assert [state(*bounds) for bounds in ((0.01, 0.02), (-0.02, -0.01), (-0.009, 0.009), (-0.02, 0.02))] == [
        ABOVE,
        BELOW,
        EQUAL,
        UNDECIDED,
    ]
    assert state(float("nan"), float("nan")) == UNDECIDED  # one seed
    assert fields_of(HIGH) == {"label_alpha": "0.1", "public_fold": "balanced"}


def test_gains_of_each_model_over_itself_the_weak_first(tables):
    table = mixed.gains(tables[0])
    assert table["kind"].tolist() == ["visionnet", "resnet8"] and table["n"].tolist() == [4, 4]
    assert table["mean"].tolist() == pytest.approx([0.01, 0.05], abs=1e-3)


def test_verdict_rows(tables):
    (third,), (fourth,) = judged(tables), mixed.judged(tables)
    assert third["claim"] == "F3" and "without labels, 0.380 apart" in third["held"]
    assert third["refuted"] == "labelled and balanced, 0.380 apart" and third["open"] == ""
    assert third["short"] == "2 regimes of skew, n = 4: above 1, below 1, equal 0, undecided 0"
    assert fourth["claim"] == "F4" and "resnet8" in fourth["held"] and "n = 4" in fourth["short"]


def test_the_table_of_advice_and_the_figures(tables):
    lines = advice(skew_map(*tables)).splitlines()
    assert (
        len(lines) == 4
        and "are 0.380 apart from the whole" in lines[2]
        and "`fedavg+public` rather than DML" in lines[2]
    )
    assert "without labels" in lines[3] and "DML rather than `local` |" in lines[3] and lines[3].endswith("| 4 |")
    for draw in (drawing.the_map, drawing_models.who_gains, drawing.relatives):
        drawn = draw(*tables, "drawn for a test")
        assert drawn.png and len(drawn.table) and "drawn for a test" in drawn.caption


def test_a_study_on_record_is_told_in_words(tables, tmp_path):
    assert finding(tmp_path) == "" and on_record(tmp_path)[0] == "Nothing is on record yet."
    assert text(tmp_path).startswith("Nothing is on record yet.")
    results, cells = tables
    folder = tmp_path / "skew"
    folder.mkdir()
    results.to_csv(folder / "results.csv.gz", index=False)
    cells.to_csv(folder / "cells.csv", index=False)
    results[["cell", "seed", "arm"]].drop_duplicates().to_csv(folder / "costs.csv", index=False)
    told = finding(tmp_path)
    assert told.startswith("reduced protocol, n = 4 seeds each; interim: 40 of 1,928 runs planned. A regime is")
    counted = "in 1, below it in 1, within a point in 0, undecided in 0."
    assert f"Of the 2 in which clients differ, DML is above the best arm that exchanges no outputs {counted}" in told
    assert "are alike" not in told
    table = on_record(tmp_path)[1]
    assert re.search(r"apart from the whole \| without labels \|.* \+9\.98 \[.* to `local` \|", table)
    assert re.search(r"apart from the whole \| labelled and balanced \|.* -2\.0\d \[", table)
    assert on_record(tmp_path)[0].startswith("Reduced protocol") and "DML so far" in on_record(tmp_path)[1]
    (row,) = judged_on_record(tmp_path)
    assert row["claim"] == "F3" and row["held"] == row["refuted"] == "" and "without labels" in row["open"]
    assert row["short"].startswith("interim: 40 of 1,928 runs planned; 2 regimes of skew")
    own = results.assign(metric="unseen personal accuracy", value=1 - results["value"])  # where DML was best, it is not
    more = [results.assign(metric=metric) for metric in METRICS if "accuracy" not in metric]
    pd.concat([results, own, *more]).to_csv(folder / "results.csv.gz", index=False)
    costs = results[["cell", "seed", "arm"]].drop_duplicates()
    costs.assign(**dict.fromkeys(COSTS[3:8], 1.0)).to_csv(folder / "costs.csv", index=False)
    assert text(tmp_path).startswith("**Interim: 40 of") and "| P1 |" not in text(tmp_path)
    assert "own classes DML is, of 2, above the best of them in 0, below it in 2, within" in finding(tmp_path)
    own_part = text(tmp_path).partition("### On each client's own classes")[2].partition("###")[0]
    assert "| 0.380 | labelled and balanced | 10.0 | below |" in own_part and "to `fedavg` | 4 |" in own_part
    regimes = text(tmp_path).partition("**Every main arm in every regime**")[2].partition("**Clients of")[0]
    assert regimes.count("| 0.1 | `") == 6 and "| labelled and balanced | 0.1 | `dml` | 90.0 | 10.0 |" in regimes


@pytest.mark.parametrize(("taught", "status"), [(0.001, "held"), (0.03, "refuted"), (-0.03, "refuted")])
def test_def_kt_is_judged_by_its_prediction(taught, status, tmp_path, monkeypatch):
    rows = [
        (
            f"label_alpha {alpha}; public_fold balanced",
            seed,
            arm,
            0,
            "unseen accuracy",
            0.9 + gain + 0.01 * seed + wobble,
        )
        for alpha in ("0.1", "0.01")
        for seed, wobble in enumerate(WOBBLE)
        for arm, gain in (("def-kt", taught + wobble / 4), ("def-kt, only moved", 0.0))
    ]
    assert def_kt(tmp_path) == []
    results, folder = pd.DataFrame(rows, columns=RESULTS), tmp_path / "skew"
    folder.mkdir()
    results.to_csv(folder / "results.csv.gz", index=False)
    results[["cell", "seed", "arm"]].to_csv(folder / "costs.csv", index=False)
    (interim,) = def_kt(tmp_path)
    assert interim["open"] and interim["held"] == interim["refuted"] == ""
    assert interim["short"].startswith(
        "interim: 16 of 1,928 runs planned; points, n = 4: Def-KT minus models that only"
    )
    monkeypatch.setattr("dml.evidence.skew_text.state", lambda *_: "")
    (row,) = def_kt(tmp_path)
    assert row["claim"] == "O2" and row[status].startswith("Def-KT minus its control") and row["short"].endswith(status)


def test_different_models_are_told_with_every_stand_in(tmp_path):
    """Five points over one's own kind alone where clients are alike; under skew below FedAvg with one model for all."""
    assert list(mixed.lines(tmp_path)) == [mixed.NOTHING] and mixed.brief(tmp_path) == ""
    models, one = "models visionnet,resnet8; clients 10", "models visionnet; clients 10"
    arms = {
        f"label_alpha inf; {models}": {"dml": 0.90, "local+public": 0.85, "feddf+labels": 0.80},
        f"label_alpha 0.1; {models}": {"dml": 0.60, "local+public": 0.70, "fedavg+public": 0.75},
        f"label_alpha 0.1; {one}": {"dml": 0.55, "fedavg+public": 0.92},
    }
    rows = [
        (cell, seed, arm, client, "unseen accuracy", mean + client / 100 + wobble * (place % 2))
        for cell, means in arms.items()
        for place, (arm, mean) in enumerate(means.items())
        for seed, wobble in enumerate(WOBBLE)
        for client in range(4)
    ]
    (tmp_path / "models").mkdir()
    results = pd.DataFrame(rows, columns=RESULTS)
    results.to_csv(tmp_path / "models" / "results.csv.gz", index=False)
    head, _, _, _, _, _, _, _, alike, skewed, all_one, *gains = mixed.lines(tmp_path, "interim: 3 of 144 runs planned")
    assert head.startswith("**Interim: 3 of 144 runs planned; decides nothing.**")
    assert (
        alike.startswith("| 2 kinds of model, classes alike | 91.5 |  | 86.5 |") and "to `local+public` | 4 |" in alike
    )
    assert skewed.startswith("| 2 kinds of model, Dirichlet 0.1 | 61.5 |") and "-32.0" in skewed
    assert skewed.endswith("to `fedavg+public`, all visionnet | 4 |") and all_one.startswith("| all visionnet, Dir")
    assert [line.split(" | ")[:2] for line in gains[3:]] == [
        [f"| {kind}", f"2 kinds of model, {where}"]
        for where in ("classes alike", "Dirichlet 0.1")
        for kind in ("visionnet", "resnet8")
    ]
    told = "above `local+public`: alike 2 of 2; skewed 0 of 2, below 2 (4 seeds, Holm{})."
    assert mixed.brief(tmp_path) == told.format("") and mixed.brief(tmp_path, True) == told.format(", interim")
    (row,) = mixed.judged((results, None))
    assert row["held"] == "visionnet (2 kinds of model, classes alike), resnet8 (2 kinds of model, classes alike)"
    assert row["short"].endswith(
        "classes alike: 2 above, 0 below, 0 undecided; 2 kinds of model, Dirichlet 0.1: 0 above, 2 below, 0 undecided"
    )


def test_relatives_stand_beside_dml_on_the_seeds_that_all_of_them_have(tables, tmp_path):
    """Accuracy, own mixture, worst client, bytes; arms that need no public fold come from its labelled twin, and the
    clipped DML from its own cell.
    """
    results, clipped = tables[0], f"{HIGH}; clip 0.02"
    results = results[(results["arm"] != "def-kt") | (results["seed"] != 3)]  # a seed that one arm lacks
    parts = [results, results[(results["cell"] == HIGH) & (results["arm"] == "dml")].assign(cell=clipped)]
    right = pd.concat(parts)
    more = [right.assign(metric=metric, value=right["value"] / 2) for metric in METRICS if metric != "unseen accuracy"]
    everything = pd.concat([right, *more])
    costs = right[["cell", "seed", "arm"]].drop_duplicates().assign(up=100.0, down=200.0, setup=1000.0, epochs=40)
    found = relatives.beside(everything, costs, "0.1", "balanced")
    assert list(found["arm"][:2]) == ["def-kt", "def-kt, only moved"] and (found["n"] == 3).all()
    rows = found.set_index("arm")
    assert set(rows.index) == {*results.loc[results["cell"] == HIGH, "arm"], "dml, clipped"}
    mine, other = rows.loc["dml"], rows.loc["fedavg"]
    assert mine["accuracy"] == pytest.approx(0.90) and mine["personal"] == pytest.approx(0.45)
    assert mine["worst"] == pytest.approx(0.89) and mine["mean"] == 0 and rows.loc["dml, clipped", "mean"] == 0
    assert other["mean"] == pytest.approx(0.30) and 0.29 < other["low"] < 0.30 < other["high"] < 0.31
    assert mine[["up", "down", "setup", "epochs"]].tolist() == [100, 200, 1000, 40]
    blind = relatives.beside(everything, costs, "0.1", "unlabelled")
    assert list(blind["arm"]) == ["dml", "local", "fedavg"] and (blind["n"] == 4).all()
    drawn = drawing_relatives.by_relative(everything, costs, "drawn for a test")
    assert len(drawn.table) == len(found) + len(blind) and "n = 3 to 4 seeds" in drawn.caption
    assert drawing_relatives.by_relative(everything.iloc[:0], costs, "nothing yet").table.empty
    assert list(relatives.lines(tmp_path)) == [relatives.NOTHING]


def test_clients_of_unequal_size_stand_beside_those_of_equal_size(tables, tmp_path):
    results = tables[0]
    unequal = results[(results["cell"] == HIGH) & results["arm"].isin(("dml", "local+public"))]
    unequal = unequal.assign(cell=f"{HIGH}; size_alpha 0.5", value=unequal["value"] - 0.1 * (unequal["arm"] == "dml"))
    both = pd.concat([results, unequal])
    more = [both.assign(metric=metric) for metric in METRICS if metric != "unseen accuracy"]
    (tmp_path / "skew").mkdir()
    pd.concat([both, *more]).to_csv(tmp_path / "skew" / "results.csv.gz", index=False)
    costs = both[["cell", "seed", "arm"]].drop_duplicates().assign(up=1.0, down=1.0, setup=1.0, epochs=1)
    costs.to_csv(tmp_path / "skew" / "costs.csv", index=False)
    *others, line = relatives.lines(tmp_path)
    (control,) = [row for row in others if row.startswith("| 0.1 | `def-kt, only moved`")]
    assert control.endswith("merely moves | +0.13 [-0.15, +0.40] | 4 |")
    assert line.strip("| ").split(" | ")[:4] == ["Dirichlet 0.1", "80.0", "`local+public`", "-5.00 [-5.00, -5.00]"]
    assert line.endswith("| +5.00 [+5.00, +5.00] | -10.00 [-10.00, -10.00] | 4 |")


def test_pictures_that_differ_are_told_of_with_their_own_predictions(tmp_path):
    assert list(pictures.lines(tmp_path)) == [pictures.NOTHING]
    cells = {f"label_alpha inf; feature_skew {ramp}": 0.0 for ramp in pictures.RAMPS}
    cells |= {"label_alpha inf; public_fold other": 0.06, "label_alpha 0.1; public_fold other": 0.06}
    rows = [
        (cell, seed, arm, 0, "unseen accuracy", 0.8 + wobble + (gain if arm == "dml" else 0) + 0.07 * (arm == "fedavg"))
        for cell, gain in cells.items()
        for seed, wobble in enumerate(WOBBLE)
        for arm in pictures.ARMS
    ]
    noise = np.random.default_rng(0).normal(0, 0.001, len(rows)) + [row[-1] for row in rows]
    results = pd.DataFrame([(*row[:-1], value) for row, value in zip(rows, noise, strict=True)], columns=RESULTS)
    answers = {name: answer for name, (answer, _) in answered(pictures.asked(results)).items()}
    assert answers == {"P10": "held", "P11": "held", "P12": "held"}
    half = results[results["cell"].str.contains("other")]
    assert {name: answer for name, (answer, _) in answered(pictures.asked(half)).items()}["P10"] == "not run"
    (tmp_path / "pictures").mkdir()
    results.to_csv(tmp_path / "pictures" / "results.csv.gz", index=False)
    page = list(pictures.lines(tmp_path, "interim: 4 of 8"))
    assert page[0].startswith("**Interim: 4 of 8; decides nothing.** Reduced")
    (line,) = [line for line in page if line.startswith("| photographs, public images drawn | Dirichlet 0.1 |")]
    means = results[results["cell"].str.contains("0.1; public_fold other")].groupby("arm")["value"].mean()
    assert [part.strip() for part in line.split("|")[3:9]] == [f"{100 * means[arm]:.1f}" for arm in pictures.ARMS]
    assert line.endswith("to `fedavg` | 4 |")
    results[["cell", "seed", "arm"]].to_csv(tmp_path / "pictures" / "costs.csv", index=False)
    assert "**Interim: 120 of 320 runs planned; decides" in text(tmp_path) and judged_on_record(tmp_path) == []
