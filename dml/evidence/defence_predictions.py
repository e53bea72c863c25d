"""The seven predictions of data/plan_defences.md, each held, failed or open; all open while a game is missing.

The plan names what is expected and not how it is decided. The rule was written after the games had been seen (post
hoc): each part of a prediction is a number a game, and its interval over games decides where it lies wholly between the
part's bounds or wholly outside; only of "at chance" the plan says that the interval holds it. A prediction holds when
all of its parts do, and fails when one of them does.
"""

from math import inf

import numpy as np
import pandas as pd

from dml.evidence.answers import FAILED, HELD, OPEN, together, within
from dml.evidence.defences import GUESS, taken
from dml.evidence.words import estimate, table
from dml.stats import Estimate, interval
from dml.studies.defences import plan

NEAR, POINT = 0.03, 0.01  # of AUC, and of accuracy, as the plan says
SHARES = ("hard labels", "4 bits", "ideal secure sum")  # of whose leak the plan speaks as a share of DML's
PREDICTIONS = {
    "P1": "one bit takes at least half of the leak, for less than a point",
    "P2": "4 bits take less than a quarter",
    "P3": "noise 4: honest server not shown above chance, the one that chooses above",
    "P4": "a secure sum takes at least half",
    "P5": "DP-SGD 0.3 leaks no more than one bit does",
    "P6": "DP-SGD 1: within 0.03 of chance, cheaper for DML than for FedAvg",
    "P7": "images of a silent round leak less than those of one that is told",
}
Part = tuple[str, Estimate, float, float]  # what it is, its estimate, and between which bounds it is claimed to lie;
# two equal ones are a value that the interval is claimed to hold


def parts(games: pd.DataFrame) -> dict[str, list[Part]]:
    """Of each prediction its parts, from the table of `defences.by_game`."""
    chooses, honest, accuracy = (
        games.pivot(index="game", columns="point", values=column)
        for column in ("chooses auc", "honest auc", "accuracy")
    )
    leak = chooses - GUESS

    def one(values: pd.Series) -> Estimate:
        return interval(values.to_numpy(float))

    def left(point: str, share: float) -> Estimate:
        return one(leak[point] - share * leak["DML"])

    half = "leak less half of DML's"
    price = accuracy["DP-SGD 1"] - accuracy["DML"] - (accuracy["FedAvg, DP-SGD 1"] - accuracy["FedAvg"])
    return {
        "P1": [
            (half, left("hard labels", 1 / 2), -inf, 0),
            ("accuracy less DML's", one(accuracy["hard labels"] - accuracy["DML"]), -POINT, inf),
        ],
        "P2": [("leak less three quarters of DML's", left("4 bits", 3 / 4), 0, inf)],
        "P3": [
            ("AUC, honest, less chance", one(honest["noise 4"] - GUESS), 0, 0),
            ("AUC, chooses, less chance", one(leak["noise 4"]), 0, inf),
        ],
        "P4": [(half, left("ideal secure sum", 1 / 2), -inf, 0)],
        "P5": [("AUC less one bit's", one(chooses["DP-SGD 0.3"] - chooses["hard labels"]), -inf, 0)],
        "P6": [
            ("AUC less chance", one(leak["DP-SGD 1"]), -NEAR, NEAR),
            ("what it costs FedAvg less what it costs DML", one(price), 0, inf),
        ],
        "P7": [("AUC less that of told images", one(chooses["every 2nd round"] - chooses["DML"]), -inf, 0)],
    }


def judged(games: pd.DataFrame) -> dict[str, str]:
    """Whether each prediction held."""
    interim = games["game"].nunique() < len(plan().games)
    return {
        name: OPEN if interim else together(_side(one, low, high) for _, one, low, high in found)
        for name, found in parts(games).items()
    }


def _side(one: Estimate, low: float, high: float) -> str:
    if low == high:
        return HELD if one.low <= low <= one.high else FAILED
    return within(one, low, high)


def lines(games: pd.DataFrame, points: pd.DataFrame) -> list[str]:
    """A table of them, in Markdown."""
    answers = judged(games)
    rows = []
    for name, found in parts(games).items():
        told = "; ".join(f"{what} {_shown(one)}" for what, one, *_ in found)
        rows.append((name, PREDICTIONS[name], told, f"**{answers[name]}**"))
    shares = ", ".join(f"{each} {100 * taken(points, each):.0f} %" for each in SHARES)
    return [
        "The predictions, from before the first game; the rule that decides them is from after the last (post hoc): an "
        "interval over games wholly on the claimed side. A *part* of the leak is of AUC above 0.5, the server that "
        f"chooses; of the means these take {shares} of it.",
        "",
        *table(("", "prediction", "found [95 %]", "answer"), rows),
    ]


def _shown(one: Estimate) -> str:
    return "equal in every game" if np.isnan(one.low) else estimate(one.mean, one.low, one.high, "+.3f", 1)
