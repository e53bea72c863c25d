"""The study `skew` beyond its map: DML beside its relatives, every endpoint, clients of unequal size."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence.skew import (
    LABELLED,
    MAIN,
    NOTHING,
    RULES,
    alike,
    by_seed,
    cell_of,
    fields_of,
    marked,
    on_the_map,
    recorded,
    to_best,
    twin_of,
)
from dml.evidence.words import estimate, table
from dml.files import read_table
from dml.stats import columns, interval
from dml.studies.study import STUDIES

NAME = "skew"
TITLE = "DML beside its relatives"
LEVELS = ("0.1", "0.01")  # with relatives
FOLDS = ("balanced", "unlabelled")
CLIP = "clip 0.02"
MEASURES = {  # of the unseen images: metric, and how over the clients
    "accuracy": ("unseen accuracy", "mean"),
    "personal": ("unseen personal accuracy", "mean"),
    "worst": ("unseen accuracy", "min"),
    "disagreement": ("unseen disagreement", "mean"),
    "log loss": ("unseen log loss", "mean"),
}
SPENT = ["up", "down", "setup", "epochs"]  # bytes of a client in a round and at set-up; epochs of all clients
BESIDE = ["arm", *MEASURES, "mean", "low", "high", "n", *SPENT]
CONTROLS = {  # of Def-KT: what it has less than Def-KT
    "def-kt, only moved": "no teaching: the model merely moves",
    "def-kt, receiver frozen": "the receiver's model does not learn",
    "def-kt, averaged": "the mean of the pair, not two models",
    "def-kt, own kept": "the model that came does not stay",
    "def-kt, stranger": "nothing sent: the pupil is a new model",
    "def-kt's fedavg": "FedAvg of the same clients and images",
}
SHARES = ("accuracy, %", "own mixture, %", "worst client, %", "disagreement, %", "log loss")
BYTES = ("bytes up / down", "set-up", "epochs")
TOLD = (
    "On the seeds that all arms of a table have. Intervals are of one comparison each, not corrected; the order is by",
    "the mean. The plan tests only P6, which is relatives minus DML, and P7, `def-kt` minus `def-kt, only moved`;",
    "`dml, certain discounted` was added when all else had been seen: peers certain of all public images weigh less.",
    "Our optimiser throughout; *authors'*: their number of public epochs. RHFL comes without its exchange in every",
    "batch, SCARLET without its cache, KT-A without its similarity. Def-KT trains on private and public images",
    "together, as does its control without exchange, `def-kt, stranger`. Own mixture: recalls weighted by a client's",
    "own classes. Bytes: of a client in a round, envelopes included, idle clients too, with 24 public images; set-up:",
    "the model, and public images as raw pixels where clients train on them. Epochs: of all clients, on record; one of",
    "Def-KT's is over more images and counts once while two models teach each other.",
)


def beside(results: pd.DataFrame, costs: pd.DataFrame, alpha: str, fold: str) -> pd.DataFrame:
    """Every arm that was run at a level of skew with a public fold, the most accurate first, on the seeds that all of
    them have: columns `BESIDE`, where mean, low and high are those of DML minus the arm.
    """
    cell, twin = cell_of(alpha, fold), twin_of(alpha, fold)
    pairs = results[["cell", "arm"]].drop_duplicates()
    arms = {name: set(pairs.loc[pairs["cell"] == name, "arm"]) for name in (cell, twin, f"{cell}; {CLIP}")}
    places = {arm: (cell, arm) for arm in sorted(arms[cell])}
    places |= {arm: (twin, arm) for arm in ("local", "fedavg") if arm in arms[twin]}
    places |= {"dml, clipped": (f"{cell}; {CLIP}", "dml")} if arms[f"{cell}; {CLIP}"] else {}
    return measured(results, costs, places).sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)


def measured(results: pd.DataFrame, costs: pd.DataFrame, places: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Columns `BESIDE` of arms by name, each of a cell and an arm; what was not recorded in a cell is NaN."""
    rows = results[results["cell"].isin({cell for cell, _ in places.values()})]
    found = {measure: by_seed(rows, metric, how) for measure, (metric, how) in MEASURES.items()}
    right = pd.DataFrame({name: found["accuracy"][cell][arm] for name, (cell, arm) in places.items()}).dropna()
    if "dml" not in places or right.empty:
        return pd.DataFrame(columns=BESIDE)
    spent = costs.groupby(["cell", "arm"])[SPENT].mean()

    def mean(measure: str, cell: str, arm: str) -> float:
        return found[measure][cell][arm].reindex(right.index).mean() if cell in found[measure] else np.nan

    lines_ = [
        {"arm": name}
        | {measure: mean(measure, *place) for measure in MEASURES}
        | columns(interval((right["dml"] - right[name]).to_numpy()))
        | spent.loc[place].to_dict()
        for name, place in places.items()
    ]
    return pd.DataFrame(lines_)[BESIDE]


def lines(folder: Path = STUDIES, so_far: str = "") -> Iterator[str]:
    """A table of all arms for each level and public fold, the main arms in every regime, clients of unequal size."""
    if (results := recorded(folder, NAME)) is None:
        yield NOTHING
        return
    costs, cells = read_table(folder / NAME / "costs.csv"), by_seed(results)
    yield f"{marked(so_far)}Photographs, reduced protocol, 5 clients; Student's t over seeds."
    yield from TOLD
    titles = ("arm", SHARES[0], "DML minus it, points [95 %]", *SHARES[1:], *BYTES, "n")
    for alpha in LEVELS:
        for fold in FOLDS:
            found = beside(results, costs, alpha, fold)
            told = (
                (f"`{row['arm']}`", _share(row["accuracy"]), _less(row), *_endpoints(row), row["n"])
                for row in found.to_dict("records")
            )
            yield from ["", f"**Dirichlet {alpha}, public images {LABELLED[fold]}**", ""]
            yield from table(titles, told) if len(found) else [NOTHING]
    yield from ["", f"**Def-KT minus its controls**, public images {LABELLED[FOLDS[0]]}; planned: the first (P7)", ""]
    yield from table(("Dirichlet", "control", "what it is", "Def-KT minus it, points", "n"), _controls(cells))
    yield from ["", "**Every main arm in every regime**", ""]
    yield from table(("public images", "Dirichlet", "arm", *SHARES, *BYTES, "n"), _regimes(results, costs))
    yield from ["", "**Clients of unequal size** (Dirichlet 0.5 of the sizes), public images labelled and balanced", ""]
    yield "The best of `local+public` and `fedavg+public`, the arms that were run; FedAvg is the plain mean, whatever"
    yield from ["a client's size.", ""]
    yield from _unequal(cells) or [NOTHING]


def _controls(cells: Mapping[str, pd.DataFrame]) -> Iterator[tuple]:
    """Def-KT minus each of its controls at each level of skew, on the seeds that both have, from accuracy by seed."""
    for alpha in LEVELS:
        here = cells.get(cell_of(alpha, FOLDS[0]), pd.DataFrame())
        for control, what in CONTROLS.items():
            if {"def-kt", control} <= set(here):
                pair = here[["def-kt", control]].dropna()
                gain = interval((pair["def-kt"] - pair[control]).to_numpy())
                yield alpha, f"`{control}`", what, estimate(gain.mean, gain.low, gain.high), gain.n


def _regimes(results: pd.DataFrame, costs: pd.DataFrame) -> Iterator[tuple]:
    """The rows of every main arm in every cell of the map, the least skewed first."""
    pairs = results[["cell", "arm"]].drop_duplicates()
    arms = {cell: set(part) for cell, part in pairs.groupby("cell")["arm"]}
    cells = [(fields_of(cell), cell) for cell in arms if on_the_map(cell)]
    folds = list(LABELLED)
    cells.sort(key=lambda each: (folds.index(each[0]["public_fold"]), -float(each[0]["label_alpha"])))
    for changed, cell in cells:
        where = LABELLED[changed["public_fold"]], changed["label_alpha"].replace("inf", "none")
        for row in measured(results, costs, {arm: (cell, arm) for arm in MAIN if arm in arms[cell]}).to_dict("records"):
            yield (*where, f"`{row['arm']}`", _share(row["accuracy"]), *_endpoints(row), row["n"])


def _share(value: float) -> str:
    return "" if np.isnan(value) else f"{100 * value:.1f}"


def _less(row: dict) -> str:
    return "" if row["arm"] == "dml" else estimate(row["mean"], row["low"], row["high"])


def _endpoints(row: dict) -> tuple[str, ...]:
    """What a row says beside accuracy, as `SHARES` and `BYTES` name it."""
    shares = (_share(row[measure]) for measure in ("personal", "worst", "disagreement"))
    spent = (f"{row['up']:,.0f} / {row['down']:,.0f}", f"{row['setup']:,.0f}", f"{row['epochs']:.0f}")
    return *shares, f"{row['log loss']:.2f}", *spent


def _unequal(cells: Mapping[str, pd.DataFrame]) -> list[str]:
    """DML minus the best rule without outputs among clients of unequal size, of equal size, and the change between."""
    rows = []
    for cell, own in cells.items():
        changed = fields_of(cell)
        twin = cells.get(cell_of(changed["label_alpha"], changed.get("public_fold", "")))
        rules = [arm for arm in RULES if arm in own]
        if "size_alpha" not in changed or twin is None or not rules:
            continue
        here = own[["dml", *rules]].dropna()
        there = twin.reindex(here.index)[["dml", *rules]].dropna()
        if len(here) and len(here) == len(there):
            rule, gain = to_best(here, rules)
            before = there["dml"] - there[rule]
            pair = interval(before.to_numpy()), interval((here["dml"] - here[rule] - before).to_numpy())
            found = (estimate(one.mean, one.low, one.high) for one in (gain, *pair))
            where = "alike" if alike(cell) else f"Dirichlet {changed['label_alpha']}"
            rows.append((where, _share(here["dml"].mean()), f"`{rule}`", *found, gain.n))
    titles = ("classes", "`dml`, %", "best arm", "DML minus it, points", "among clients of equal size", "change", "n")
    return table(titles, rows) if rows else []
