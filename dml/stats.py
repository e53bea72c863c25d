"""Numbers with their uncertainty. The unit is the seed: clients of one run share data and messages, so they are
averaged first; arms are compared on the same seeds (same folds, same initial weights).

Intervals and p values are Student's t, the p of the sign-flip permutation test stands beside (bootstraps cover too
little here: BCa about 87 % at eight seeds, 70 % at three). Equivalence is two one-sided t tests at a margin (Schuirmann
1987). Where several comparisons answer one question, p values are corrected for their number (Holm 1979).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
ALPHA = 0.05
RESAMPLES = 9999


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with Student's t 95 % interval (NaN for a single one)."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference(Estimate):
    """A mean paired difference: Student's two-sided `p`, that of sign `flips`, that of equivalence within a margin
    (`equivalent`), the bounds `least` and `most` that the mean is above and below with one-sided 95 %, and
    `above_zero`, the share of seeds on which the difference is above zero (ties count half). All but the mean and the
    share are NaN for a single seed.
    """

    p: float
    flips: float
    equivalent: float
    least: float
    most: float
    above_zero: float

    @property
    def verdict(self) -> str:
        """What it shows at 0.05: "higher", "lower", "same" (equivalent to zero), or nothing: "open"."""
        if self.p < ALPHA:
            return "higher" if self.mean > 0 else "lower"
        return "same" if self.equivalent < ALPHA else "open"


def per_seed(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The mean over clients of a metric's last round: one row a seed, one column an arm in the order of the run."""
    rows = results[results["metric"] == metric]
    rows = rows[rows["round"] == rows.groupby("arm")["round"].transform("max")]
    table = rows.pivot_table(index="seed", columns="arm", values="value", aggfunc="mean")
    return table[[arm for arm in results["arm"].unique() if arm in table]]


def interval(values: np.ndarray) -> Estimate:
    """Mean and Student's t 95 % interval of independent values, one a seed; none of one."""
    values = np.asarray(values, float)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Estimate(mean, np.nan, np.nan, n)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * stats.sem(values)
    return Estimate(mean, float(mean - half), float(mean + half), n)


def paired(arm: np.ndarray, other: np.ndarray, margin: float) -> Difference:
    """The mean difference arm - other over paired seeds; `margin` is that of equivalence, in the same unit.

    With n seeds the p of sign flips cannot be below 2 / 2^n.
    """
    return _tested(tuple((np.asarray(arm, float) - np.asarray(other, float)).round(12)), margin)  # ties stay ties


@cache  # findings, verdicts, notebooks and figures ask for the same ones
def _tested(differences: tuple[float, ...], margin: float) -> Difference:
    difference = np.array(differences)
    one, share = interval(difference), float((difference > 0).mean() + (difference == 0).mean() / 2)
    if one.n < 2:
        return Difference(one.mean, one.low, one.high, one.n, *[float("nan")] * 5 + [share])
    flips = stats.permutation_test(
        (difference, np.zeros(one.n)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of equal differences: no error at all
        two, above, below = (
            stats.ttest_1samp(difference, place, alternative=side)
            for place, side in ((0, "two-sided"), (-margin, "greater"), (margin, "less"))
        )
    p, same = np.nan_to_num(two.pvalue, nan=1.0), max(above.pvalue, below.pvalue)  # NaN: all of them zero
    found = map(float, (p, flips.pvalue, same, *two.confidence_interval(2 * LEVEL - 1), share))
    return Difference(one.mean, one.low, one.high, one.n, *found)


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with the p values that decide, of the difference and of equivalence, corrected for their
    number by Holm's step-down: the smallest times m, the next times m - 1, and so on, none below the one before.
    NaN stays NaN and does not count.
    """
    p, equivalent = (holm_corrected([getattr(one, name) for one in differences]) for name in ("p", "equivalent"))
    return [
        replace(one, p=float(first), equivalent=float(second))
        for one, first, second in zip(differences, p, equivalent, strict=True)
    ]


def holm_corrected(p_values: Sequence[float]) -> np.ndarray:
    """p values corrected for their number, as `holm` says."""
    p = np.array(p_values, float)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN is sorted last
    p[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return p


def summarise(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Columns arm, mean, low, high, n of one metric for every arm."""
    table = per_seed(results, metric)
    return pd.DataFrame({"arm": arm, **columns(interval(table[arm].to_numpy()))} for arm in table)


def compare(results: pd.DataFrame, metric: str, against: str, margin: float) -> pd.DataFrame:
    """Columns arm, against, mean, low, high, n, better, p, verdict: every other arm minus `against`, paired over seeds;
    p and verdict are corrected for the number of arms.
    """
    table = per_seed(results, metric)
    arms = table.columns.drop(against)
    differences = holm([paired(table[arm].to_numpy(), table[against].to_numpy(), margin) for arm in arms])
    return pd.DataFrame(
        {"arm": arm, "against": against, **compared(one)} for arm, one in zip(arms, differences, strict=True)
    )


def gaps(results: pd.DataFrame) -> pd.DataFrame:
    """Results whose one metric is the gap: a client's accuracy on its own training images minus that on unseen ones."""
    rows = results[results["metric"].isin(["train accuracy", "unseen accuracy"])]
    wide = rows.pivot_table(index=["seed", "arm", "round", "client"], columns="metric", values="value", sort=False)
    gap = (wide["train accuracy"] - wide["unseen accuracy"]).dropna().rename("value").reset_index()
    return gap.assign(metric="gap")[list(results.columns)]


def columns(estimate: Estimate) -> dict:
    """The estimate as columns of a table."""
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def compared(difference: Difference) -> dict:
    """A paired difference as columns of a table."""
    return columns(difference) | {"better": difference.above_zero, "p": difference.p, "verdict": difference.verdict}
