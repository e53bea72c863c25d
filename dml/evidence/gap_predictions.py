"""The six predictions of data/plan_generalisation.md, each held, failed or open by the tables of the study."""

from itertools import combinations
from math import inf

import pandas as pd

from dml.evidence.answers import FAILED, HELD, OPEN, together, within
from dml.evidence.generalisation import (
    CELLWISE,
    COMMON,
    OUT_OF_SAMPLE,
    OWN,
    PARTICIPATION,
    by_draw,
    differing,
    planned,
    summary,
)
from dml.evidence.words import table
from dml.stats import Estimate, interval

POINT = 0.01
PREDICTIONS = {
    "P1": "DML's out-of-sample gap is larger than FedAvg's",
    "P2": "Local has the largest participation gap",
    "P3": "DML's participation gap is larger than FedAvg's with own nets, within a point of it with every net",
    "P4": "clients alike: the participation gap's interval holds zero in four of five arms or more (no proof of none)",
    "P5": "cellwise estimates exceed their floor by less than half of it",
    "P6": "the pooled estimate orders the arms as the size of the out-of-sample gap does, but for one exchange",
}


def judged(gaps: pd.DataFrame) -> dict[str, str]:
    """The answer to each prediction; all are open while draws of the plan are missing."""
    level = differing(gaps)
    differ, alike = gaps[gaps["label_alpha"] == level], gaps[gaps["label_alpha"] == inf]
    inside, outside = _gain(differ, OUT_OF_SAMPLE, OWN), _gain(differ, PARTICIPATION, OWN)
    same = _gain(differ, PARTICIPATION, COMMON)
    answers = {
        "P1": _sign(inside),
        "P2": _largest(differ),
        "P3": together((_sign(outside), within(same, -POINT, POINT))),
        "P4": _none(alike),
        "P5": _noise(differ),
        "P6": _ordered(differ),
    }
    missing = any(part["seed"].nunique() < planned(alpha) for alpha, part in gaps.groupby("label_alpha"))
    return dict.fromkeys(answers, OPEN) if missing else answers


def _gain(gaps: pd.DataFrame, gap: str, asked: str) -> Estimate:
    wide = by_draw(gaps, gap, asked, differing(gaps))
    if not {"dml", "fedavg"} <= set(wide):
        return Estimate(0.0, -inf, inf, 0)
    return interval((wide["dml"] - wide["fedavg"]).dropna().to_numpy())


def _sign(gain: Estimate) -> str:
    return within(gain, 0, inf)


def _largest(gaps: pd.DataFrame) -> str:
    """Whether Local's gap is above every other arm's by an interval; failed where another's is above it so."""
    wide = by_draw(gaps, PARTICIPATION, OWN, differing(gaps))
    if "local" not in wide or wide.shape[1] < 2:
        return OPEN
    others = wide.columns.drop("local")
    return together(_sign(interval((wide["local"] - wide[arm]).dropna().to_numpy())) for arm in others)


def _none(alike: pd.DataFrame) -> str:
    rows = summary(alike) if len(alike) else pd.DataFrame()
    rows = rows[(rows["gap"] == PARTICIPATION) & (rows["asked"] == OWN) & (rows["n"] > 1)] if len(rows) else rows
    if len(rows) < 5:
        return OPEN
    return HELD if ((rows["low"] <= 0) & (rows["high"] >= 0)).sum() >= 4 else FAILED


def _noise(gaps: pd.DataFrame) -> str:
    rows = summary(gaps, way=CELLWISE)
    return HELD if (rows["excess"] < rows["floor"] / 2).all() else FAILED


def _ordered(gaps: pd.DataFrame) -> str:
    rows = summary(gaps)
    rows = rows[rows["gap"] == OUT_OF_SAMPLE]
    pairs = combinations(zip(rows["mean"].abs(), rows["bound"], strict=True), 2)
    turned = sum((one[0] - other[0]) * (one[1] - other[1]) < 0 for one, other in pairs)
    return HELD if turned <= 1 else FAILED


def lines(gaps: pd.DataFrame) -> list[str]:
    """The predictions and their answers, as a table."""
    return table(
        ("prediction", "", "answer"),
        [(name, PREDICTIONS[name], f"**{answer}**") for name, answer in judged(gaps).items()],
    )
