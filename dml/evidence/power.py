"""What the analysis plan could expect to find: the power of its tests, from the exploratory seeds."""

from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import integrate, stats

from dml.config import RECORDED
from dml.evidence.about import About, read
from dml.evidence.words import joined, table
from dml.studies.plan import plan

SAMPLE = "unseen sample accuracy"  # on record for every round; the whole set only for the last
AGAINST = ("fedavg", "asynchronous", "local", "local+public", "fedavg+public", "self")
PUBLISHED, HALF = 0.0179, 0.005  # differences: the paper's over FedAvg, and half a point
WANTED, MOST = 0.8, 999
NODES = 100  # of the quadrature; 50 give the same ten digits


def text(record: Path = RECORDED) -> str:
    """The table of `data/analysis_plan.md`: of each protocol and comparison, what the confirmatory seeds can show."""
    rows = []
    for title, study in plan().studies.items():
        n, spread = len(study.confirmatory), spreads(record / f"{study.profile}-{study.data}")
        rows += [
            (
                title,
                f"`{arm}`",
                f"{100 * sd:.2f} (n = {known})",
                n,
                *(f"{detects(sd, n, difference):.2f}" for difference in (PUBLISHED, 2 * HALF, HALF)),
                f"{equates(sd, n, HALF):.2f}",
                _needed(detects, sd),
                _needed(equates, sd),
            )
            for arm, (sd, known) in spread.items()
        ]
    titles = ("study", "DML minus", "SD, points", "seeds", "finds 1.79", "finds 1.00", "finds 0.50")
    more = ("finds equivalence", "n to find 0.50", "n to find equivalence")
    return joined(table((*titles, *more), rows))


def _needed(power: Callable[[float, int, float], float], sd: float) -> str:
    """The least number of seeds that finds half a point with the wanted power, which grows with their number."""
    seeds = range(2, MOST)
    place = bisect_left(seeds, True, key=lambda n: power(sd, n, HALF) > WANTED)
    return str(seeds[place]) if place < len(seeds) else f"over {MOST}"


def spreads(folder: Path) -> dict[str, tuple[float, int]]:
    """The standard deviation over exploratory seeds of DML minus each arm, last rounds on the sample; and n."""
    results, last = read(folder, "results"), About.read(folder).experiment.rounds
    rows = results[(results["metric"] == SAMPLE) & (results["round"] > last - plan().late_rounds)]
    means = rows.groupby(["seed", "arm", "round"])["value"].mean().groupby(["seed", "arm"]).mean().unstack()
    differences: pd.DataFrame = means[list(AGAINST)].rsub(means["dml"], axis=0)
    return {arm: (values.std(), len(values)) for arm in AGAINST if len(values := differences[arm].dropna()) > 1}


def detects(sd: float, n: int, difference: float) -> float:
    """Power of the two-sided paired t test at the plan's level, n pairs, for a true mean difference."""
    bound = stats.t.ppf((1 + plan().level) / 2, n - 1)
    return float(1 - stats.nct.cdf(bound, n - 1, difference / sd * n**0.5))


def equates(sd: float, n: int, margin: float) -> float:
    """Power of two one-sided paired t tests at the plan's level when the true mean difference is zero: the chance that
    |mean| < margin - t s / sqrt(n), over the distribution of s.
    """
    bound, error, freedom = stats.t.ppf(plan().level, n - 1), sd / n**0.5, n - 1
    if not np.isfinite(error):
        return 0.0

    def density(share: np.ndarray) -> np.ndarray:  # of s as a share of the true sd
        inside = 2 * stats.norm.cdf(margin / error - bound * share) - 1
        return inside * stats.chi.pdf(share * freedom**0.5, freedom) * freedom**0.5

    reach = 9 / (2 * freedom) ** 0.5  # nine times its own standard deviation, about
    ends = max(0.0, 1 - reach), min(margin / (bound * error), 1 + reach)
    return float(integrate.fixed_quad(density, *ends, n=NODES)[0]) if ends[0] < ends[1] else 0.0
