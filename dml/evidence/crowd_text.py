"""What a reader with many clients should expect: the sentence of the README and of notebook 07, and the verdict."""

from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence import crowd
from dml.evidence.answers import HELD, OPEN, REFUTED, lists, points
from dml.evidence.crowd import EVERYBODY, MANY, MARGIN, SETTING, TENTH
from dml.evidence.words import capital, pages
from dml.files import read_table
from dml.stats import paired
from dml.studies.crowd import FIELDS, NAME, plan
from dml.studies.study import STUDIES

NOTHING = "Nothing is on record yet."
PAGES = pages("crowd")
SHOWN = {
    "dml": "DML",
    "fedavg": "FedAvg",
    "local+public": "public labels alone",
    "self": "own predictions",
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
    """What a reader with many clients should expect, with the fewest and the most on record; "" before two seeds of
    any K are on record.
    """
    clients = recorded(folder)
    if clients is None or clients["seed"].nunique() < 2:
        return ""
    gains, values = crowd.gains(clients), crowd.by_seed(clients).reset_index()
    told = ["drawn faces, 24 images a client."]
    for setting, words in ((EVERYBODY, "all a round"), (TENTH, "a tenth of them a round")):
        own = values[_in(values, setting)]
        for count in dict.fromkeys((own["clients"].min(), own["clients"].max())):
            told += _reached(own[own["clients"] == count], f"{count:,.0f} clients, {words}")
    own = gains[(gains["against"] == "self") & _in(gains, EVERYBODY)]
    ends = own.iloc[[0, -1]].drop_duplicates() if len(own) else own
    worth = [f"{points(row)} with {row.clients:,} clients (n = {row.n})" for row in ends.itertuples()]
    told += [f"The peers are worth, beyond own predictions, in points: {'; '.join(worth)}."] if worth else []
    return " ".join([*told, *_each_pays(read_table(folder / NAME / "costs.csv")), STATE[complete(clients)]])


def brief(folder: Path = STUDIES) -> str:
    """The same for the README: DML minus FedAvg, all clients a round, with the most that have the most seeds and with
    the most that have two; and so many with a tenth a round. "" before two seeds are on record.
    """
    clients = recorded(folder)
    if clients is None or clients["seed"].nunique() < 2:
        return ""
    gains, state = crowd.gains(clients), "" if complete(clients) else " (interim)"
    apart = gains[(gains["against"] == "fedavg") & (gains["n"] > 1)].sort_values("clients")
    everybody, tenth = (apart[_in(apart, setting)] for setting in (EVERYBODY, TENTH))
    seen = everybody[everybody["n"] == everybody["n"].max()].tail(1)
    chosen = pd.concat([seen, everybody.tail(1)]).drop_duplicates("clients")
    whole, part = (
        "; ".join(f"{row.clients:,}{who} {points(row)} (n = {row.n})" for row in rows.itertuples())
        for rows, who in ((chosen, " clients"), (tenth.tail(1), ", a tenth a round:"))
    )
    told = ". ".join(filter(None, (whole, part)))
    return f"DML minus FedAvg, drawn faces{state}: {told}." if told else ""


def _reached(values: pd.DataFrame, who: str) -> list[str]:
    """A sentence on the accuracy of a crowd, by arm, all on DML's seeds; none where DML is not there."""
    if "dml" not in values or (own := values[values["dml"].notna()]).empty:
        return []
    arms = [arm for arm in SHOWN if arm in own and own[arm].notna().all()]
    shown = ", ".join(f"{SHOWN[arm]} {100 * own[arm].mean():.1f}" for arm in arms)
    return [f"{capital(who)}: {shown} % right (n = {len(own)}{', the same seeds' * (len(own) > 1)})."]


def _in(rows: pd.DataFrame, setting: tuple) -> pd.Series:
    """Which rows are of a setting."""
    return (rows[SETTING] == pd.Series(dict(zip(SETTING, setting, strict=True)))).all(axis=1)


def _each_pays(runs: pd.DataFrame) -> list[str]:
    """What one client sends and gets in a round in which it takes part, with the most clients."""
    own = runs[(runs["data"] == "faces") & (runs["clients"] == runs["clients"].max())]
    both = own.groupby("arm")[["up", "down"]].mean().sum(axis=1)
    told = [f"{SHOWN[arm]} {both[arm]:,.0f}" for arm in ("dml", "fedavg") if arm in both]
    return [f"Bytes of one client a round, both ways, of {own['clients'].max():,}: {', '.join(told)}."] if told else []


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
    return [capital(told) if told else NOTHING, PAGES]
