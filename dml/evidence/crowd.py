"""Many clients, from the tables of data/plan_crowd.md or of notebook 07: accuracy by K, what peers add, predictions.

The unit is the seed, differences are paired over seeds, intervals and tests are Student's t.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from dml.evidence.answers import HELD, OPEN, REFUTED
from dml.stats import ALPHA, Difference, columns, holm_corrected, interval, paired
from dml.studies.crowd import ALONE

SETTING = ["data", "share", "kept", "one_public"]
CELL = [*SETTING, "clients"]
EVERYBODY = ("faces", 1.0, True, False)  # the main setting
TENTH, REMEMBERED = ("faces", 0.1, True, False), ("faces", 0.1, True, True)
MARGIN = 0.01  # of accuracy, as data/plan_crowd.md says
FEW, SOME, MANY = 5, 50, 1000


def by_seed(clients: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """A metric's mean over the sampled clients: a row for `CELL` and seed, a column an arm. Arms in which nobody hears
    of anybody were run once: of K clients the first are theirs.
    """
    alone = clients["arm"].isin(ALONE)
    means = clients[~alone].groupby([*CELL, "seed", "arm"], sort=False)[metric].mean().unstack("arm")
    sizes = clients[~alone].groupby(CELL, sort=False)["client"].max() + 1
    parts = []
    for (*setting, count), sampled in sizes.items():
        same = (clients[SETTING] == pd.Series(dict(zip(SETTING, setting, strict=True)))).all(axis=1)
        own = clients[alone & same & (clients["clients"] >= sampled) & (clients["client"] < sampled)]
        parts.append(own.assign(clients=count).groupby([*CELL, "seed", "arm"], sort=False)[metric].mean())
    found = pd.concat(parts).unstack("arm") if parts else pd.DataFrame(index=means.index)
    return means.join(found, how="outer").sort_index()


def accuracy(clients: pd.DataFrame) -> pd.DataFrame:
    """Columns `CELL`, arm, mean, low, high, n: accuracy on unseen images."""
    rows = []
    for cell, values in by_seed(clients).groupby(level=CELL, sort=True):
        for arm in values:
            if len(own := values[arm].dropna()):
                rows.append({**dict(zip(CELL, cell, strict=True)), "arm": arm, **columns(interval(own.to_numpy()))})
    return pd.DataFrame(rows, columns=[*CELL, "arm", "mean", "low", "high", "n"])


def gains(clients: pd.DataFrame, arm: str = "dml") -> pd.DataFrame:
    """Columns `CELL`, against, mean, low, high, n: an arm minus every other, paired over seeds."""
    rows = []
    for cell, values in by_seed(clients).groupby(level=CELL, sort=True):
        for other in values.columns.drop(arm, errors="ignore") if arm in values else ():
            if len(both := values[[arm, other]].dropna()):
                found = columns(interval((both[arm] - both[other]).to_numpy()))
                rows.append({**dict(zip(CELL, cell, strict=True)), "against": other, **found})
    return pd.DataFrame(rows, columns=[*CELL, "against", "mean", "low", "high", "n"])


def difference(values: pd.DataFrame, setting: tuple, count: int, arm: str, other: str) -> pd.Series:
    """An arm minus another by seed, of the table of `by_seed`; empty where it is not there."""
    if (*setting, count) not in values.index.droplevel("seed") or not {arm, other} <= set(values):
        return pd.Series(dtype=float)
    both = values.loc[(*setting, count)][[arm, other]].dropna()
    return both[arm] - both[other]


class Prediction(NamedTuple):
    """One of the plan's, as a difference by seed: claimed above zero, below zero, between zero and the margin, or
    within the margin of zero.
    """

    name: str
    what: str
    claimed: str
    values: pd.Series


def predictions(clients: pd.DataFrame) -> Iterator[Prediction]:
    """P1 to P6 of data/plan_crowd.md."""
    values = by_seed(clients)

    def of(setting: tuple, count: int, arm: str, other: str) -> pd.Series:
        return difference(values, setting, count, arm, other)

    many = of(EVERYBODY, MANY, "dml", "self")
    grown = many - of(EVERYBODY, FEW, "dml", "self")
    yield Prediction("P1", f"DML minus `self`, K = {MANY:,} minus K = {FEW}", "between", grown)
    yield Prediction("P2", f"DML minus `smoothing`, K = {MANY:,}", "within", of(EVERYBODY, MANY, "dml", "smoothing"))
    yield Prediction("P3", f"DML minus FedAvg, K = {MANY:,}", "below", of(EVERYBODY, MANY, "dml", "fedavg"))
    own = of(EVERYBODY, SOME, "dml, own start", "self, own start") - of(EVERYBODY, SOME, "dml", "self")
    yield Prediction("P4", f"DML minus `self`, own starts minus a common one, K = {SOME}", "above", own)
    stale = of(TENTH, SOME, "dml", "fedavg") - of(EVERYBODY, SOME, "dml", "fedavg")
    yield Prediction("P5", f"DML minus FedAvg, a tenth a round minus all, K = {SOME}", "below", stale)
    kept = of(REMEMBERED, SOME, "dml, stale", "dml")
    yield Prediction("P6", f"`dml, stale` minus DML, one public fold, K = {SOME}", "above", kept)


def judged(clients: pd.DataFrame) -> pd.DataFrame:
    """The predictions with what became of them: columns name, what, mean, low, high, n, p, answer. p is of the one test
    each names, after Holm over all that have two seeds; without two seeds a prediction is open.
    """
    found = [(each, _tested(each.values.dropna())) for each in predictions(clients)]
    corrected = holm_corrected([_p(each, one) for each, one in found])
    return pd.DataFrame(
        {
            "name": each.name,
            "what": each.what,
            **(columns(one) if one else {"mean": np.nan, "low": np.nan, "high": np.nan, "n": 0}),
            "p": p,
            "answer": _answer(each.claimed, one, p),
        }
        for (each, one), p in zip(found, corrected, strict=True)
    )


def _tested(values: pd.Series) -> Difference | None:
    return paired(values.to_numpy(), np.zeros(len(values)), MARGIN) if len(values) else None


def _p(each: Prediction, one: Difference | None) -> float:
    if one is None:
        return np.nan
    return one.equivalent if each.claimed == "within" else one.p


def _answer(claimed: str, one: Difference | None, p: float) -> str:
    """Held where the test passes with the claimed sign; refuted where it, or the difference from the margin, passes
    against it.
    """
    if one is None or np.isnan(p):
        return OPEN
    if claimed == "within":
        return HELD if p < ALPHA else REFUTED if one.low > MARGIN or one.high < -MARGIN else OPEN
    if claimed == "between":
        if p < ALPHA and one.low > 0 and one.high < MARGIN:
            return HELD
        return REFUTED if one.high < 0 or one.low > MARGIN else OPEN
    if p >= ALPHA:
        return OPEN
    return HELD if (one.mean > 0) == (claimed == "above") else REFUTED
