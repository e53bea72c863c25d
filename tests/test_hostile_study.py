"""The studies of data/plan_hostile.md: which cells, and how they come on record."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from dml.__main__ import main
from dml.config import DATA, Experiment
from dml.files import DataError
from dml.hostile.cells import Cell
from dml.pipeline import lies
from dml.pipeline.run import Run
from dml.studies import hostile, tables
from dml.studies.hostile import GUARDED, STUDIES_BY_NAME, Study


def screen(**worst):
    """A screen in which the named attack, by arm, is the worst."""
    rows = [
        {"arm": arm, "rule": rule, "clip": clip, "attack": attack, "metric": "accuracy", "value": 0.9 - low}
        for arm, rule, clip in GUARDED
        for attack in hostile.attacks_on(arm)
        for low in [0.5 * (worst.get(arm, "label flip") == attack)]
    ]
    return pd.DataFrame(rows)


def test_every_cell_of_every_study_can_be_run():
    made = {name: study.cells() for name, study in STUDIES_BY_NAME.items() if name != "hostile"}
    made["hostile"] = hostile.grid_cells(screen())
    assert {len(cells) for cells in made.values()} == {21, 98, 57, 28, 8, 15}
    for cells in made.values():
        assert len({cell.title for cell in cells}) == len(cells)
        for cell in cells:
            cell.begin()


def test_the_grid_takes_each_rule_at_its_own_worst_attack():
    cells = hostile.grid_cells(screen(dml="veto", fedavg="alie"))
    attacks = {(cell.arm, cell.attack) for cell in cells if cell.liars}
    assert attacks == {
        *(("dml", "veto"), ("fedavg", "alie"), ("dml-peer-first", "label flip")),
        ("pdmm, c = 0.1", "label flip"),
    }
    krum = [cell for cell in cells if cell.rule == "multi-krum"]
    assert [(cell.liars, cell.expected) for cell in krum] == [(0, 2), (1, 2), (2, 2)]  # of 10 it does not bear 4
    assert [cell.liars for cell in cells if cell.rule == "median" and cell.arm == "dml"] == [0, 1, 2, 4]


def test_the_grid_waits_for_its_screen(tmp_path, monkeypatch):
    monkeypatch.setattr(hostile, "STUDIES", tmp_path)
    with pytest.raises(DataError, match="the screen comes first"):
        hostile.grid_cells()


@pytest.fixture
def small_study(sandbox, no_workers, monkeypatch):
    monkeypatch.setattr(hostile, "BASE", replace(sandbox.experiment, glance=0))
    cells = [Cell("dml", 3, 1, "veto", clip=0.02), Cell("fedavg", 3)]
    return Study("small", range(2), lambda: cells, "faces")


def test_a_study_comes_on_record_and_goes_on_where_it_stopped(small_study, tmp_path, monkeypatch):
    hostile.carry_out(small_study, [0], "cpu", tmp_path)
    first = (tmp_path / "small" / "results.csv").read_bytes()
    monkeypatch.setattr(hostile.jobs, "carry_out", lambda jobs: pytest.fail("computed again") if list(jobs) else 0)
    hostile.carry_out(small_study, [0], "cpu", tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "small" / "results.csv").read_bytes() == first
    table = pd.read_csv(tmp_path / "small" / "results.csv")
    assert set(table["metric"]) == {"accuracy", "worst", "up", "down", "refused"} and len(table) == 10
    assert table["value"].notna().all() and (tmp_path / "small" / "manifest.json").is_file()
    costs = pd.read_csv(tmp_path / "small" / "costs.csv")
    assert len(costs) == 2 and costs["commit"].notna().all()


def test_a_second_seed_is_added(small_study, tmp_path):
    hostile.carry_out(small_study, [1], "cpu", tmp_path)
    hostile.carry_out(small_study, [], "cpu", tmp_path)  # both seeds of the study
    costs = pd.read_csv(tmp_path / "small" / "costs.csv")
    assert costs["seed"].tolist() == [0, 0, 1, 1]
    assert len(tables.there(tmp_path / "small" / "costs.csv", hostile.KEYS)) == 4


def test_the_command_line_names_the_studies(capsys):
    assert main(["study", "nothing"]) == 1
    told = capsys.readouterr().err
    assert all(name in told for name in STUDIES_BY_NAME)


def test_the_plan_names_every_study_and_its_size():
    text = (DATA / "plan_hostile.md").read_text(encoding="utf-8")
    for name, study in STUDIES_BY_NAME.items():
        cells = hostile.grid_cells(screen()) if name == "hostile" else study.cells()
        assert re.search(
            rf"^\| `{name}` \| {len(cells)} \| {study.seeds[0]} to {study.seeds[-1]} \|", text, re.MULTILINE
        )


@pytest.mark.skipif(not hasattr(Experiment(), "public_fold"), reason="skewed and unlabelled folds are not here yet")
def test_skewed_and_unlabelled_cells_change_the_experiment():
    changed = Cell("dml", 5, labels=False, label_alpha=0.3).experiment(hostile.BASE)
    assert changed.public_fold == "unlabelled" and changed.label_alpha == 0.3


def test_the_notebook_of_a_run_computes_its_cells_once(sandbox, no_workers):
    run = Run.open("smoke", "faces", (0, 1))
    assert [(cell.liars, cell.clip) for cell in lies.cells(run)] == [(0, 1e-7), (1, 1e-7), (1, 0.02)]
    table = lies.compute(run)
    assert set(table["seed"]) == {0} and (run.folder / "hostile.csv").is_file()
    assert all(job.done for job in lies.jobs(run)) and len(lies.shown(table)) == 3


def test_a_run_that_takes_every_image_leaves_it_to_the_studies(sandbox):
    small = Run.open("smoke", "faces", (0,))
    run = replace(small, experiment=replace(small.experiment, train_images=0))
    assert lies.cells(run) == [] and lies.compute(run).empty and not (run.folder / "hostile.csv").exists()
