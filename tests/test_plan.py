"""The analysis plan: read from its page, older than what it decides, and carried out seed by seed."""

import gzip
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dml.arms.record import LATE
from dml.config import DATA, README, ROOT
from dml.evidence import power
from dml.experiment.ladder import find
from dml.studies import catalogue, crowd_cost, study, tables, tuned
from dml.studies.plan import FILE, plan
from dml.training import machine


def test_the_page_and_the_code_say_the_same():
    told = plan()
    assert told.late_rounds == LATE
    for chosen in told.studies.values():
        assert not set(chosen.exploratory) & set(chosen.confirmatory)
        assert all(find(arm) for arm in chosen.arms)
        compared = {each.against for family in told.families.values() for each in family}
        assert compared - {"smoothing"} <= set(chosen.arms)
    assert told.studies["reduced"].experiment.unseen_images == 2000
    assert told.studies["published"].experiment.unseen_images == 0
    assert told.precision.experiment == replace(told.studies["published"].experiment, precision="bf16")
    assert set(told.earlier.confirmatory) == set(told.studies["published"].exploratory)
    assert set(told.tuned.run_on) <= set(told.studies["published"].confirmatory)
    assert set(told.tuned.chosen_on) <= set(told.studies["published"].exploratory)


def test_a_page_without_its_block_is_refused(tmp_path):
    (tmp_path / "plan.md").write_text("# A plan\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"plan\.md has no block of TOML"):
        plan(tmp_path / "plan.md")


def git(*arguments):
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


@pytest.mark.skipif(git("rev-parse", "--is-shallow-repository") != "false", reason="needs the history of the commits")
def test_the_plan_is_older_than_every_confirmatory_row():
    added = git("log", "--diff-filter=A", "--format=%H", "--", str(FILE.relative_to(ROOT)))
    assert added and git("merge-base", "--is-ancestor", added, "HEAD") == ""
    files = list(study.STUDIES.glob("*/costs.csv"))
    if not files:
        pytest.skip("no study is on record yet")
    rows = pd.concat(pd.read_csv(file).assign(study=file.parent.name) for file in files)
    repeated = {one.name: one for one in (plan().devices, plan().precision, plan().earlier)}
    for name, chosen in (plan().studies | repeated).items():
        confirmatory = rows[(rows["study"] == name) & rows["seed"].isin(chosen.confirmatory)]
        for commit in confirmatory["commit"].unique():
            assert "+" not in commit  # of a clean checkout
            assert git("merge-base", "--is-ancestor", added, commit) == "", (commit, "does not follow the plan")


@pytest.fixture
def planned(small, sandbox, monkeypatch, no_workers):
    """The plan's reduced study, made small."""
    chosen = replace(plan().studies["reduced"], profile="smoke", data="faces", arms=("dml", "fedavg"))
    monkeypatch.setattr(type(chosen), "experiment", property(lambda _: small))
    return chosen


def test_a_study_in_bf16_needs_the_hardware(planned, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "has_bf16", lambda device: False)
    with pytest.raises(ValueError, match="no bf16 arithmetic"):
        study.carry_out(replace(planned, precision="bf16"), [21], "cpu", tmp_path)
    assert not (tmp_path / planned.name).exists()


def test_a_study_adds_each_seed_to_the_record_once(planned, tmp_path):
    study.carry_out(planned, [21], "cpu", tmp_path)
    folder = tmp_path / planned.name
    first = gzip.decompress((folder / "results.csv.gz").read_bytes())
    before = {file: file.read_bytes() for file in folder.iterdir()}
    study.carry_out(planned, [21], "cpu", tmp_path)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    study.carry_out(planned, [20], "cpu", tmp_path)
    costs, results = pd.read_csv(folder / "costs.csv"), pd.read_csv(folder / "results.csv.gz")
    assert costs[["seed", "arm"]].to_numpy().tolist() == [[20, "dml"], [20, "fedavg"], [21, "dml"], [21, "fedavg"]]
    assert results[results["seed"] == 21].to_csv(index=False).encode() == first
    assert {"commit", "processor", "cpu_s"} <= set(costs) and (folder / "manifest.json").is_file()


@pytest.mark.parametrize("name", sorted({*catalogue.names()} - {"tuned", crowd_cost.NAME}))  # these have no seeds
def test_a_seed_that_no_plan_has_does_not_come_on_record(name, monkeypatch):
    monkeypatch.setattr("dml.experiment.jobs.carry_out", lambda *_: pytest.fail("computed"))
    with pytest.raises(ValueError, match=r"^seeds 999, 0: a study is of planned ones alone, here \d+"):
        catalogue.carry_out(name, (999, 0))


def test_exploratory_seeds_do_not_come_on_record(planned):
    with pytest.raises(ValueError, match=r"^seeds 19, 20: .* here 20, 21, .*, 59$"):
        study.carry_out(planned, (19, 20))


def test_rows_that_are_added_at_a_time_are_all_kept(sandbox, tmp_path, monkeypatch):
    def slow(*given, read=tables._read):
        found = read(*given)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(tables, "_read", slow)
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda seed: tables.add(tmp_path / "of" / "a.csv", pd.DataFrame({"seed": [seed]}), ["seed"]), range(4)
            )
        )
    assert (tmp_path / "of" / "a.csv").read_text() == "seed\n0\n1\n2\n3\n"
    assert [file.name for file in (tmp_path / "of").iterdir()] == ["a.csv"]  # nothing for git to find


def test_rows_that_a_killed_study_left_without_their_costs_are_replaced(planned, tmp_path):
    study.carry_out(planned, [20], "cpu", tmp_path)
    folder = tmp_path / planned.name
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / "costs.csv").unlink()  # written last: without it, nothing is on record
    study.carry_out(planned, [20], "cpu", tmp_path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole


def test_the_history_of_a_study_is_the_mean_over_the_clients(planned, tmp_path):
    study.carry_out(planned, [20], "cpu", tmp_path)
    means = pd.read_csv(tmp_path / planned.name / "history.csv.gz")
    assert not means.duplicated(["seed", "arm", "round", "phase", "epoch"]).any() and "client" not in means
    assert set(means["phase"]) == {"pretrain", "local", "public"}


def test_a_schedule_is_chosen_on_validation_images_of_the_seeds_that_choose():
    rows = [
        ("dml", epochs, rate, seed, 4, metric, value)
        for epochs, rate, on_validation in ((1, 0.001, 0.7), (3, 0.001, 0.8), (3, 0.0003, 0.8))
        for seed, extra in ((0, -0.1), (1, 0.1), (8, 0.0))
        for metric, value in (
            ("validation accuracy", on_validation + extra if seed < 8 else 1 - on_validation),
            ("unseen accuracy", 1 - on_validation),
        )
    ]
    table = pd.DataFrame(rows, columns=[*tuned.KEY, "round", "metric", "value"])
    assert tuned.choice(table, range(2)) == {"dml": tuned.Setting("dml", 3, 0.001)}  # of equal ones the first
    assert tuned.choice(table, [8]) == {"dml": tuned.Setting("dml", 1, 0.001)}


def test_tuned_arms_run_on_their_seeds_with_what_was_chosen(planned, tmp_path, monkeypatch):
    few = replace(plan().tuned, arms=("dml", "local+public"), public_epochs=(1, 2), learning_rates=(0.01,))
    few = replace(few, chosen_on=range(1), run_on=range(8, 9))
    monkeypatch.setattr(tuned, "plan", lambda: replace(plan(), tuned=few))
    folder = tuned.carry_out("cpu", tmp_path, planned)
    costs, results = pd.read_csv(folder / "costs.csv"), pd.read_csv(folder / "results.csv")
    assert costs.groupby("seed").size().to_dict() == {0: 4, 8: 2} and costs["commit"].str.match(r"[0-9a-f]{40}").all()
    chosen = tuned.choice(results, few.chosen_on)
    ran = costs[costs["seed"] == 8].set_index("arm")
    assert all(ran.loc[arm, "public_epochs"] == setting.public_epochs for arm, setting in chosen.items())
    history = results[(results["metric"] == "unseen log loss") & (results["seed"] == 0)]
    assert history.groupby(["arm", "public_epochs"])["value"].mean().groupby("arm").nunique().eq(2).all()  # it matters
    before = {file: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(tuned.jobs, "carry_out", lambda jobs: list(jobs) and pytest.fail("computed again"))
    tuned.carry_out("cpu", tmp_path, planned)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_power_of_both_tests_is_what_simulated_seeds_show():
    rng, n, sd = np.random.default_rng(0), 12, 0.01
    draws = rng.normal(0, sd, (20_000, n))
    spread = draws.std(axis=1, ddof=1) / n**0.5
    found = (np.abs(draws.mean(axis=1) + 0.01) > 2.201 * spread).mean()  # Student's t with 11 degrees of freedom
    alike = (np.abs(draws.mean(axis=1)) < 0.008 - 1.796 * spread).mean()
    assert power.detects(sd, n, 0.01) == pytest.approx(found, abs=0.01)
    assert power.equates(sd, n, 0.008) == pytest.approx(alike, abs=0.01)


def test_the_plan_shows_the_power_of_the_recorded_seeds():
    assert power.text() in FILE.read_text(encoding="utf-8")
    assert str(FILE.relative_to(DATA.parent)) in README.read_text(encoding="utf-8")
