"""What stands beside the seeds that decide, and decides nothing: the seeds that were seen before the plan, both
together, and the machines that computed them.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from scipy import stats

from dml.config import RECORDED
from dml.evidence.about import RUNS, read
from dml.evidence.accuracy import LATE, values
from dml.evidence.words import estimate, table
from dml.files import read_table
from dml.stats import LEVEL, Estimate, interval
from dml.studies.plan import Study, plan
from dml.studies.study import TABLES

SAMPLE = "unseen sample accuracy"  # the one measure of late rounds that the exploratory seeds have
AGAINST = ("fedavg", "asynchronous", "local")  # the arms that all of them have


def sampled(results: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on the sample of unseen images, mean of last rounds and clients: a row a seed, a column an arm."""
    rows = results[(results["metric"] == SAMPLE) & (results["round"] > results["round"].max() - plan().late_rounds)]
    return rows.pivot_table(index="seed", columns="arm", values="value", aggfunc="mean")


def earlier(before: pd.DataFrame, fresh: pd.DataFrame) -> list[tuple]:
    """Of each arm in `AGAINST`, in words: DML minus it on the seeds of `before`, on the `fresh` ones, how far apart the
    two are (Welch's t, uncorrected), and on both together.
    """
    rows = []
    for arm in AGAINST:
        first, second = ((sample["dml"] - sample[arm]).dropna() for sample in (sampled(before), sampled(fresh)))
        apart = stats.ttest_ind(second, first, equal_var=False)
        low, high = apart.confidence_interval(LEVEL)
        between = f"{estimate(second.mean() - first.mean(), low, high)}, p = {apart.pvalue:.2g}"
        rows.append(
            (f"`{arm}`", told(interval(first)), told(interval(second)), between, told(together(before, fresh, arm)))
        )
    return rows


def together(before: pd.DataFrame, fresh: pd.DataFrame, arm: str) -> Estimate:
    """DML minus another arm in that sample, over the seeds of both kinds."""
    seeds = pd.concat([sampled(before), sampled(fresh)])
    return interval((seeds["dml"] - seeds[arm]).dropna().to_numpy())


def by_machine(results: pd.DataFrame, costs: pd.DataFrame) -> dict[str, pd.Series]:
    """DML minus FedAvg of each seed, by the processor that computed the two."""
    late, where = values(results, LATE), costs.pivot(index="seed", columns="arm", values="processor")
    gap = late["dml"] - late["fedavg"]
    one = where["dml"].where(where["dml"] == where["fedavg"], "two machines")
    return dict(iter(gap.groupby(one.loc[gap.index])))


def again(results: pd.DataFrame, repeated: pd.DataFrame) -> dict[str, pd.Series]:
    """What a repetition of seeds on another machine changes, first minus second: each arm, and DML minus FedAvg."""
    first, second = values(results, LATE), values(repeated, LATE).dropna()
    moved = (first.loc[second.index, list(second)] - second).rename(columns="`{}`".format)
    return {**moved, "DML minus FedAvg": moved["`dml`"] - moved["`fedavg`"]}


def text(study: Study, folder: Path, results: pd.DataFrame) -> Iterator[str]:
    """The lines of a study's page: seeds before and after the plan, then machines where there are several."""
    before = read(RECORDED / RUNS[study.name], "results")
    yield (
        "Beside the seeds that were seen before the plan, which decides nothing: accuracy on a sample of unseen "
        f"images, mean of the last {plan().late_rounds} rounds, as all seeds kept it. How far the two kinds are apart "
        "was looked at afterwards (Welch's t, uncorrected)."
    )
    yield ""
    yield from table(("DML minus", "exploratory", "confirmatory", "apart", "both together"), earlier(before, results))
    machines = by_machine(results, read_table(folder / TABLES["costs"]))
    if len(machines) > 1:
        each = "; ".join(f"{name} {told(interval(gap))}" for name, gap in machines.items())
        yield from ["", f"By the machine that computed them, DML minus FedAvg: {each}."]
    file = folder.parent / plan().devices.name / TABLES["results"]
    if study.name == "published" and file.is_file():
        repeated = read_table(file)
        each = "; ".join(f"{name} {told(interval(moved))}" for name, moved in again(results, repeated).items())
        done, planned = repeated["seed"].nunique(), len(plan().devices.confirmatory)
        yield from ["", f"The same seeds on a CPU as well ({done} of {planned}), GPU minus CPU: {each}."]


def told(one: Estimate) -> str:
    """A mean in points with its interval and n."""
    numbers = estimate(one.mean, one.low, one.high) if one.n > 1 else f"{100 * one.mean:+.2f}"
    return f"{numbers} (n = {one.n})"
