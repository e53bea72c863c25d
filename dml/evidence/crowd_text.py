"""What a reader with many clients should expect: the sentence of the README and of notebook 07, and the verdict."""

from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence import crowd
from dml.evidence.answers import HELD, OPEN, REFUTED, lists, points
from dml.evidence.crowd import EVERYBODY, MANY, MARGIN, SETTING, TENTH
from dml.files import read_table
from dml.stats import paired
from dml.studies.crowd import FIELDS, NAME, plan
from dml.studies.study import STUDIES

NOTHING = "Nothing is on record yet."
PAGES = "The plan and its predictions: `data/plan_crowd.md`; all tables: `figures/crowd.md`."
SHOWN = {
    "dml": "DML",
    "fedavg": "FedAvg",
    "local+public": "public labels alone",
    "self": "own predictions",
    "local": "alone",
}
STATE = {True: "All planned seeds are on record.", False: "Interim: more seeds are planned."}


def recorded(folder: Path = STUDIES) -> pd.DataFrame | None:
    """The sampled clients of the study, if any seed is on record."""
    file = folder / NAME / "clients.csv.gz"
    return read_table(file) if file.is_file() else None


def costs(folder: Path = STUDIES) -> pd.DataFrame | None:
    """What was measured of cost, if anything."""
    file = folder / "crowd-cost" / "costs.csv"
    return read_table(file) if file.is_file() else None


def complete(clients: pd.DataFrame) -> bool:
    """Whether all that is planned is on record."""
    key = ["data", "seed", *FIELDS]
    done = set(clients[key].drop_duplicates().itertuples(index=False, name=None))
    return done >= {
        (grid.data, seed, *(getattr(cell, name) for name in FIELDS))
        for grid in plan().grids
        for seed in grid.seeds
        for cell in grid.cells
    }


def expectation(folder: Path = STUDIES) -> str:
    """What a reader with many clients should expect, from the largest K on record and the smallest; "" before two
    seeds of any K are on record.
    """
    clients = recorded(folder)
    if clients is None or clients["seed"].nunique() < 2:
        return ""
    rows, told = crowd.accuracy(clients), []
    for setting, words in ((EVERYBODY, "all in every round"), (TENTH, "a tenth of them a round")):
        own = rows[_in(rows, setting)]
        for count in dict.fromkeys((own["clients"].min(), own["clients"].max())):
            by_arm = own[own["clients"] == count].set_index("arm")
            arms = [arm for arm in SHOWN if arm in by_arm.index]
            if "dml" in arms:
                shown = ", ".join(f"{SHOWN[arm]} {100 * by_arm.loc[arm, 'mean']:.1f}" for arm in arms)
                told.append(f"{count:,} clients, {words}: {shown} (n = {by_arm.loc['dml', 'n']:.0f})")
    gains = crowd.gains(clients)
    own = gains[(gains["against"] == "self") & _in(gains, EVERYBODY)]
    peers = " and ".join(
        f"{points(row)} with {row.clients:,}" for row in own.iloc[[0, -1]].drop_duplicates().itertuples()
    )
    what = f" The peers add to a client's own predictions {peers}, points." if len(own) else ""
    return (
        f"drawn faces, 24 images a client that keeps them, accuracy in %. {'; '.join(told)}.{what} "
        f"{_each_pays(read_table(folder / NAME / 'costs.csv'))} {STATE[complete(clients)]}"
    )


def _in(rows: pd.DataFrame, setting: tuple) -> pd.Series:
    """Which rows are of a setting."""
    return (rows[SETTING] == pd.Series(dict(zip(SETTING, setting, strict=True)))).all(axis=1)


def _each_pays(runs: pd.DataFrame) -> str:
    """What one client sends and gets in a round in which it takes part, with the most clients."""
    own = runs[(runs["data"] == "faces") & (runs["clients"] == runs["clients"].max())]
    up, down = (own.groupby("arm")[name].mean() for name in ("up", "down"))
    told = [
        f"{name} {up[arm]:,.0f} up and {down[arm]:,.0f} down"
        for arm, name in SHOWN.items()
        if arm in up and up[arm] > 0
    ]
    return f"Bytes a client and round with {own['clients'].max():,}: {', '.join(told)}."


def verdict(folder: Path = STUDIES) -> list[dict]:
    """The row on L1 (see `verdicts.COLUMNS`): DML's accuracy minus FedAvg's in the largest crowd of the plan; none
    before two seeds of it are on record.
    """
    clients = recorded(folder)
    if clients is None:
        return []
    apart = crowd.difference(crowd.by_seed(clients), EVERYBODY, MANY, "dml", "fedavg")
    if len(apart) < 2:
        return []
    found = paired(apart.to_numpy(), np.zeros(len(apart)), MARGIN)
    answer = {"higher": HELD, "open": OPEN}.get(found.verdict, REFUTED)
    short = f"drawn faces, {MANY:,} clients, points, n = {found.n}: FedAvg {points(found)} {answer}"
    says = f"more accurate than averaging weights with {MANY:,} clients that keep their images"
    row = {"claim": "L1", "system": "", "says": says, **lists({"FedAvg": answer}), "figure": "07_accuracy"}
    return [row | {"why": short, "short": short}]


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 07: what to expect, in words."""
    told = expectation(folder)
    return [f"{told[0].upper()}{told[1:]}" if told else NOTHING, PAGES]
