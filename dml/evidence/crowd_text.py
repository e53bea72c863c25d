"""What a reader with many clients should expect: the sentence of the README and of notebook 07, and the verdict."""

from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence import crowd
from dml.evidence.answers import HELD, OPEN, REFUTED, lists
from dml.evidence.crowd import EVERYBODY, MANY, MARGIN, PHOTOGRAPHS, TENTH
from dml.evidence.words import capital, pages, points, side
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
SHOWS = {"above zero": "above", "below zero": "below", "on both sides of zero": "open"}
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
    """What a reader with many clients should expect: accuracy with the fewest and the most on record, DML's differences
    where they are surest, photographs, bytes; "" before two seeds of any K are on record.
    """
    clients = recorded(folder)
    if clients is None or clients["seed"].nunique() < 2:
        return ""
    gains, values = crowd.gains(clients), crowd.by_seed(clients).reset_index()
    told = ["drawn faces, 24 images a client."]
    for setting, words in ((EVERYBODY, "all a round"), (TENTH, "a tenth of them a round")):
        own = values[crowd.within(values, setting)]
        for count in dict.fromkeys((own["clients"].min(), own["clients"].max())):
            told += _reached(own[own["clients"] == count], f"{count:,.0f} clients, {words}")
    for arm, name in (("local+public", "public labels alone"), ("self", "own predictions")):
        own = gains[(gains["against"] == arm) & crowd.within(gains, EVERYBODY)]
        worth = [f"{points(row)} with {row.clients:,} clients (n = {row.n})" for row in _surest(own).itertuples()]
        told += [f"DML minus {name}, in points: {'; '.join(worth)}."] if worth else []
    photographs = gains[(gains["against"] == "fedavg") & crowd.within(gains, PHOTOGRAPHS) & (gains["n"] > 1)]
    apart = [f"{points(row)} with {row.clients:,} clients (n = {row.n})" for row in photographs.itertuples()]
    told += [f"Photographs, all a round, DML minus FedAvg: {'; '.join(apart)}."] if apart else []
    return " ".join([*told, *_each_pays(read_table(folder / NAME / "costs.csv")), STATE[complete(clients)]])


def _surest(rows: pd.DataFrame) -> pd.DataFrame:
    """Of rows by number of clients: the most clients that have the most seeds, and the most with two."""
    there = rows[rows["n"] > 1].sort_values("clients")
    return pd.concat([there[there["n"] == there["n"].max()].tail(1), there.tail(1)]).drop_duplicates("clients")


def _ends(rows: pd.DataFrame) -> pd.DataFrame:
    """Of rows by number of clients that have the most seeds, two at least: the fewest clients, and the most."""
    there = rows[rows["n"] == max(2, rows["n"].max())].sort_values("clients")
    return pd.concat([there.head(1), there.tail(1)]).drop_duplicates("clients")


def brief(folder: Path = STUDIES) -> str:
    """DML minus FedAvg for the README: of photographs with the fewest and the most clients that have the most seeds, of
    drawn faces, and of these with a tenth a round, with the most; of drawn faces also what more clients with fewer
    seeds show. "" before two seeds are on record.
    """
    clients = recorded(folder)
    if clients is None or clients["seed"].nunique() < 2:
        return ""
    gains = crowd.gains(clients)
    apart = gains[gains["against"] == "fedavg"]
    photographs = _ends(apart[crowd.within(apart, PHOTOGRAPHS)])
    faces, tenth = (_surest(apart[crowd.within(apart, each)]) for each in (EVERYBODY, TENTH))
    of_faces = [_apart(faces.head(1))] if len(faces) else []
    of_faces += [f"{row.clients:,} {SHOWS[side(row.low, row.high)]} ({row.n})" for row in faces.iloc[1:].itertuples()]
    of_faces += [f"{row.clients:,}, a tenth a round, {points(row)} ({row.n})" for row in tenth.head(1).itertuples()]
    told = [f"photographs, {_apart(photographs)}."] if len(photographs) else []
    told += [f"drawn faces, {'; '.join(of_faces)}."] if of_faces else []
    state = "" if complete(clients) else " (interim)"
    return f"DML minus FedAvg, kept images{state}: {' '.join([*told[:1], *map(capital, told[1:])])}" if told else ""


def _apart(rows: pd.DataFrame) -> str:
    """Differences by the number of clients, all of as many seeds."""
    first, *others = (f"{count:,}" for count in rows["clients"])
    counts = [f"{first} clients", *others]
    told = ", ".join(f"{count} {points(row)}" for count, row in zip(counts, rows.itertuples(), strict=True))
    return f"{told} ({rows['n'].max()})"


def _reached(values: pd.DataFrame, who: str) -> list[str]:
    """A sentence on the accuracy of a crowd, by arm, all on DML's seeds; none where DML is not there."""
    if "dml" not in values or (own := values[values["dml"].notna()]).empty:
        return []
    arms = [arm for arm in SHOWN if arm in own and own[arm].notna().all()]
    shown = ", ".join(f"{SHOWN[arm]} {100 * own[arm].mean():.1f}" for arm in arms)
    return [f"{capital(who)}: {shown} % right (n = {len(own)}{', the same seeds' * (len(own) > 1)})."]


def _each_pays(runs: pd.DataFrame) -> list[str]:
    """What one client sends and gets in a round, and over the run with its set-up, with the most clients."""
    own = crowd.paid(
        runs[
            (runs["data"] == "faces") & (runs["clients"] == runs["clients"].max()) & runs["kept"] & ~runs["one_public"]
        ]
    )
    means, told = own.groupby(["share", "arm"])[["round", "run"]].mean(), []
    for share in sorted(own["share"].unique(), reverse=True):
        both = [
            f"{SHOWN[arm]} {means.loc[(share, arm), 'round']:,.0f} and {means.loc[(share, arm), 'run']:,.0f}"
            for arm in ("dml", "fedavg")
            if (share, arm) in means.index
        ]
        told += [f"{'All' if share == 1 else f'{100 * share:g} %'} a round: {', '.join(both)}."] if both else []
    most = f"{own['clients'].max():,}"
    return [f"Bytes of one client of {most}, a round and the run with its set-up. {' '.join(told)}"] if told else []


def verdict(folder: Path = STUDIES) -> list[dict]:
    """The row on L1 (see `verdicts.COLUMNS`): DML's accuracy minus FedAvg's in the largest crowd of the plan; open
    until the study is complete, none before two seeds of it are on record.
    """
    clients = recorded(folder)
    if clients is None:
        return []
    apart = crowd.difference(crowd.by_seed(clients), EVERYBODY, MANY, "dml", "fedavg")
    if len(apart) < 2:
        return []
    found, done = paired(apart.to_numpy(), np.zeros(len(apart)), MARGIN), complete(clients)
    answer = {"higher": HELD, "open": OPEN}.get(found.verdict, REFUTED) if done else OPEN
    kind = f"{'' if done else 'interim, '}drawn faces, 28 pixels, kept images, margin {100 * MARGIN:g}"
    short = f"{kind}, {MANY:,} clients, points, n = {found.n}: FedAvg {points(found)} {answer}"
    says = f"more accurate than averaging weights with {MANY:,} clients that keep their images"
    row = {"claim": "L1", "system": "", "says": says, **lists({"FedAvg": answer}), "figure": "07_accuracy"}
    return [row | {"why": short, "short": short}]


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 07: what to expect, in words."""
    told = expectation(folder)
    return [capital(told) if told else NOTHING, PAGES]
