"""Numbers with their uncertainty. The unit is the seed: clients of one run share data and messages, so they are
averaged first; arms are compared on the same seeds (same folds, same initial weights).

Intervals are BCa bootstraps (Efron 1987) from six seeds on and Student's t below, where a bootstrap covers far too
little (at three seeds about 70 %). p values are of the sign-flip permutation test and, where several arms are compared,
corrected for their number (Holm 1979).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
MARGIN = 0.01  # of interest; post hoc: set when all 20 reduced seeds and published-protocol seeds 0 to 2 were known
RESAMPLES = 9999
ENOUGH = 6  # seeds: the first number at which p can be below 0.05 and the bootstrap has something to resample


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with its 95 % interval (NaN where n does not allow one); of a paired difference also the
    p value and `above_zero`, the share of seeds on which it is above zero (ties count half).
    """

    mean: float
    low: float
    high: float
    n: int
    p: float = float("nan")
    above_zero: float = float("nan")

    @property
    def verdict(self) -> str:
        """What a paired difference of shares shows: "higher" or "lower" when interval *and* p agree on it; else "same"
        when the whole interval is within the margin of interest, else "undecided".

        p cannot be below 0.05 with fewer than six seeds, nor below m times that when m arms are compared.
        """
        if self.p < 1 - LEVEL and self.low > 0:
            return "higher"
        if self.p < 1 - LEVEL and self.high < 0:
            return "lower"
        return "same" if self.low > -MARGIN and self.high < MARGIN else "undecided"


def per_seed(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The mean over clients of a metric's last round: one row a seed, one column an arm in the order of the run."""
    rows = results[results["metric"] == metric]
    rows = rows[rows["round"] == rows.groupby("arm")["round"].transform("max")]
    table = rows.pivot_table(index="seed", columns="arm", values="value", aggfunc="mean")
    return table[[arm for arm in results["arm"].unique() if arm in table]]


def t_interval(values: np.ndarray) -> Estimate:
    """Mean and Student's t 95 % interval of independent values; none of one."""
    values = np.asarray(values, float)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Estimate(mean, np.nan, np.nan, n)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * stats.sem(values)
    return Estimate(mean, mean - half, mean + half, n)


def interval(values: np.ndarray) -> Estimate:
    """Mean and 95 % interval of independent values, one a seed: BCa from six on, t below, none of one."""
    values = np.asarray(values, float)
    n, mean = len(values), float(values.mean())
    if n < ENOUGH:
        return t_interval(values)
    if np.ptp(values) == 0:  # the bootstrap has nothing to resample
        return Estimate(mean, mean, mean, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # says NaN, and so do we
        bounds = stats.bootstrap(
            (values,), np.mean, method="BCa", n_resamples=RESAMPLES, rng=np.random.default_rng(0)
        ).confidence_interval
    return Estimate(mean, float(bounds.low), float(bounds.high), n)


def paired(arm: np.ndarray, other: np.ndarray) -> Estimate:
    """The mean difference arm - other over paired seeds, with its interval, the two-sided sign-flip p, uncorrected
    (with n seeds it cannot be below 2 / 2^n), and the share of seeds on which the arm is better.
    """
    difference = (np.asarray(arm, float) - np.asarray(other, float)).round(12)  # rounding must not break ties
    n, above = len(difference), float((difference > 0).mean() + (difference == 0).mean() / 2)
    if n < 2:
        return replace(interval(difference), above_zero=above)
    flips = stats.permutation_test(
        (difference, np.zeros(n)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return replace(interval(difference), p=float(flips.pvalue), above_zero=above)


def holm(estimates: list[Estimate]) -> list[Estimate]:
    """The same estimates with p values corrected for their number by Holm's step-down: the smallest times m, the next
    times m - 1, and so on, none below the one before. NaN stays NaN and does not count.
    """
    p = holm_corrected([estimate.p for estimate in estimates])
    return [replace(estimate, p=float(value)) for estimate, value in zip(estimates, p, strict=True)]


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


def compare(results: pd.DataFrame, metric: str, against: str) -> pd.DataFrame:
    """Columns arm, against, mean, low, high, n, better, p, verdict: every other arm minus `against`, paired over seeds;
    p and verdict are corrected for the number of arms.
    """
    table = per_seed(results, metric)
    arms = table.columns.drop(against)
    estimates = holm([paired(table[arm].to_numpy(), table[against].to_numpy()) for arm in arms])
    return pd.DataFrame(
        {"arm": arm, "against": against, **compared(estimate)} for arm, estimate in zip(arms, estimates, strict=True)
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


def compared(estimate: Estimate) -> dict:
    """A paired estimate as columns of a table."""
    return columns(estimate) | {"better": estimate.above_zero, "p": estimate.p, "verdict": estimate.verdict}
