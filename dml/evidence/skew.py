"""When mutual learning helps: the map and its table, from the tables of dml/studies/skew.py or of notebook 05."""

from collections.abc import Mapping, Sequence

import pandas as pd

from dml.evidence.markdown import estimate, joined, table
from dml.stats import columns, interval

RULES = ("local", "local+public", "fedavg", "fedavg+public")  # without an exchange of outputs
MARGIN = 0.01  # of accuracy: what "equal" means, as data/plan_skew.md says
ABOVE, BELOW, EQUAL, UNDECIDED = "above", "below", "equal", "undecided"
LABELLED = {
    "balanced": "labelled and balanced",
    "skewed": "labelled, one class four times as common",
    "unlabelled": "without labels",
}
STANDS_FOR = {"unlabelled": "balanced", "skewed": "balanced"}  # arms that use no public fold are run there
MAP = ["cell", "distance", "public_fold", "against", "mean", "low", "high", "n", "state", "dml", "best", "accuracy"]
MODELS = ["kind", "mean", "low", "high", "n", "alone"]
TABLES = ("skew_results", "skew_cells")
HELD, FAILED, OPEN = "holds", "does not hold", "undecided"


def fields_of(cell: str) -> dict[str, str]:
    """What was changed in a cell, by its name: "label_alpha 0.1; public_fold skewed"."""
    return dict(part.split(" ", 1) for part in cell.split("; "))


def by_seed(results: pd.DataFrame, metric: str = "unseen accuracy", how: str = "mean") -> dict[str, pd.DataFrame]:
    """Of every cell a table of a metric's mean (or "min") over the clients: a row a seed, a column an arm."""
    rows = results[results["metric"] == metric]
    return {
        cell: part.pivot_table(index="seed", columns="arm", values="value", aggfunc=how)
        for cell, part in rows.groupby("cell", sort=False)
    }


def skew_map(results: pd.DataFrame, cells: pd.DataFrame, metric: str = "unseen accuracy") -> pd.DataFrame:
    """Of every cell that differs in skew and public fold alone: DML minus the best of `RULES`, which is the best by its
    mean over the same seeds; columns `MAP`. `best` is the arm with the highest mean on as many seeds, of all there are.
    """
    values, apart, rows = by_seed(results, metric), cells.groupby("cell")["distance"].mean(), []
    for cell, own in values.items():
        changed = fields_of(cell)
        if changed.keys() != {"label_alpha", "public_fold"} or "dml" not in own:
            continue
        fold = changed["public_fold"]
        twin = f"label_alpha {changed['label_alpha']}; public_fold {STANDS_FOR.get(fold, fold)}"
        if twin != cell and twin in values:
            free = values[twin].reindex(own.index)
            own = own.assign(**{arm: free[arm] for arm in ("local", "fedavg") if arm in free})
        full = own.loc[:, own.notna().sum() == own["dml"].notna().sum()].dropna()
        rules = [arm for arm in RULES if arm in full]
        if not rules:
            continue
        against = full[rules].mean().idxmax()
        gain = interval((full["dml"] - full[against]).to_numpy())
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


def state(low: float, high: float) -> str:
    """What an interval of a difference shows; undecided where there is none."""
    if low > 0:
        return ABOVE
    if high < 0:
        return BELOW
    return EQUAL if low > -MARGIN and high < MARGIN else UNDECIDED


def difference(results: pd.DataFrame, cell: str, arm: str, other: str, metric: str = "unseen accuracy"):
    """An arm minus another in a cell, paired over the seeds that have both: a `stats.Estimate`."""
    both = by_seed(results, metric)[cell][[arm, other]].dropna()
    return interval((both[arm] - both[other]).to_numpy())


def model_gains(results: pd.DataFrame, cell: str, kinds: Sequence[str], arm: str = "dml") -> pd.DataFrame:
    """Of every kind of model in a cell of different ones: the arm minus `local+public` of the same clients; columns
    `MODELS`, where `alone` is the accuracy of `local+public`. Clients have the kinds in turn.
    """
    rows = results[(results["cell"] == cell) & (results["metric"] == "unseen accuracy")]
    rows = rows.assign(kind=[kinds[client % len(kinds)] for client in rows["client"]])
    found = []
    for kind, part in rows.groupby("kind", sort=False):
        wide = part.pivot_table(index="seed", columns="arm", values="value")[[arm, "local+public"]].dropna()
        gain = interval((wide[arm] - wide["local+public"]).to_numpy())
        found.append({"kind": kind, **columns(gain), "alone": wide["local+public"].mean()})
    return pd.DataFrame(found, columns=MODELS).sort_values("alone", ignore_index=True)


def advice(map_: pd.DataFrame) -> str:
    """The table "if your clients ... then ...", in Markdown."""
    rows = [
        (
            "hold the same classes" if row.distance < 0.05 else f"are {row.distance:.2f} apart from the whole",
            LABELLED[row.public_fold],
            THEN[row.state].format(against=f"`{row.against}`"),
            f"{estimate(row.mean, row.low, row.high)} to `{row.against}`",
            f"`{row.best}` {100 * row.accuracy:.1f}",
            row.n,
        )
        for row in map_.itertuples()
    ]
    titles = ("if your clients", "and public images are", "then", "DML minus the best rule without, points [95 %]")
    return joined(table((*titles, "highest mean, %", "n"), rows))


THEN = {
    ABOVE: "use DML",
    BELOW: "use {against}",
    EQUAL: "either: within a point",
    UNDECIDED: "undecided with so many seeds",
}


def judged(tables: Sequence[pd.DataFrame], _: object = None) -> list[tuple]:
    """Verdict rows (`verdicts.COLUMNS`) of what the paper leaves open: F3, data that differ; F4, models that differ."""
    results, cells = tables
    map_ = skew_map(results, cells)
    skewed, rows = map_[map_["distance"] >= 0.05], []
    if len(skewed):
        asked = {f"images are {LABELLED[r.public_fold]}, {r.distance:.2f} apart": r.state for r in skewed.itertuples()}
        numbers = "; ".join(
            f"{words}: {_points(row)} to `{row.against}`" for words, row in zip(asked, skewed.itertuples(), strict=True)
        )
        row = skewed.iloc[-1]
        short = f"points, n = {row['n']}: {row['distance']:.2f} apart, {LABELLED[row['public_fold']]} {_points(row)}"
        rows.append(
            (
                "F3",
                "helps where clients' classes differ (future work)",
                verdict(asked),
                f"DML minus the best rule without outputs, points, n = {skewed['n'].max()}: {numbers}",
                "05_map",
                short,
            )
        )
    mixed = [cell for cell in by_seed(results) if "," in fields_of(cell).get("models", "")]
    for cell in mixed[:1]:
        gains = model_gains(results, cell, fields_of(cell)["models"].split(","))
        asked = {f"the model is {row.kind}": state(row.low, row.high) for row in gains.itertuples()}
        words = "; ".join(f"{row.kind} {_points(row)}" for row in gains.itertuples())
        rows.append(
            (
                "F4",
                "helps clients with different models (future work)",
                verdict(asked),
                f"DML minus `local+public` of the same model, points, n = {gains['n'].max()}: {words}",
                "05_models",
                f"points, n = {gains['n'].max()}: {words}",
            )
        )
    return rows


def def_kt(results: pd.DataFrame, cell: str) -> tuple | None:
    """The verdict row of Def-KT in a cell: whether teaching adds to moving, and how DML stands to it; None without."""
    arms = by_seed(results).get(cell, pd.DataFrame()).columns
    if not {"def-kt", "def-kt, only moved", "dml"} <= set(arms):
        return None
    taught = difference(results, cell, "def-kt", "def-kt, only moved")
    ours = difference(results, cell, "dml", "def-kt")
    asked = {"a model that merely moves is the baseline": state(taught.low, taught.high)}
    why = f"points, n = {taught.n}: Def-KT minus its control that merely moves models {_points(taught)}; DML minus "
    why += f"Def-KT {_points(ours)}"
    return (
        "Def-KT",
        "mutual teaching of a moved model helps (a related method's claim)",
        verdict(asked),
        why,
        "05_relatives",
        f"n = {taught.n}: taught {_points(taught)}; DML to it {_points(ours)}",
    )


def verdict(states: Mapping[str, str]) -> str:
    """The verdict from the state of each comparison, by name."""
    good = [name for name, found in states.items() if found == ABOVE]
    if len(good) == len(states):
        return HELD
    if good:
        return f"holds only when {' or '.join(good)}"
    return FAILED if any(found in (BELOW, EQUAL) for found in states.values()) else "cannot be tested with so few seeds"


def _points(row) -> str:
    return estimate(row.mean, row.low, row.high)
