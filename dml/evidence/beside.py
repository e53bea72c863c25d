"""What stands beside the seeds that decide, and decides nothing: the seeds that were seen before the plan, both
together, and the machines that computed them.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy import stats

from dml.config import RECORDED
from dml.evidence.about import RUNS, read
from dml.evidence.accuracy import LAST, values
from dml.evidence.words import counted, points, table
from dml.files import read_table
from dml.stats import LEVEL, Estimate, interval
from dml.studies.plan import Study, plan
from dml.studies.study import TABLES

SAMPLE = "unseen sample accuracy"  # the one measure of late rounds that the exploratory seeds have
CONFOUNDED = "Machine, versions and kind of seed cannot be told apart by this."
AGAINST = ("fedavg", "asynchronous", "local", "local+public", "fedavg+public", "self")  # what they have besides DML


class Kinds(NamedTuple):
    """A number of each seed: of those before the plan, and of fresh ones."""

    before: pd.Series
    fresh: pd.Series

    @property
    def welch(self):
        """Welch's t test that both kinds have one mean, as SciPy has it."""
        return stats.ttest_ind(self.fresh, self.before, equal_var=False)

    @property
    def p(self) -> float:
        """Of Welch's t."""
        return float(self.welch.pvalue)

    @property
    def apart(self) -> Estimate:
        """How far the fresh ones are above the others, with Welch's interval."""
        low, high = self.welch.confidence_interval(LEVEL)
        return Estimate(self.fresh.mean() - self.before.mean(), low, high, len(self.fresh) + len(self.before))

    @property
    def both(self) -> Estimate:
        """Of all seeds, as if they were of one population."""
        return interval(pd.concat(self).to_numpy())


def sampled(results: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on the sample of unseen images, mean of last rounds and clients: a row a seed, a column an arm."""
    rows = results[(results["metric"] == SAMPLE) & (results["round"] > results["round"].max() - plan().late_rounds)]
    return rows.pivot_table(index="seed", columns="arm", values="value", aggfunc="mean")


def gap(before: pd.DataFrame, fresh: pd.DataFrame, arm: str) -> Kinds:
    """DML minus another arm in that sample."""
    return _minus((sampled(before), sampled(fresh)), arm)


def _minus(tables: Iterable[pd.DataFrame], arm: str) -> Kinds:
    return Kinds(*((table["dml"] - table[arm]).dropna() for table in tables))


def kinds(before: pd.DataFrame, fresh: pd.DataFrame) -> dict[str, Kinds]:
    """By what it is: DML minus every arm in the sample, minus FedAvg on all unseen images at the last round, and the
    levels of both in the sample.
    """
    both = sampled(before), sampled(fresh)
    found = {f"DML minus `{arm}`": _minus(both, arm) for arm in AGAINST}
    last = (values(results, LAST) for results in (before, fresh))
    found["the same to `fedavg`, last round, all images"] = _minus(last, "fedavg")
    return found | {f"`{arm}` itself, %": Kinds(*(table[arm] for table in both)) for arm in ("dml", "fedavg")}


def by_machine(numbers: Kinds, before: str, costs: pd.DataFrame) -> dict[str, pd.Series]:
    """The numbers by the processor that computed DML and FedAvg: `before` names that of the seeds before the plan."""
    where = costs.pivot(index="seed", columns="arm", values="processor").loc[numbers.fresh.index]
    one = where["dml"].where(where["dml"] == where["fedavg"], "two machines")
    return {before: numbers.before} | dict(iter(numbers.fresh.groupby(one)))


def text(study: Study, folder: Path, results: pd.DataFrame) -> Iterator[str]:
    """The lines of a study's page: seeds before and after the plan, and machines where there are several."""
    run = RECORDED / RUNS[study.name]
    found = kinds(read(run, "results"), results)
    yield (
        "Beside the seeds that were seen before the plan, which decides nothing: accuracy on a sample of unseen "
        f"images, mean of the last {plan().late_rounds} rounds, as all seeds kept it. How far the two kinds are apart "
        f"was looked at afterwards (Welch's t, uncorrected for the {len(found)} rows); both together is as if they "
        "were one population."
        + (" Their unseen images differ in number, so the levels do not compare." if study.unseen_images else "")
    )
    rows = []
    for what, each in found.items():
        sign = ".2f" if what.endswith("%") else "+.2f"
        before, fresh, both = (counted(one, sign) for one in (interval(each.before), interval(each.fresh), each.both))
        rows.append((what, before, fresh, f"{points(each.apart)}, p = {each.p:.2g}", both))
    yield from ["", *table(("", "exploratory", "confirmatory", "apart", "both together"), rows)]
    earlier = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["processor"]
    costs = read_table(folder / TABLES["costs"])
    machines = by_machine(found["DML minus `fedavg`"], f"{earlier} (exploratory)", costs)
    if len(machines) > 2:
        parts = "; ".join(f"{name} {counted(interval(part))}" for name, part in machines.items())
        yield from ["", f"DML minus `fedavg` in that sample by the machine that computed them: {parts}. {CONFOUNDED}"]
