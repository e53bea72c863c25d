"""The seven predictions of data/plan_privacy.md, each held, failed or open by the games; all open while one is missing.

P1 to P4 speak of answers to the plan's questions. The other three name a number: an interval that lies wholly on one
side of it decides, a rule that was written after the games had been seen (post hoc).
"""

from math import inf

import pandas as pd

from dml.evidence import games
from dml.evidence.answers import FAILED, HELD, OPEN, REFUTED, within
from dml.evidence.words import estimate, table
from dml.stats import Estimate, interval

PREDICTIONS = {
    "P1": "server against server, several rounds: weights tell more than losses",
    "P2": "partial weights tell more than losses once the update is used",
    "P3": "a peer of FedAvg learns less than a peer of DML as published",
    "P4": "FedAvg's server does not learn more than DML's that chooses",
    "P5": "1-bit labels of chosen images: AUC above 0.55",
    "P6": "under a sum, choosing adds less than 0.02",
    "P7": "refusing exact copies aloud: AUC above 0.9",
}


def judged(rates: pd.DataFrame) -> dict[str, tuple[Estimate, str]]:
    """What was found of each prediction, and whether it held."""
    rows = games.answers(rates).set_index("name")
    asked = {
        "P1": ("server", HELD),
        "P2": ("server, partial", HELD),
        "P3": ("peer", REFUTED),
        "P4": ("losses", REFUTED),
    }
    found = {
        name: (Estimate(*rows.loc[question, ["mean", "low", "high", "n"]]), _as(rows.loc[question, "answer"], expected))
        for name, (question, expected) in asked.items()
    }
    sums, honest, bits = (
        games.chosen(rates, strength, view)["auc"]
        for strength, view in (
            (games.CHOOSES, "sums on chosen images"),
            (games.SEVERAL, "sum of predictions"),
            (games.CHOOSES, "1-bit labels of chosen images"),
        )
    )
    exact = rates[(rates["attack"] == "refusal, exact") & (rates["metric"] == "auc")].set_index("game")["value"]
    for name, values, low, high in (
        ("P5", bits, 0.55, inf),
        ("P6", sums - honest, -inf, 0.02),
        ("P7", exact, 0.9, inf),
    ):
        one = interval(values.to_numpy())
        found[name] = one, within(one, low, high)
    return {name: (one, OPEN) for name, (one, _) in found.items()} if games.interim(rates) else found


def _as(answer: str, expected: str) -> str:
    """Whether an answer is the expected one, or the other."""
    return HELD if answer == expected else OPEN if answer == OPEN else FAILED


def lines(rates: pd.DataFrame) -> list[str]:
    """A table of them, in Markdown."""
    rows = [
        (name, PREDICTIONS[name], estimate(one.mean, one.low, one.high, "+.3f", 1), f"**{answer}**")
        for name, (one, answer) in judged(rates).items()
    ]
    return [
        "The predictions, from before the first game; the rule for P5 to P7 is from after the last (post hoc).",
        "",
        *table(("", "prediction", "found, AUC or its difference [95 %]", "answer"), rows),
    ]
