"""Many clients, from the tables of data/plan_crowd.md or of notebook 07: accuracy by K, what peers add, predictions,
what a client pays.

The unit is the seed, differences are paired over seeds, intervals and tests are Student's t.
"""

import pandas as pd

from dml.evidence.predictions import ABOVE, BELOW, BETWEEN, WITHIN, Part
from dml.stats import columns, interval
from dml.studies.crowd import ALONE, plan

SETTING = ["data", "share", "kept", "one_public"]
CELL = [*SETTING, "clients"]
EVERYBODY = ("faces", 1.0, True, False)  # the main setting
PHOTOGRAPHS = ("facemask", 1.0, True, False)
TENTH, REMEMBERED = ("faces", 0.1, True, False), ("faces", 0.1, True, True)
MARGIN = plan().margin  # of accuracy
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
        own = clients[
            alone & within(clients, tuple(setting)) & (clients["clients"] >= sampled) & (clients["client"] < sampled)
        ]
        parts.append(own.assign(clients=count).groupby([*CELL, "seed", "arm"], sort=False)[metric].mean())
    found = pd.concat(parts).unstack("arm") if parts else pd.DataFrame(index=means.index)
    return means.join(found, how="outer").sort_index()


def within(rows: pd.DataFrame, setting: tuple) -> pd.Series:
    """Which rows are of a setting."""
    return (rows[SETTING] == pd.Series(dict(zip(SETTING, setting, strict=True)))).all(axis=1)


def accuracy(clients: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Columns `CELL`, arm, mean, low, high, n: accuracy on unseen images, or another metric."""
    rows = []
    for cell, values in by_seed(clients, metric).groupby(level=CELL, sort=True):
        for arm in values:
            if len(own := values[arm].dropna()):
                rows.append({**dict(zip(CELL, cell, strict=True)), "arm": arm, **columns(interval(own.to_numpy()))})
    return pd.DataFrame(rows, columns=[*CELL, "arm", "mean", "low", "high", "n"])


def gains(clients: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Columns `CELL`, against, mean, low, high, n: DML minus every other arm in a metric, paired over seeds."""
    rows = []
    for cell, values in by_seed(clients, metric).groupby(level=CELL, sort=True):
        for other in values.columns.drop("dml", errors="ignore") if "dml" in values else ():
            if len(both := values[["dml", other]].dropna()):
                found = columns(interval((both["dml"] - both[other]).to_numpy()))
                rows.append({**dict(zip(CELL, cell, strict=True)), "against": other, **found})
    return pd.DataFrame(rows, columns=[*CELL, "against", "mean", "low", "high", "n"])


def difference(values: pd.DataFrame, setting: tuple, count: int, arm: str, other: str) -> pd.Series:
    """An arm minus another by seed, of the table of `by_seed`; empty where it is not there."""
    if (*setting, count) not in values.index.droplevel("seed") or not {arm, other} <= set(values):
        return pd.Series(dtype=float)
    both = values.loc[(*setting, count)][[arm, other]].dropna()
    return both[arm] - both[other]


def change(values: pd.DataFrame, setting: tuple, other: tuple, count: int, arm: str) -> pd.Series:
    """An arm's accuracy in one setting minus another by seed, of the table of `by_seed`; empty where one is missing."""
    there = values.index.droplevel("seed")
    if arm not in values or not all((*each, count) in there for each in (setting, other)):
        return pd.Series(dtype=float)
    return (values.loc[(*setting, count)][arm] - values.loc[(*other, count)][arm]).dropna()


class OneSided(Part):
    """A part that, expected above or below zero, fails by the other sign alone: equivalence to zero was no contrary in
    this study's rules.
    """

    @property
    def p(self) -> tuple[float, float]:
        """p of what is expected, and p of its contrary."""
        passes, contrary = super().p
        if self.expected in (ABOVE, BELOW):
            contrary = self.found.p if (self.found.mean > 0) == (self.expected == BELOW) else 1.0
        return passes, contrary


def predictions(clients: pd.DataFrame) -> dict[str, list[Part]]:
    """P1 to P6 of data/plan_crowd.md, each by the one difference that it names; `predictions.answered` judges them."""
    values = by_seed(clients)

    def of(setting: tuple, count: int, arm: str, other: str) -> pd.Series:
        return difference(values, setting, count, arm, other)

    many, some = of(EVERYBODY, MANY, "dml", "self"), of(EVERYBODY, SOME, "dml", "self")
    own = of(EVERYBODY, SOME, "dml, own start", "self, own start")
    tenth, everybody = (of(setting, SOME, "dml", "fedavg") for setting in (TENTH, EVERYBODY))
    asked = (
        (f"DML minus `self`, K = {MANY:,} minus K = {FEW}", BETWEEN, many - of(EVERYBODY, FEW, "dml", "self")),
        (f"DML minus `smoothing`, K = {MANY:,}", WITHIN, of(EVERYBODY, MANY, "dml", "smoothing")),
        (f"DML minus FedAvg, K = {MANY:,}", BELOW, of(EVERYBODY, MANY, "dml", "fedavg")),
        (f"DML minus `self`, own starts minus a common one, K = {SOME}", ABOVE, own - some),
        (f"DML minus FedAvg, a tenth a round minus all, K = {SOME}", BELOW, tenth - everybody),
        (f"`dml, stale` minus DML, one public fold, K = {SOME}", ABOVE, of(REMEMBERED, SOME, "dml, stale", "dml")),
    )
    return {
        f"P{number}": [OneSided(says, expected, values.dropna())]
        for number, (says, expected, values) in enumerate(asked, 1)
    }


def paid(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the bytes of one client, both ways: `round`, in which it takes part, and `run`, of all rounds in
    which it is expected to, with its set-up. What FedAvg's absent fetch at the end is not in it.
    """
    both = runs["up"] + runs["down"]
    return runs.assign(round=both, run=runs["setup"] + runs["rounds"] * runs["share"] * both)
