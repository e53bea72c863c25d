"""When mutual learning helps: the map and its table, from the tables of dml/studies/skew.py or of notebook 05."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dml.evidence.answers import HELD, OPEN, REFUTED, lists
from dml.evidence.words import between, points
from dml.files import read_table
from dml.stats import Estimate, columns, interval

NOTHING = "Nothing is on record yet."
RULES = ("local", "local+public", "fedavg", "fedavg+public")  # without an exchange of outputs
MARGIN = 0.01  # of accuracy: what "equal" means, as data/plan_skew.md says
ABOVE, BELOW, EQUAL, UNDECIDED = "above", "below", "equal", "undecided"
LABELLED = {
    "balanced": "labelled and balanced",
    "skewed": "labelled, one class four times as common",
    "unlabelled": "without labels",
    "other": "labelled, of another domain",
}
STANDS_FOR = {"unlabelled": "balanced"}  # the same images: arms that use no public fold are run there
MAIN = ("dml", "dml-peer-first", *RULES)  # on all seeds, in every cell where they make sense
MAP = ["cell", "distance", "public_fold", "against", "mean", "low", "high", "n", "state", "dml", "best", "accuracy"]
TABLES = ("skew_results", "skew_cells")
ANSWERS = {ABOVE: HELD, BELOW: REFUTED, EQUAL: REFUTED, UNDECIDED: OPEN}


def fields_of(cell: str) -> dict[str, str]:
    """What was changed in a cell, by its name: "label_alpha 0.1; public_fold skewed"."""
    return dict(part.split(" ", 1) for part in cell.split("; "))


def cell_of(alpha: object, fold: str) -> str:
    """The name of the cell of a level of skew ("0.1") and a public fold in which nothing else was changed."""
    return f"label_alpha {alpha}; public_fold {fold}"


def on_the_map(cell: str) -> bool:
    """Whether a cell differs in skew and public fold alone."""
    return fields_of(cell).keys() == {"label_alpha", "public_fold"}


def twin_of(alpha: object, fold: str) -> str:
    """The name of the cell in which the arms that use no public fold were run for this one."""
    return cell_of(alpha, STANDS_FOR.get(fold, fold))


def by_seed(results: pd.DataFrame, metric: str = "unseen accuracy", how: str = "mean") -> dict[str, pd.DataFrame]:
    """Of every cell a table of a metric's mean (or "min") over the clients: a row a seed, a column an arm."""
    rows = results[results["metric"] == metric]
    return {
        cell: part.pivot_table(index="seed", columns="arm", values="value", aggfunc=how)
        for cell, part in rows.groupby("cell", sort=False)
    }


def skew_map(results: pd.DataFrame, cells: pd.DataFrame, metric: str = "unseen accuracy") -> pd.DataFrame:
    """Of every cell that differs in skew and public fold alone: DML minus the best of `RULES`, which is the best by its
    mean over the seeds that have all of them; columns `MAP`. `best` is the arm of `MAIN` with the highest mean on these
    seeds. A cell with the values of another is left out: of few clients two strong skews can be the very same deal.
    """
    main = results[results["arm"].isin(MAIN)]
    values, apart, rows = distinct(by_seed(main, metric)), cells.groupby("cell")["distance"].mean(), []
    for cell, own in values.items():
        if not on_the_map(cell) or "dml" not in own:
            continue
        fold = fields_of(cell)["public_fold"]
        twin = twin_of(fields_of(cell)["label_alpha"], fold)
        if twin != cell and twin in values:
            free = values[twin].reindex(own.index)
            own = own.assign(**{arm: free[arm] for arm in ("local", "fedavg") if arm in free})
        full = own.dropna()
        rules = [arm for arm in RULES if arm in full]
        if not rules:
            continue
        against, gain = to_best(full, rules)
        means = full.mean()
        found = {"cell": cell, "distance": apart[cell], "public_fold": fold, "against": against, **columns(gain)}
        rows.append(
            found
            | {
                "state": state(gain.low, gain.high),
                "dml": means["dml"],
                "best": means.idxmax(),
                "accuracy": means.max(),
            }
        )
    table_ = pd.DataFrame(rows, columns=MAP)
    order = table_["public_fold"].map(list(LABELLED).index) if len(table_) else table_["distance"]
    return table_.assign(order=order).sort_values(["order", "distance"], ignore_index=True).drop(columns="order")


def to_best(values: pd.DataFrame, rules: Sequence[str]) -> tuple[str, Estimate]:
    """The rule with the highest mean, which favours it, and DML minus that rule; a row a seed, a column an arm."""
    best = values[[*rules]].mean().idxmax()
    return best, interval((values["dml"] - values[best]).to_numpy())


def recorded(folder: Path, study: str) -> pd.DataFrame | None:
    """The results of a study of data/plan_skew.md, if there are any."""
    file = folder / study / "results.csv.gz"
    return read_table(file) if file.is_file() else None


def marked(so_far: str) -> str:
    """What a page begins with while its study is not complete; `so_far` says how much of it there is."""
    return f"**{so_far.capitalize()}; decides nothing.** " if so_far else ""


def distinct(values: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables by name without those that say, arm by arm and seed by seed, what an earlier one says."""
    kept: dict[str, pd.DataFrame] = {}
    for name, own in values.items():
        if not any(own.sort_index(axis=1).equals(other.sort_index(axis=1)) for other in kept.values()):
            kept[name] = own
    return kept


def alike(cell: str) -> bool:
    """Whether all clients of a cell hold the same classes, in the same shares."""
    return fields_of(cell).get("label_alpha") == "inf"


def state(low: float, high: float) -> str:
    """What an interval of a difference shows; undecided where there is none."""
    if low > 0:
        return ABOVE
    if high < 0:
        return BELOW
    return EQUAL if low > -MARGIN and high < MARGIN else UNDECIDED


def judged(tables: Sequence[pd.DataFrame], _: object = None) -> list[dict]:
    """The verdict row (see `verdicts.COLUMNS`) of F3, which the paper leaves open: data that differ."""
    map_ = skew_map(*tables)
    skewed = map_[~map_["cell"].map(alike).astype(bool)]
    if skewed.empty:
        return []
    asked = {f"{LABELLED[row.public_fold]}, {row.distance:.3f} apart": row for row in skewed.itertuples()}
    says, what = "helps where clients' classes differ (future work)", "the best arm without outputs"
    row = verdict_row("F3", says, asked, f"DML minus {what} by its mean, uncorrected", "05_map")
    return [row | {"short": _counted(skewed)}]


def _counted(map_: pd.DataFrame) -> str:
    """How many regimes of a map are in which state."""
    counts = map_["state"].value_counts()
    told = ", ".join(f"{state} {counts.get(state, 0)}" for state in (ABOVE, BELOW, EQUAL, UNDECIDED))
    return f"{len(map_)} regimes of skew, n = {between(map_['n'])}: {told}"


def verdict_row(claim: str, says: str, asked: Mapping[str, Any], what: str, figure: str) -> dict:
    """A verdict from rows that have mean, low, high, n and state, by what each is about."""
    answered = {name: ANSWERS[found.state] for name, found in asked.items()}
    told = "; ".join(f"{name} {points(found)} {answered[name]}" for name, found in asked.items())
    counted = f"points, n = {max(found.n for found in asked.values())}"
    row = {"claim": claim, "says": says, **lists(answered), "figure": figure}
    return row | {"why": f"{what}, {counted}: {told}", "short": f"{counted}: {told}"}
