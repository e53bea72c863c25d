"""Clients with different models: the study `models` of data/plan_skew.md, or notebook 05's small piece of it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from dml.evidence.skew import (
    ABOVE,
    BELOW,
    EQUAL,
    MARGIN,
    NOTHING,
    UNDECIDED,
    alike,
    by_seed,
    fields_of,
    marked,
    recorded,
    to_best,
    verdict_row,
)
from dml.evidence.words import between, estimate, table
from dml.stats import columns, holm, paired
from dml.studies.study import STUDIES

NAME = "models"
TITLE = "Clients with different models"
COLUMNS = ["cell", "kind", "mean", "low", "high", "n", "alone", "state"]
STATES = {"higher": ABOVE, "lower": BELOW, "same": EQUAL, "open": UNDECIDED}  # of a difference
ALONE = "local+public"
STAND_INS = (ALONE, "fedavg+public", "feddf+labels", "heterofl+public")  # for averaging, which cannot mix models
ARMS = ("dml", "dml, own kind", *STAND_INS)


def kinds_of(cell: str) -> list[str]:
    """The kinds of model of a cell's clients, who have them in turn; none where that was not changed."""
    return list(filter(None, fields_of(cell).get("models", "").split(",")))


def who(cell: str) -> str:
    """Who the clients of a cell are: "5 kinds of model, classes alike"."""
    kinds, alpha = kinds_of(cell), fields_of(cell)["label_alpha"]
    models = f"{len(kinds)} kinds of model" if len(kinds) > 1 else f"all {kinds[0]}"
    return f"{models}, {'classes alike' if alike(cell) else f'Dirichlet {alpha}'}"


def different(results: pd.DataFrame) -> list[str]:
    """The cells whose clients have different models, in order."""
    cells = in_order(by_seed(results))
    return [cell for cell, arms in cells.items() if len(kinds_of(cell)) > 1 and {"dml", ALONE} <= set(arms)]


def in_order(cells: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The cells of like clients first, those of many kinds of model before those of few."""
    return dict(sorted(cells.items(), key=lambda each: (not alike(each[0]), -len(kinds_of(each[0])), each[0])))


def by_kind(results: pd.DataFrame, cell: str) -> dict[str, pd.DataFrame]:
    """Of every kind of model in a cell of different ones, the weak before the strong: accuracy of DML and of
    `local+public`, mean over the same clients, a row a seed.
    """
    kinds, rows = kinds_of(cell), results[(results["cell"] == cell) & (results["metric"] == "unseen accuracy")]
    parts = {
        kind: part.pivot_table(index="seed", columns="arm", values="value")[["dml", ALONE]].dropna()
        for kind, part in rows.groupby(rows["client"].map(lambda client: kinds[client % len(kinds)]))
    }
    return dict(sorted(parts.items(), key=lambda part: part[1][ALONE].mean()))


def gains(results: pd.DataFrame) -> pd.DataFrame:
    """Of every kind of model in every cell of different ones: DML minus `local+public` of the same clients; columns
    `COLUMNS`, where `alone` is the accuracy of `local+public` and `state` what the difference shows at 0.05 after Holm
    over all rows (which data/plan_skew.md does not fix, as it tests P8 alone).
    """
    parts = {(cell, kind): both for cell in different(results) for kind, both in by_kind(results, cell).items()}
    found = holm([paired(both["dml"].to_numpy(), both[ALONE].to_numpy(), MARGIN) for both in parts.values()])
    rows = [
        {"cell": cell, "kind": kind, **columns(one), "alone": both[ALONE].mean(), "state": STATES[one.verdict]}
        for ((cell, kind), both), one in zip(parts.items(), found, strict=True)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def judged(tables: Sequence[pd.DataFrame], _: object = None) -> list[dict]:
    """The verdict row (see `verdicts.COLUMNS`) of F4, which the paper leaves open: models that differ."""
    found = gains(tables[0])
    if found.empty:
        return []
    cells = list(dict.fromkeys(found["cell"]))
    asked = {f"{row.kind} ({who(row.cell)})" if len(cells) > 1 else row.kind: row for row in found.itertuples()}
    says, what = "helps clients with different models (future work)", f"DML minus `{ALONE}` of the same model"
    row = verdict_row("F4", says, asked, what, "05_models")
    if len(cells) == 1:
        return [row]
    counted = "; ".join(f"{who(cell)}: {counts(found[found['cell'] == cell])}" for cell in cells)
    return [row | {"short": f"{what}, kinds of model, n = {between(found['n'])}: {counted}"}]


def counts(found: pd.DataFrame) -> str:
    """How many kinds of model gain, lose, or neither for certain: "1 above, 0 below, 4 undecided"."""
    states = list(found["state"])
    equal = f", {states.count(EQUAL)} equal" if EQUAL in states else ""
    told = f"{states.count(ABOVE)} above, {states.count(BELOW)} below"
    return f"{told}{equal}, {states.count(UNDECIDED)} undecided"


def brief(folder: Path = STUDIES, interim: bool = False) -> str:
    """How many kinds of model gain, in one sentence, for the README; "" while less than two seeds are on record."""
    results = recorded(folder, NAME)
    found = pd.DataFrame(columns=COLUMNS) if results is None else gains(results)
    if found.empty or found["n"].min() < 2:
        return ""
    seeds = f"({between(found['n'])} seeds, Holm{', interim' if interim else ''})"
    parts = {where: found[found["cell"].map(alike) == like] for where, like in (("alike", True), ("skewed", False))}
    told = "; ".join(f"{where} {_above(part)}" for where, part in parts.items() if len(part))
    return f"above `{ALONE}`: {told} {seeds}."


def _above(found: pd.DataFrame) -> str:
    """For how many kinds of model DML is above: "1 of 5, below 2"."""
    states = list(found["state"])
    below = f", below {states.count(BELOW)}" if BELOW in states else ""
    return f"{states.count(ABOVE)} of {len(states)}{below}"


def lines(folder: Path = STUDIES, so_far: str = "") -> Iterator[str]:
    """Accuracy of every arm in every cell with DML minus the best stand-in, and what each kind of model gains."""
    if (results := recorded(folder, NAME)) is None:
        yield NOTHING
        return
    yield f"{marked(so_far)}Photographs, reduced protocol, 10 clients, common accuracy, %; Student's t over seeds."
    yield "DML as published: the clip that notebook 06 recommends was not run here. `fedavg+public` averages within"
    yield "each kind; as a stand-in it is also taken with one kind of model for all. The best stand-in is that by its"
    yield "mean, which favours it. To ask it of every kind of model, with Holm over all, was decided when all rows had"
    yield "been seen (post hoc)."
    cells = in_order(by_seed(results))
    titles = ("clients", *(f"`{arm}`" for arm in ARMS), "DML minus the best stand-in, points [95 %]", "n")
    yield from ["", *table(titles, [_row(cell, cells) for cell in cells])]
    rows = [
        (row.kind, who(row.cell), f"{100 * row.alone:.1f}", estimate(row.mean, row.low, row.high), row.n, row.state)
        for row in gains(results).itertuples()
    ]
    titles = ("model", "clients", f"`{ALONE}`, %", "DML minus it, points [95 %]", "n", "after Holm")
    yield from ["", *table(titles, rows)]


def _row(cell: str, cells: Mapping[str, pd.DataFrame]) -> tuple:
    """A cell's accuracies, and DML minus the stand-in with the highest mean over the same seeds: of different models
    also FedAvg among clients that all have one.
    """
    arms = cells[cell]
    rivals = {f"`{arm}`": arms[arm] for arm in STAND_INS if arm in arms}
    for other, there in cells.items() if len(kinds_of(cell)) > 1 else ():
        if len(kinds_of(other)) == 1 and fields_of(other)["label_alpha"] == fields_of(cell)["label_alpha"]:
            rivals[f"`fedavg+public`, {who(other).partition(',')[0]}"] = there["fedavg+public"]
    full = pd.DataFrame({"dml": arms["dml"], **rivals}).dropna()
    best, gain = to_best(full, [*rivals])
    means = (f"{100 * arms[arm].mean():.1f}" if arm in arms else "" for arm in ARMS)
    return who(cell), *means, f"{estimate(gain.mean, gain.low, gain.high)} to {best}", gain.n
