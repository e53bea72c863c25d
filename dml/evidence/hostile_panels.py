"""The smaller studies of data/plan_hostile.md in tables: which attack is an arm's worst, clients that differ, lies in
training; and what a rule costs while nobody lies.
"""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from dml.evidence.hostile import GUARD, MARGIN, by_seed
from dml.evidence.words import points, table
from dml.stats import Estimate, interval
from dml.studies.hostile import STUDIES_BY_NAME

TITLES = {
    "hostile-screen": "Every attack on every arm: which is the worst",
    "hostile-training": "Lies in training: 10 clients, 2 of them",
    "hostile-skewed": "Honest clients of different classes: 10 clients",
}


def head(name: str, n: int) -> str:
    """How many of a study's seeds are on record."""
    planned = len(STUDIES_BY_NAME[name].seeds)
    return f"{'All' if n == planned else '**Interim, decides nothing**:'} {n} of {planned} seeds."


def lines(name: str, results: pd.DataFrame) -> Iterator[str]:
    """The page's part on one of `TITLES`."""
    yield f"{head(name, results['seed'].nunique())} Photographs, reduced protocol. {NOTES[name]}"
    yield ""
    yield from TABLES[name](results)


def _screen(results: pd.DataFrame) -> list[str]:
    rows = results[results["metric"] == "accuracy"]
    made = []
    for guard, part in rows.groupby(GUARD, sort=False):
        means = part.groupby("attack", sort=False)["value"].mean().sort_values()
        span = f"{100 * means.iloc[0]:.1f} to {100 * means.iloc[-1]:.1f}"
        made.append((*cells(guard), means.index[0], span, means.index[-1], len(means)))
    return table(("arm", "rule", "clip", "worst attack", "accuracy, %", "mildest", "attacks"), made)


def _training(results: pd.DataFrame) -> list[str]:
    made = []
    for guard, part in results.groupby(GUARD, sort=False):
        flipped = _of(part[part["attack"] == "label flip"], "accuracy")
        trigger = [_of(part[(part["attack"] == "backdoor") & (part["liars"] == f)], "backdoor") for f in (0, 2)]
        made.append((*cells(guard), flipped, *trigger))
    titles = ("labels flipped: accuracy, %", "trigger works, nobody planted it, %", "planted by 2, %")
    return table(("arm", "rule", "clip", *titles), made)


def _skewed(results: pd.DataFrame) -> list[str]:
    made, accuracy = [], by_seed(results)
    for guard, values in accuracy.items():
        lost, cost = interval((values[0] - values[2]).dropna().to_numpy()), _price(accuracy, guard)
        shown = (points(interval(values[liars].to_numpy()), ".1f") for liars in (0, 2))
        made.append((*cells(guard), *shown, points(lost, "+.1f"), points(cost, "+.1f") if cost else "", lost.n))
    titles = ("no liar, %", "2 veto, %", "what is lost, points", "rule minus no rule, no liar, points", "n")
    return table(("arm", "rule", "clip", *titles), made)


NOTES = {
    "hostile-screen": "Two of ten lie. One seed decides nothing but which attack the grid uses; at four of ten another "
    "may be worse.",
    "hostile-training": "Accuracy of honest clients and how often the trigger turns their answer, mean [95 %, "
    "Student's t over seeds]. That no trigger passes through outputs says little unless it passes through averaging.",
    "hostile-skewed": "Dirichlet concentration 0.3. Accuracy of honest clients, mean [95 %, Student's t over seeds].",
}
TABLES = {"hostile-screen": _screen, "hostile-training": _training, "hostile-skewed": _skewed}


def _price(accuracy: Mapping[tuple, Mapping[int, pd.Series]], guard: tuple) -> Estimate | None:
    """What a guard costs while nobody lies: accuracy minus the same arm's without the rule or, where it has none, with
    the smallest clip; None where that is the guard itself or was not run.
    """
    arm, rule, clip = guard
    without = arm, "mean", min(floor for *_, floor in accuracy) if rule == "mean" else clip
    if without == guard or without not in accuracy:
        return None
    return interval((accuracy[guard][0] - accuracy[without][0]).dropna().to_numpy())


def prices(results: pd.DataFrame) -> Iterator[str]:
    """What the clip and each rule cost while nobody lies: accuracy minus the same arm's without it, and the bytes of a
    client in a round; beside it the part that liars have of the sum where the server weighs clients.
    """
    accuracy, weight = by_seed(results), by_seed(results, "liar weight")
    spent = {way: by_seed(results, way) for way in ("up", "down")}
    numbers, made = sorted(set(results["liars"].tolist()) - {0}), []
    for guard in accuracy:
        cost = _price(accuracy, guard)
        if cost is None:
            continue
        sent = " / ".join(f"{ways[guard][0].mean():,.0f}" for ways in spent.values())
        share = (f"{100 * weight[guard][f].mean():.1f}" if guard in weight else "" for f in numbers)
        told = points(cost), _free(cost), sent, *share, cost.n
        made.append((*cells(guard), "no clip" if guard[1] == "mean" else "no rule", *told))
    yield "**What the clip and each rule cost while nobody lies.** A rule is told to expect 2; *no rule* is the mean."
    yield "Bytes of one client in a round. Weight of the liars in the sum at the row's worst attack (alike: 10 each)."
    yield ""
    shares = (f"weight of {f} liar{'s' * (f > 1)}, %" for f in numbers)
    titles = ("arm", "rule", "clip", "against", "accuracy minus it, points", "within 1 point", "bytes up / down")
    yield from table((*titles, *shares, "n"), made)


def _free(cost: Estimate) -> str:
    """Whether a price lies within `MARGIN`, as the plan has it: the whole interval."""
    if cost.low > -MARGIN and cost.high < MARGIN:
        return "yes"
    return "no" if cost.high < -MARGIN or cost.low > MARGIN else "not shown"


def cells(guard: Sequence) -> tuple[str, str, str]:
    """Arm, rule and clip, where they mean something."""
    arm, rule, clip = guard
    return f"`{arm}`", "" if rule == "mean" else rule, f"{clip:g}" if arm.startswith("dml") else ""


def _of(rows: pd.DataFrame, metric: str) -> str:
    values = rows.loc[rows["metric"] == metric, "value"]
    if values.empty:
        return ""
    return points(interval(values.to_numpy()), ".1f")
