"""Numbers with their uncertainty. The unit is the seed: clients of one run share data and messages, so they are
averaged first; arms are compared on the same seeds (same folds, same initial weights).
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
RESAMPLES = 9999
ENOUGH = 6  # seeds: the first number at which p can be below 0.05 and the bootstrap has something to resample


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with its 95 % interval (NaN where n does not allow one) and, if paired, a p value."""

    mean: float
    low: float
    high: float
    n: int
    p: float = float("nan")

    @property
    def verdict(self) -> str:
        """The sign of a paired difference: "higher" or "lower" when interval *and* p agree on it, else "undecided".

        p cannot be below 0.05 with fewer than six seeds: until then everything is undecided.
        """
        if self.p < 1 - LEVEL and self.low > 0:
            return "higher"
        return "lower" if self.p < 1 - LEVEL and self.high < 0 else "undecided"


def per_seed(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The mean over clients of a metric's last round: one row a seed, one column an arm in the order of the run."""
    rows = results[results["metric"] == metric]
    rows = rows[rows["round"] == rows.groupby("arm")["round"].transform("max")]
    table = rows.pivot_table(index="seed", columns="arm", values="value", aggfunc="mean")
    return table[[arm for arm in results["arm"].unique() if arm in table]]


def interval(values: np.ndarray) -> Estimate:
    """Mean and Student-t interval of independent values, one a seed."""
    values = np.asarray(values, float)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Estimate(mean, np.nan, np.nan, n)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * stats.sem(values)
    return Estimate(mean, mean - half, mean + half, n)


def paired(arm: np.ndarray, other: np.ndarray) -> Estimate:
    """The mean difference arm - other over paired seeds: a 95 % interval and the two-sided sign-flip p.

    The interval is a BCa bootstrap from six seeds on and Student's t below, where a bootstrap covers far too little (at
    three seeds about 70 %). With n seeds p cannot be below 2 / 2^n.
    """
    difference = np.asarray(arm, float) - np.asarray(other, float)
    n, mean = len(difference), float(difference.mean())
    if n < 2:
        return Estimate(mean, np.nan, np.nan, n)
    flips = stats.permutation_test(
        (difference, np.zeros(n)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    if n < ENOUGH:
        return replace(interval(difference), p=float(flips.pvalue))
    if np.ptp(difference) == 0:  # the bootstrap has nothing to resample
        return Estimate(mean, mean, mean, n, float(flips.pvalue))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # says NaN, and so do we
        bounds = stats.bootstrap(
            (difference,), np.mean, method="BCa", n_resamples=RESAMPLES, rng=np.random.default_rng(0)
        ).confidence_interval
    return Estimate(mean, float(bounds.low), float(bounds.high), n, float(flips.pvalue))


def summarise(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Columns arm, mean, low, high, n of one metric for every arm."""
    table = per_seed(results, metric)
    return pd.DataFrame({"arm": arm, **columns(interval(table[arm].to_numpy()))} for arm in table)


def compare(results: pd.DataFrame, metric: str, against: str) -> pd.DataFrame:
    """Columns arm, against, mean, low, high, n, p, verdict: every other arm minus `against`, paired over seeds."""
    table = per_seed(results, metric)
    rows = []
    for arm in table.columns.drop(against):
        found = paired(table[arm].to_numpy(), table[against].to_numpy())
        rows.append({"arm": arm, "against": against, **columns(found), "p": found.p, "verdict": found.verdict})
    return pd.DataFrame(rows)


def gaps(results: pd.DataFrame) -> pd.DataFrame:
    """Results whose one metric is the gap: a client's accuracy on its own training images minus that on unseen ones."""
    rows = results[results["metric"].isin(["train accuracy", "unseen accuracy"])]
    wide = rows.pivot_table(index=["seed", "arm", "round", "client"], columns="metric", values="value", sort=False)
    gap = (wide["train accuracy"] - wide["unseen accuracy"]).dropna().rename("value").reset_index()
    return gap.assign(metric="gap")[list(results.columns)]


def columns(found: Estimate) -> dict:
    """The estimate as columns of a table."""
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
