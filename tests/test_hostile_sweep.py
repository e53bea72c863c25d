"""Penalty, learning rate and epochs on clean runs: what is computed, and what is said of the grid's own values."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dml.evidence import sweep as told
from dml.experiment.ladder import find
from dml.hostile import pdmm
from dml.studies import catalogue, hostile, sweep, tables


def test_the_grid_of_the_sweep_holds_the_values_of_the_hostile_grid():
    assert all(arm in pdmm.ARMS or find(arm) for arm in sweep.ARMS)
    for arms in (("fedavg",), sweep.ARMS[1:]):
        arm, rate, epochs = told.used(arms)
        assert arm in sweep.ARMS and rate in sweep.RATES and epochs in sweep.EPOCHS
    assert sweep.NAME in catalogue.names()


def test_a_sweep_comes_on_record_and_goes_on_where_it_stopped(sandbox, no_workers, tmp_path, monkeypatch):
    monkeypatch.setattr(hostile, "BASE", replace(sandbox.experiment, glance=0))
    monkeypatch.setattr(sweep, "ARMS", ("fedavg", "pdmm, c = 1"))
    monkeypatch.setattr(sweep, "RATES", (1e-3, 1e-2))
    monkeypatch.setattr(sweep, "EPOCHS", (1,))
    folder = sweep.carry_out([0], "cpu", tmp_path, "faces")
    first = (folder / "results.csv").read_bytes()
    monkeypatch.setattr(sweep.jobs, "carry_out", lambda jobs: pytest.fail("computed again") if list(jobs) else 0)
    sweep.carry_out([0], "cpu", tmp_path, "faces")
    monkeypatch.undo()
    assert (folder / "results.csv").read_bytes() == first and (folder / "manifest.json").is_file()
    table = pd.read_csv(folder / "results.csv")
    assert len(table) == 2 * 2 * 2 and set(table["metric"]) == {"accuracy", "worst"}
    rates = table[table["metric"] == "accuracy"].groupby("learning_rate")["value"].apply(tuple)
    assert rates[1e-3] != rates[1e-2]  # the setting reaches the run
    assert tables.there(folder / "costs.csv", sweep.KEYS) == {
        (0, arm, rate, 1) for arm in ("fedavg", "pdmm, c = 1") for rate in (1e-3, 1e-2)
    }


def test_the_best_setting_is_named_with_its_distance(tmp_path):
    assert list(told.lines(tmp_path)) == [told.NOTHING]
    rows = [
        (seed, arm, rate, epochs, "accuracy", 0.9 + 0.001 * seed + 0.02 * (arm == "pdmm, c = 1" and rate == 3e-3))
        for seed in range(3)
        for arm in sweep.ARMS
        for rate in sweep.RATES
        for epochs in sweep.EPOCHS
    ]
    table = pd.DataFrame(rows, columns=[*sweep.KEYS, "metric", "value"])
    ours = (table["arm"] == "fedavg") & (table["learning_rate"] == 1e-3) & (table["epochs"] == 10)
    table.loc[ours, "value"] += 0.01
    gain = (table["arm"] == "pdmm, c = 1") & (table["learning_rate"] == 3e-3) & (table["epochs"] == 3)
    table.loc[gain, "value"] += 0.01 + np.array([0.001, 0, -0.001])
    (tmp_path / sweep.NAME).mkdir()
    table.to_csv(tmp_path / sweep.NAME / "results.csv", index=False)
    text = "\n".join(told.lines(tmp_path))
    assert "**Interim**: 3 of 5 seeds" in text
    assert "`fedavg` at a rate of 0.001 and 10 epochs, the best by its mean; `pdmm, c = 0.1` at a rate of 0.001" in text
    assert "the best by its mean, `pdmm, c = 1` at 0.003 and 3, is +3.00 [+2.75, +3.25] points above it." in text
    assert "| 0.0003 | 3 | 90.1 [89.9, 90.3] | 90.1" in text and "| 0.001 | 10 | 91.1 [90.9, 91.3] | 90.1" in text
