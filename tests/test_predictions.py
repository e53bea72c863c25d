"""The predictions of data/plan_skew.md, judged on tables whose answers are known."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from dml.evidence import predictions
from dml.evidence.predictions import (
    ABOVE,
    BELOW,
    FAILED,
    HELD,
    NOT_ABOVE,
    NOT_RUN,
    OPEN,
    PREDICTIONS,
    WITHIN,
    Part,
    judged,
)
from dml.studies.skew import RESULTS, plan

SEEDS = range(8)
WOBBLE = np.array([0.001, -0.001, 0.0005, -0.0005, 0.0, 0.0008, -0.0008, 0.0])


@cache
def table(study: str, value) -> pd.DataFrame:
    """Results of every cell and arm of a study, two clients a seed: `value` of a cell's name and an arm."""
    rows = []
    for grid in plan().grids[study]:
        for cell in grid.cells:
            for number, arm in enumerate(grid.arms):
                for seed in SEEDS:
                    for client in range(cell.experiment.clients):
                        accuracy = value(cell.name, arm, client) + WOBBLE[(seed + number) % len(SEEDS)]
                        rows.append((cell.name, seed, arm, client, "unseen accuracy", accuracy))
    return pd.DataFrame(rows, columns=RESULTS)


def expected(cell: str, arm: str, _: int) -> float:
    """Accuracies with which every prediction about skew holds."""
    if "unlabelled" in cell:
        if "label_alpha 0.01" in cell and arm == "dml":
            return 0.9 if "clip" in cell else 0.5
        return {"dml": 0.85, "dml-peer-first": 0.7}.get(arm, 0.6)
    skewed = {"dml": 0.01, "local+public": 0.05} if "skewed" in cell else {}
    base = {"local": 0.7, "fedavg": 0.88, "dml-peer-first": 0.87}.get(arm, 0.9)
    return base - skewed.get(arm, 0)


def weak_gain(cell: str, arm: str, client: int) -> float:
    """Five kinds in turn: the first is the weakest alone, and gains most."""
    kind = client % 5
    if arm == "local+public":
        return 0.80 + 0.02 * kind
    return 0.80 + 0.02 * kind + (0.05 - 0.01 * kind) - (0.02 if arm == "dml, own kind" else 0)


def test_every_prediction_can_hold():
    answers = judged(table("skew", expected), table("models", weak_gain))
    assert list(answers) == [f"P{number}" for number in range(1, 10)]
    assert {name: answer for name, (answer, _) in answers.items()} == dict.fromkeys(answers, HELD)
    (part, _) = answers["P8"][1]
    assert part.found.mean == pytest.approx((0.05 + 0.04 - 0.02 - 0.01) / 2, abs=2e-3)
    (lost,) = answers["P5"][1]
    assert lost.found.mean == pytest.approx(0.05 - 0.01, abs=2e-3)


def test_every_prediction_can_fail():
    def contrary(cell, arm, client):
        if arm == "dml" and "clip" not in cell:
            return 0.84 if "unlabelled" in cell else 0.70 - (0.06 if "skewed" in cell else 0)
        if arm == "dml-peer-first":
            return 0.80
        return {"local": 0.9, "def-kt": 0.95}.get(arm, 0.75) + (0.2 if arm in predictions.UNLABELLED else 0)

    def strong_gain(cell, arm, client):
        return 2 * weak_gain(cell, "local+public", client) - weak_gain(cell, arm, client)

    answers = judged(table("skew", contrary), table("models", strong_gain))
    assert {name: answer for name, (answer, _) in answers.items()} == dict.fromkeys(answers, FAILED)


def test_what_was_not_run_has_no_answer_and_does_not_count():
    skew, models = table("skew", expected), table("models", weak_gain)
    answers = judged(skew[skew["arm"] != "def-kt"], models.iloc[:0])
    assert {name for name, (answer, _) in answers.items() if answer == NOT_RUN} == {"P7", "P8"}
    few = judged(skew[skew["seed"] < 2], models)
    assert {name for name, (answer, _) in few.items() if answer != NOT_RUN} == {"P8"}


@pytest.mark.parametrize(
    ("says", "mean", "held", "failed"),
    [
        (ABOVE, 0.02, True, False),
        (ABOVE, -0.02, False, True),
        (ABOVE, 0.0, False, True),  # shown to be within a point
        (BELOW, -0.02, True, False),
        (BELOW, 0.02, False, True),
        (WITHIN, 0.0, True, False),
        (WITHIN, 0.03, False, True),
        (WITHIN, -0.03, False, True),
        (NOT_ABOVE, -0.2, True, False),
        (NOT_ABOVE, 0.0, True, False),
        (NOT_ABOVE, 0.01, False, False),  # above zero, but not shown to be more than a point above
        (NOT_ABOVE, 0.03, False, True),
    ],
)
def test_what_is_expected_and_its_contrary(says, mean, held, failed):
    passes, contrary = Part("", says, pd.Series(mean + WOBBLE)).p
    assert ((passes < 0.05), (contrary < 0.05)) == (held, failed)


def test_a_wide_difference_is_open():
    wide = pd.Series([0.3, -0.25, 0.2, -0.3, 0.1, -0.05, 0.02, 0.0])
    for says in (ABOVE, BELOW, WITHIN):
        assert min(Part("", says, wide).p) > 0.05
    assert predictions._answer(0.2, 0.3) == OPEN


def test_the_page_names_every_prediction_with_its_numbers(tmp_path):
    folder = tmp_path / "skew"
    folder.mkdir()
    table("skew", expected).to_csv(folder / "results.csv.gz", index=False)
    told = predictions.text(tmp_path)
    assert told.startswith("Fewer than three seeds: P8.")
    assert all(f"| {name} | **held** |" in told for name in PREDICTIONS if name != "P8")
    assert "| P5 | **held** | what `local+public` loses" in told and "+4.0" in told
    assert predictions.text(tmp_path / "none").strip().endswith("P9.")
