"""PDMM over its penalty and averaging over its learning rate, on clean runs, and how far the grid's values are off."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dml.evidence.words import estimate, table
from dml.files import read_table
from dml.stats import interval
from dml.studies.hostile import BASE, GUARDED
from dml.studies.study import STUDIES
from dml.studies.sweep import ARMS, NAME, SEEDS

NOTHING = "Nothing is on record yet."
TITLE = "Clean runs: penalty, learning rate, epochs"
ASKED = ["arm", "learning_rate", "epochs"]


def recorded(folder: Path = STUDIES) -> pd.DataFrame | None:
    """The accuracy on record, if there is any."""
    file = folder / NAME / "results.csv"
    if not file.is_file():
        return None
    rows = read_table(file)
    return rows[rows["metric"] == "accuracy"]


def lines(folder: Path = STUDIES) -> Iterator[str]:
    """Both curves, a row a learning rate and number of epochs, and the values of the grid beside the best ones."""
    rows = recorded(folder)
    if rows is None:
        yield NOTHING
        return
    seeds, means = rows["seed"].nunique(), rows.groupby(ASKED)["value"].mean()
    state = "All" if seeds == len(SEEDS) else "**Interim**:"
    yield (
        f"{state} {seeds} of {len(SEEDS)} seeds. Accuracy, %, mean [95 %, Student's t], nobody lies, "
        f"{BASE.clients} clients, reduced protocol, real photographs; epochs are those of every phase."
    )
    told = [_beside(rows, means, arms) for arms in (("fedavg",), [arm for arm in ARMS if arm != "fedavg"])]
    yield from [f"The hostile grid has {'; '.join(told)}.", ""]
    cells = [
        (f"{rate:g}", epochs, *(_cell(part, arm) for arm in ARMS))
        for (rate, epochs), part in rows.groupby(["learning_rate", "epochs"])
    ]
    yield from table(("learning rate", "epochs", *(f"`{arm}`" for arm in ARMS)), cells)


def used(arms) -> tuple[str, float, int]:
    """The setting of the hostile grid, of the one of these arms that is in it."""
    (arm,) = {guard[0] for guard in GUARDED if guard[0] in arms}
    return arm, BASE.learning_rate, BASE.epochs


def _beside(rows: pd.DataFrame, means: pd.Series, arms) -> str:
    """The grid's setting, and how far it is below the best one of the same method, paired by seed."""
    own, best = used(arms), means[means.index.get_level_values("arm").isin(arms)].idxmax()
    said = f"`{own[0]}` at a rate of {own[1]:g} and {own[2]} epochs"
    if own == best:
        return f"{said}, the best by its mean"
    by_setting = rows.set_index([*ASKED, "seed"])["value"].sort_index()
    behind = interval((by_setting[best] - by_setting[own]).to_numpy())
    points = estimate(behind.mean, behind.low, behind.high)
    return f"{said}; the best by its mean, `{best[0]}` at {best[1]:g} and {best[2]}, is {points} points above it"


def _cell(rows: pd.DataFrame, arm: str) -> str:
    found = interval(rows.loc[rows["arm"] == arm, "value"].to_numpy())
    return estimate(found.mean, found.low, found.high, ".1f")
