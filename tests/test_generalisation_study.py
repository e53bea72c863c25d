"""The study of two gaps: its plan, how it comes on record and goes on, and what is said of its tables."""

import json
import re
from dataclasses import replace
from math import inf

import numpy as np
import pandas as pd
import pytest

from dml.config import DATA
from dml.evidence import gap_predictions, generalisation_text
from dml.evidence import generalisation as evidence
from dml.files import read_table
from dml.generalisation import federations
from dml.generalisation.supersample import Design
from dml.pipeline import newcomers
from dml.pipeline.run import Run
from dml.plots.generalisation import gaps as drawn_gaps
from dml.studies import generalisation as study
from dml.studies import tables
from dml.studies.generalisation import COMMON, ERRORS, GAPS, KEY, OUT_OF_SAMPLE, OWN, PARTICIPATION, Grid, Plan

# -- the plan ---------------------------------------------------------------------------------------------------------


def test_the_plan_asks_for_what_its_words_say():
    told, text = study.plan(), (DATA / "plan_generalisation.md").read_text(encoding="utf-8")
    first, control, more = told.grids
    assert (first.design.label_alpha, control.design.label_alpha, more.design.label_alpha) == (1.0, None, 1.0)
    assert [first.seeds, control.seeds, more.seeds] == [range(100, 103), range(100, 103), range(103, 108)]
    assert first.arms == more.arms and set(first.arms) > set(control.arms)
    assert {"dml", "fedavg", "local", "self", "def-kt"} == set(control.arms)
    assert (first.design.pairs, first.design.runs, first.design.rows) == (5, 32, 36) and "36 rows" in text
    assert first.design.rows // told.base.rounds == 12 and "12 a round" in text
    assert (study.planned(1.0), study.planned(inf)) == (8, 3) and told.margin == 0.005
    experiment = first.design.experiment(told.base)
    assert (experiment.clients, experiment.train_share, experiment.glance, experiment.size) == (5, 1.0, 0, 40)


# -- computing it -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(sandbox, no_workers):
    """Two draws of two arms, four runs each, on 20 pixels."""
    design = Design(pairs=2, rows=2, public=4, label_alpha=1.0)
    return Plan("faces", sandbox.experiment, 0.005, (Grid(design, range(2), ("dml", "fedavg")),))


def test_a_study_comes_on_record_and_goes_on_where_it_stopped(tiny, tmp_path, monkeypatch):
    folder = study.carry_out([0], "cpu", tmp_path, tiny)
    names = {"masks.csv.gz", "losses.csv.gz", "errors.csv", "gaps.csv", "costs.csv", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == names
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(study.jobs, "carry_out", lambda listed: pytest.fail("computed again"))
        study.carry_out([0], "cpu", tmp_path, tiny)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    head, arm, _ = (folder / "costs.csv").read_text().splitlines(keepends=True)
    (folder / "costs.csv").write_text(head + arm)  # killed before the last table of an arm
    monkeypatch.setattr(federations, "measure", lambda *_: pytest.fail("trained again"))
    study.carry_out([0], "cpu", tmp_path, tiny)
    again = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: again[name] for name in names - {"manifest.json"}} == {
        name: first[name] for name in names - {"manifest.json"}
    }


@pytest.fixture
def on_disk(tiny, tmp_path):
    return study.carry_out(device="cpu", to=tmp_path, chosen=tiny)


def test_gaps_and_errors_follow_from_the_losses_on_record(on_disk):
    """By the definitions, cell by cell, from the two tables of digits alone."""
    texts = dict.fromkeys(("vector", "mask", "own_losses", "net_losses"), str)
    masks, losses, errors, gaps = (
        pd.read_csv(on_disk / name, dtype=texts) for name in ("masks.csv.gz", "losses.csv.gz", "errors.csv", "gaps.csv")
    )
    assert len(masks) == 2 * 4 and len(losses) == 2 * 2 * 4 and len(errors) == 2 * 16
    for (seed, arm), of_arm in losses.groupby(["seed", "arm"]):
        inside, outside, trained_wrong = [], [], []
        for run in of_arm.itertuples():
            told = masks[(masks["seed"] == seed) & (masks["run"] == run.run)].iloc[0]
            for pair in (0, 1):
                member = int(told["vector"][pair])
                for row in (0, 1):
                    here, there = (int(told["mask"][(pair * 2 + side) * 2 + row]) for side in (member, 1 - member))
                    own = [int(run.own_losses[(pair * 2 + row) * 2 + column]) for column in (0, 1)]
                    absent = int(run.net_losses[((pair * 2 + 1 - member) * 2 + row) * 2 + 1 - there]) / 2
                    trained_wrong.append(own[here])
                    inside.append(own[1 - here] - own[here])
                    outside.append(absent - own[1 - here])
        rows = gaps[(gaps["seed"] == seed) & (gaps["arm"] == arm) & (gaps["asked"] == OWN) & (gaps["way"] == "pooled")]
        measured = rows[rows["form"] == "measured"].set_index("gap")["value"]
        assert measured[OUT_OF_SAMPLE] == pytest.approx(np.mean(inside), abs=1e-6)
        assert measured[PARTICIPATION] == pytest.approx(np.mean(outside), abs=1e-6)
        own_errors = errors[(errors["seed"] == seed) & (errors["arm"] == arm) & (errors["loss"] == "0/1")]
        assert own_errors["trained"].mean() == pytest.approx(np.mean(trained_wrong), abs=1e-6)


def test_the_gaps_on_record_are_those_of_the_digits_byte_for_byte(on_disk):
    before = (on_disk / "gaps.csv").read_bytes()
    (on_disk / "gaps.csv").unlink()
    masks, losses = (read_table(on_disk / study.FILES[name]) for name in ("masks", "losses"))
    for key, of_arm in losses.groupby(KEY, sort=False):
        of_draw = masks[(masks[study.DRAW] == pd.Series(key[:2], study.DRAW)).all(axis=1)]
        tables.add(on_disk / "gaps.csv", study.gaps_of(of_arm, of_draw, key), KEY)
    assert (on_disk / "gaps.csv").read_bytes() == before


def test_the_tables_and_the_costs_are_in_order(on_disk):
    costs, gaps = pd.read_csv(on_disk / "costs.csv"), pd.read_csv(on_disk / "gaps.csv")
    assert costs[KEY].to_numpy().tolist() == [[1.0, s, arm] for s in (0, 1) for arm in ("dml", "fedavg")]
    assert (costs["cpu_s"] >= 0).all() and list(gaps.columns) == GAPS
    assert {"root", "variance", "fast", "binary", "measured"} <= set(gaps["form"])
    assert set(zip(gaps["gap"], gaps["asked"], strict=True)) == set(evidence.ASKED)
    told = json.loads((on_disk / "manifest.json").read_text())
    assert told["experiment"]["clients"] == 2 and told["designs"][0]["rows"] == 2


# -- what is said of it -----------------------------------------------------------------------------------------------


def record(folder, seeds, dml=(0.05, 0.10), fedavg=(0.02, 0.11), alpha=1.0):
    """Tables in which both gaps of an arm are known, with a wobble from draw to draw."""
    gaps, errors = [], []
    for seed in seeds:
        for arm, means in {"dml": dml, "fedavg": fedavg}.items():
            wobble = 0.001 * (seed % 2) * (arm == "dml")
            for gap, asked in evidence.ASKED:
                value = means[gap == PARTICIPATION] + wobble
                for way, form, scale in (("pooled", "measured", 1), ("pooled", "root", 2), ("cellwise", "root", 5)):
                    gaps.append((alpha, seed, arm, gap, asked, way, form, scale * value, 0.01))
            errors += [(alpha, seed, arm, run, loss, 0.1, 0.15, 0.2) for run in (0, 1) for loss in ("0/1", "log")]
    (folder / study.NAME).mkdir(exist_ok=True)
    tables = {"gaps": pd.DataFrame(gaps, columns=GAPS), "errors": pd.DataFrame(errors, columns=ERRORS)}
    for name, table in tables.items():
        table.to_csv(folder / study.NAME / f"{name}.csv", index=False)
    return tables["gaps"]


def test_the_verdict_rows_say_whether_each_gap_differs(tmp_path):
    assert evidence.verdict_lines(tmp_path) == []
    record(tmp_path, [100])
    assert evidence.verdict_lines(tmp_path) == []  # of one draw nothing follows
    record(tmp_path, range(100, 104))
    images, clients = evidence.verdict_lines(tmp_path)
    assert images[0] == "Smaller gap to images not trained on (C2)" and images[4] == clients[4] == "**open**"
    assert "interim, n = 4 of 8 planned outer draws: FedAvg +3.05 [" in images[3] and "FedAvg -0.95 [" in clients[3]
    record(tmp_path, range(100, 108))
    images, clients = evidence.verdict_lines(tmp_path)
    assert images[4] == "**refuted**" and clients[4] == "**held**"
    record(tmp_path, range(100, 108), dml=(0.02, 0.11))
    assert [line[4] for line in evidence.verdict_lines(tmp_path)] == ["**refuted**", "**refuted**"]  # as large
    assert "n = 8 outer draws: " in evidence.verdict_lines(tmp_path)[0][3]


def test_few_draws_that_differ_leave_it_open(tmp_path):
    gaps = record(tmp_path, [100, 101])
    wild = gaps["value"].where(~((gaps["arm"] == "dml") & (gaps["seed"] == 100)), 0.4)
    found = evidence.differences(gaps.assign(value=wild))
    assert {evidence.answer(one) for one in found.values()} == {"open"}


def test_the_p_values_are_those_of_two_comparisons(tmp_path):
    from scipy.stats import ttest_rel

    gaps = record(tmp_path, range(100, 103))
    noise = np.random.default_rng(0).normal(0, 0.01, len(gaps))
    gaps = gaps.assign(value=gaps["value"] + noise)
    found = evidence.differences(gaps)
    plain = []
    for key in found:
        wide = evidence.by_draw(gaps, *key, 1.0)
        plain.append(ttest_rel(wide["dml"], wide["fedavg"]).pvalue)
    small, large = sorted(plain)
    assert sorted(one.p for one in found.values()) == pytest.approx(sorted([2 * small, max(2 * small, large)]))


def test_a_summary_has_ratio_and_excess(tmp_path):
    table = evidence.summary(record(tmp_path, [100, 102])).set_index(["gap", "asked", "arm"])
    row = table.loc[OUT_OF_SAMPLE, OWN, "fedavg"]
    assert (row["mean"], row["bound"], row["floor"]) == pytest.approx((0.02, 0.04, 0.01))
    assert (row["excess"], row["ratio"], row["n"]) == pytest.approx((0.03, 2.0, 2))
    cellwise = evidence.summary(record(tmp_path, [100]), way="cellwise").set_index(["gap", "asked", "arm"])
    assert cellwise.loc[PARTICIPATION, COMMON, "dml"]["ratio"] == pytest.approx(5)


def test_the_page_prints_ratios_floors_and_orders_and_never_that_a_bound_held(tmp_path):
    record(tmp_path, range(100, 103))
    page = generalisation_text.text(tmp_path)
    assert "| `fedavg` | +2.00 [+2.00, +2.00] | 4.00 | 1.00 | 3.00 | 2.0 |" in page
    assert "By the size of the gap: `fedavg` < `dml`. By the estimate: `fedavg` < `dml`." in page
    assert "| `fedavg` | 4.00 (1.00) | 10.00 (1.00) |" in page
    whole = page + " ".join(evidence.on_record(tmp_path)) + evidence.__doc__
    assert not re.search(r"bounds? (is|are|was|were)? ?(held|holds|verified|confirmed)", whole)
    assert "interim, n = 3 of 8 planned outer draws" in page


def test_what_is_on_record_gives_the_three_errors(tmp_path):
    assert evidence.on_record(tmp_path)[0] == "Nothing is on record yet." == generalisation_text.text(tmp_path).strip()
    record(tmp_path, range(100, 108))
    head, table, _ = evidence.on_record(tmp_path)
    assert "images not trained on +3.05 [" in head and "clients that never took part -0.95 [" in head
    assert "| `dml` | 10.0 [10.0, 10.0] | 15.0 [15.0, 15.0] | 20.0 [20.0, 20.0] | 8 |" in table


def test_predictions_follow_from_the_tables(tmp_path):
    gaps = record(tmp_path, range(100, 108))
    found = gap_predictions.judged(gaps)
    assert found["P1"] == "held"  # 5 points against 2
    assert (found["P2"], found["P4"]) == ("open", "open")  # no Local, no control
    assert found["P3"] == "failed" and found["P6"] == "held"  # 10 against 11; bounds are twice the gaps
    assert found["P5"] == "failed"  # cellwise five times the gap, at a floor of one point
    assert set(gap_predictions.judged(gaps[gaps["seed"] < 107]).values()) == {"open"}  # interim
    turned = gaps.assign(value=gaps["value"].where(gaps["arm"] == "dml", 0.3))
    assert gap_predictions.judged(turned)["P1"] == "failed"
    control = pd.concat(
        gaps[gaps["arm"] == "dml"].assign(arm=arm, label_alpha=inf, value=lambda rows: 0.01 * (rows["seed"] % 2 - 0.5))
        for arm in ("dml", "fedavg", "local", "self", "def-kt")
    )
    assert gap_predictions.judged(pd.concat([gaps, control]))["P4"] == "held"
    local = gaps[gaps["arm"] == "fedavg"].assign(arm="local", value=0.4)
    assert gap_predictions.judged(pd.concat([gaps, local]))["P2"] == "held"


def test_the_figure_shows_both_levels_of_both_gaps(tmp_path):
    both = pd.concat([record(tmp_path, range(3)), record(tmp_path, range(3), alpha=inf)])
    drawn = drawn_gaps(both, "drawn for a test")
    assert len(drawn.table) == 2 * 2 * 2 and "n = 3 outer draws" in drawn.caption and "By construction" in drawn.caption
    assert set(drawn.table["asked"]) == {OWN} and drawn.png


# -- the notebook's run -----------------------------------------------------------------------------------------------


def test_a_run_takes_as_many_rows_as_it_has_images_for(sandbox, no_workers):
    run = Run.open("smoke", "faces", (0, 1), device="cpu")
    assert newcomers.design(run).rows == 2  # of 30 images a class 12 are public; 8 a row
    assert len(newcomers.jobs(run)) == 3 * 4
    tables = newcomers.compute(run)
    assert set(tables["gaps"]["arm"]) == {"dml", "fedavg", "local"} and set(tables["gaps"]["seed"]) == {0}
    assert (run.folder / "generalisation_gaps.csv").is_file() and all(job.done for job in newcomers.jobs(run))


def test_a_run_that_takes_every_image_or_has_too_few_leaves_it_to_the_study(sandbox):
    small = Run.open("smoke", "faces", (0,), device="cpu")
    whole = replace(small, experiment=replace(small.experiment, train_images=0))
    assert newcomers.compute(whole) == {} and newcomers.jobs(whole) == []
    few = replace(small, experiment=replace(small.experiment, train_images=30))
    assert newcomers.design(few) is None
