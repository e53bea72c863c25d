"""The answers of the analysis plan, from the tables of a study: nothing is chosen here that `data/analysis_plan.md`
does not fix.

A comparison is held when its paired difference has the claimed sign and Student's t test passes at the plan's level
after Holm's correction within its family; refuted when it has the other sign and passes, or is equivalent to zero (two
one-sided t tests at the plan's margin, corrected likewise); and open otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from dml.stats import gaps, holm_corrected, paired
from dml.studies.plan import Comparison, Study, plan

HELD, REFUTED, OPEN = "held", "refuted", "open"
ABOVE, BELOW = "above", "below"
SECONDARY = {  # measure: (of which metric, of its clients)
    "last round": ("unseen accuracy", "mean"),
    "log loss": ("unseen log loss", "mean"),
    "calibration error": ("unseen calibration error", "mean"),
    "AUC": ("unseen auc", "mean"),
    "worst client, last round": ("unseen accuracy", "min"),
    "private validation images": ("validation accuracy", "mean"),
}
RESAMPLES, BLOCK = 9999, 500


@dataclass(frozen=True)
class Test:
    """A paired mean difference over n seeds: Student's t interval, its two-sided p, the p of two one-sided tests at the
    margin, and the bounds that the mean is below or above with one-sided 95 %.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float
    equivalent: float
    most: float
    least: float


def test(difference: np.ndarray, margin: float, level: float) -> Test:
    """Student's t tests of paired differences, one a seed. Raises ValueError for fewer than two."""
    n = len(difference)
    if n < 2:
        raise ValueError(f"{n} paired seeds: a test needs at least 2")
    two, above, below = (
        stats.ttest_1samp(difference, popmean, alternative=side)
        for popmean, side in ((0, "two-sided"), (-margin, "greater"), (margin, "less"))
    )
    low, high = two.confidence_interval(level)
    least, most = two.confidence_interval(2 * level - 1)
    p = max(above.pvalue, below.pvalue)
    return Test(float(difference.mean()), low, high, n, two.pvalue, p, most, least)


def complete(results: pd.DataFrame, study: Study, seeds: Sequence[int]) -> pd.DataFrame:
    """The results of those seeds that have every arm of the study: all comparisons then stand on the same seeds."""
    arms = results[results["seed"].isin(seeds)].groupby("seed")["arm"].agg(set)
    whole = [seed for seed, done in arms.items() if done >= set(study.arms)]
    return results[results["seed"].isin(whole)]


def values(results: pd.DataFrame, metric: str, of_clients: str = "mean") -> pd.DataFrame:
    """One row a seed, one column an arm: a metric's mean over the rounds that have it (the last ones, where it is
    `late unseen accuracy`) of the mean, or another aggregate, over the clients.
    """
    rows = results[results["metric"] == metric]
    if not metric.startswith("late"):
        rows = rows[rows["round"] == rows.groupby("arm")["round"].transform("max")]
    rounds = rows.groupby(["seed", "arm", "round"])["value"].agg(of_clients)
    return rounds.groupby(["seed", "arm"]).mean().unstack()


def answers(results: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Columns family, measure, against, claimed, the fields of `Test`, flips (the sign-flip p), and answer; p and
    equivalent are corrected within the family. `results` hold only the seeds that decide, each with every arm.
    """
    fixed, both, rows = plan(), pd.concat([results, gaps(results)]), []
    for family, comparisons in fixed.families.items():
        asked = [each for each in comparisons if each.against in study.arms]
        tables = {measure: values(both, measure) for measure in {each.measure for each in asked}}
        differences = [(tables[each.measure]["dml"] - tables[each.measure][each.against]).to_numpy() for each in asked]
        tests = [test(difference, fixed.margin, fixed.level) for difference in differences]
        p, equivalent = (holm_corrected([getattr(one, name) for one in tests]) for name in ("p", "equivalent"))
        for place, (comparison, one) in enumerate(zip(asked, tests, strict=True)):
            row = {"family": family, **vars(comparison), **vars(one), "p": p[place], "equivalent": equivalent[place]}
            row["flips"] = paired(differences[place], np.zeros(one.n)).p
            rows.append(row | {"answer": answer(comparison, one.mean, p[place], equivalent[place])})
    return pd.DataFrame(rows)


def answer(comparison: Comparison, mean: float, p: float, equivalent: float) -> str:
    """Held, refuted or open, from the corrected p of both tests."""
    wrong = round(1 - plan().level, 12)
    if p < wrong:
        return HELD if (mean > 0) == (comparison.claimed == ABOVE) else REFUTED
    return REFUTED if equivalent < wrong else OPEN


def secondary(results: pd.DataFrame, against: Sequence[str] = ("fedavg", "asynchronous")) -> pd.DataFrame:
    """What is told beside the primary endpoint and decides nothing: columns measure, against, mean, low, high, n of
    DML's paired difference.
    """
    rows = []
    for measure, (metric, of_clients) in SECONDARY.items():
        table = values(results, metric, of_clients)
        for arm in against:
            one = test((table["dml"] - table[arm]).to_numpy(), plan().margin, plan().level)
            rows.append({"measure": measure, "against": arm, "mean": one.mean, "low": one.low, "high": one.high})
    return pd.DataFrame(rows).assign(n=results["seed"].nunique())


def by_image(right: pd.DataFrame) -> dict[tuple[int, str], np.ndarray]:
    """For each (seed, arm) the share of models and late rounds that are right on each unseen image [N]."""
    shares: dict[tuple[int, str], list[np.ndarray]] = {}
    for row in right.itertuples():
        counts = np.array(str(row.right).split(), float)
        shares.setdefault((row.seed, row.arm), []).append(counts / row.models)
    return {pair: np.mean(rounds, axis=0) for pair, rounds in shares.items()}


def crossed(shares: dict[tuple[int, str], np.ndarray], seeds: Sequence[int], against: str) -> tuple[float, float]:
    """The 95 % interval of DML's late accuracy minus another arm's when seeds *and* unseen images are drawn anew,
    independently of each other (the pigeonhole bootstrap, Owen 2007).
    """
    table = np.stack([shares[seed, "dml"] - shares[seed, against] for seed in seeds])
    rng, means = np.random.default_rng(0), []
    for start in range(0, RESAMPLES, BLOCK):
        count = min(BLOCK, RESAMPLES - start)
        drawn = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), count) / len(seeds)
        images = rng.multinomial(table.shape[1], np.full(table.shape[1], 1 / table.shape[1]), count) / table.shape[1]
        means.append(np.einsum("bs,sn,bn->b", drawn, table, images, optimize=True))
    tail = (1 - plan().level) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return float(low), float(high)
