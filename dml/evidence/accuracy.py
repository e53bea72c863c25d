"""The claims on accuracy against the results of seeds, by the rules of `data/analysis_plan.md`: nothing is chosen here
that it does not fix.
"""

import numpy as np
import pandas as pd

from dml.evidence.answers import HELD, OPEN, REFUTED
from dml.stats import Difference, Estimate, columns, gaps, holm, interval, paired
from dml.studies.plan import Comparison, plan

LATE, LAST = "late unseen accuracy", "unseen accuracy"


def claims(results: pd.DataFrame, reported: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every comparison of the plan whose arms are there, as paired differences of DML to another arm over seeds.

    Columns family, measure, against, claimed, reported, mean, low, high, n, least, most, p, flips, equivalent, better,
    answer. Differences are shares; p and equivalent are corrected within the family; `better` is the share of seeds on
    which DML is better, `reported` the paper's difference, from one seed. Results from before the plan lack the
    accuracy of the last three rounds: the last round stands for it, and is named.
    """
    both, arms, rows = pd.concat([results, gaps(results)]), set(results["arm"]), []
    means = reported.groupby("arm")["accuracy"].mean() if reported is not None else pd.Series(dtype=float)
    for family, comparisons in plan().families.items():
        asked = [comparison for comparison in comparisons if comparison.against in arms]
        measures = {measure: measured(results, measure) for measure in {comparison.measure for comparison in asked}}
        tables = {measure: values(both, name) for measure, name in measures.items()}
        differences = [
            paired(table["dml"].to_numpy(), table[comparison.against].to_numpy(), plan().margin)
            for comparison, table in ((comparison, tables[comparison.measure]) for comparison in asked)
        ]
        for comparison, difference in zip(asked, holm(differences), strict=True):
            named = comparison.measure == LATE and family == "C1" and comparison.against in means
            rows.append(
                {
                    "family": family,
                    "measure": measures[comparison.measure],
                    "against": comparison.against,
                    "claimed": comparison.claimed,
                    "reported": means["dml"] - means[comparison.against] if named else np.nan,
                    **columns(difference),
                    **{name: getattr(difference, name) for name in ("least", "most", "p", "flips", "equivalent")},
                    "better": difference.above_zero if comparison.claimed == "above" else 1 - difference.above_zero,
                    "answer": answer(comparison, difference),
                }
            )
    return pd.DataFrame(rows)


def measured(results: pd.DataFrame, measure: str) -> str:
    """The metric that answers for a measure: of accuracy the last round's, where nothing else was kept."""
    return LAST if measure == LATE and not results["metric"].eq(LATE).any() else measure


def values(results: pd.DataFrame, metric: str, of_clients: str = "mean") -> pd.DataFrame:
    """One row a seed, one column an arm: a metric's mean over the rounds that have it (the last ones, where it is
    `late unseen accuracy`) of the mean, or another aggregate, over the clients.
    """
    rows = results[results["metric"] == metric]
    if not metric.startswith("late"):
        rows = rows[rows["round"] == rows.groupby("arm")["round"].transform("max")]
    rounds = rows.groupby(["seed", "arm", "round"])["value"].agg(of_clients)
    return rounds.groupby(["seed", "arm"]).mean().unstack()


def over_fedavg(results: pd.DataFrame, arm: str = "dml") -> Estimate:
    """An arm minus FedAvg in unseen accuracy at the last round, the published way: a share, over seeds."""
    return interval(last_gaps(results, arm))


def last_gaps(results: pd.DataFrame, arm: str = "dml") -> np.ndarray:
    """The same seed by seed."""
    last = values(results, LAST)
    return (last[arm] - last["fedavg"]).dropna().to_numpy()


def answer(comparison: Comparison, difference: Difference) -> str:
    """Held when the difference has the claimed sign and passes; refuted when it has the other, or is equivalent to
    zero; else open. Its p values are corrected already.
    """
    if difference.verdict in ("open", "same"):
        return OPEN if difference.verdict == "open" else REFUTED
    return HELD if (difference.verdict == "higher") == (comparison.claimed == "above") else REFUTED
