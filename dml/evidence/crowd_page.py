"""The page figures/crowd.md: accuracy by the number of clients, predictions, stale models, bytes, cost."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dml.evidence import crowd, crowd_cost
from dml.evidence.answers import OPEN, points
from dml.evidence.crowd import SETTING
from dml.evidence.crowd_text import NOTHING, STATE, complete, costs, recorded
from dml.evidence.words import estimate, joined, table
from dml.files import read_table
from dml.studies.crowd import ALONE, NAME
from dml.studies.study import STUDIES

COSTS = {"seconds": "CPU seconds", "refine_ms": "refinement of one client", "state_mb": "memory"}


def text(folder: Path = STUDIES) -> str:
    """Everything on record: accuracy by K, predictions, stale models, bytes, cost."""
    clients, spent = recorded(folder), costs(folder)
    lines = ["### Accuracy", "", *(_accuracy(clients) if clients is not None else [NOTHING])]
    if clients is not None:
        lines += ["", "### Predictions", "", *_predictions(clients)]
        lines += ["", "### Who is absent", "", *_stale(clients)]
        lines += ["", "### Bytes, and digits", "", *_bytes(read_table(folder / NAME / "costs.csv"))]
    lines += ["", "### Cost", "", *(_cost(spent) if spent is not None else [NOTHING])]
    return joined(lines)


def _accuracy(clients: pd.DataFrame) -> Iterator[str]:
    yield (
        f"{STATE[complete(clients)]} Accuracy on unseen images, %, mean [95 %, Student's t] (n seeds), of a sample of "
        "at most 50 clients drawn before the run; 24 images a client; last round. Arms in which nobody hears of "
        f"anybody ({', '.join(f'`{arm}`' for arm in ALONE)}) are run once: their cells are of the first clients of "
        "that run. Arms with different n are not on the same seeds; the predictions below pair them."
    )
    rows = crowd.accuracy(clients)
    arms = list(dict.fromkeys(rows["arm"]))
    for setting, part in rows.groupby(SETTING, sort=False):
        yield from ["", f"{_called(setting)}:", ""]
        here = [arm for arm in arms if arm in set(part["arm"])]
        lines = []
        for count, own in part.groupby("clients"):
            told = own.set_index("arm")
            lines.append((count, *(_cell(told.loc[arm]) if arm in told.index else "" for arm in here)))
        yield from table(("K", *(f"`{arm}`" for arm in here)), lines)


def _called(setting: tuple) -> str:
    data, share, kept, one_public = setting
    who = "everybody in every round" if share == 1 else f"{100 * share:g} % of the clients a round"
    more = ["sets that are kept" if kept else "fresh folds", *(["one public fold"] if one_public else [])]
    return ", ".join(("Drawn faces" if data == "faces" else "Photographs", who, *more))


def _cell(row: pd.Series) -> str:
    return f"{estimate(row['mean'], row['low'], row['high'], '.1f')} ({row['n']:.0f})"


def _predictions(clients: pd.DataFrame) -> list[str]:
    lines, decided = [], complete(clients)
    for row in crowd.judged(clients).itertuples():
        p = "" if pd.isna(row.p) else f"{row.p:.3f}"
        shown = points(row) if row.n else "not yet"
        lines.append((row.name, row.what, shown, row.n, p, row.answer if decided else OPEN))
    return table(("", "difference", "points [95 %]", "n", "p, Holm", "answer"), lines)


def _stale(clients: pd.DataFrame) -> Iterator[str]:
    """Accuracy of the sampled clients by how many rounds ago they last took part."""
    away = clients[(clients["share"] < 1) & (clients["arm"] == "dml") & ~clients["one_public"]]
    if away.empty:
        yield NOTHING
        return
    yield (
        "DML's clients by staleness, the rounds since a client last took part; who never did has the model of the "
        "set-up. Accuracy, %, mean over seeds of the mean over the sampled clients."
    )
    never = away["turns"] == 0
    bands = pd.cut(away["staleness"], [-1, 0, 4, 9, 20], labels=["0", "1 to 4", "5 to 9", "10 or more"]).astype(object)
    away = away.assign(band=bands.where(~never, "never took part"))
    order = ["0", "1 to 4", "5 to 9", "10 or more", "never took part"]
    lines = []
    for count, part in away.groupby("clients"):
        means = part.groupby(["seed", "band"])["accuracy"].mean().groupby("band").mean()
        counted = part["band"].value_counts()
        lines.append(
            (
                count,
                *(f"{100 * means[band]:.1f} (n = {counted[band]} clients)" if band in means else "" for band in order),
            )
        )
    yield from ["", *table(("K", *order), lines)]


def _bytes(runs: pd.DataFrame) -> Iterator[str]:
    own = runs[(runs["data"] == "faces") & runs["arm"].isin(["dml", "fedavg"]) & runs["kept"] & ~runs["one_public"]]
    yield (
        "Bytes, mean over seeds: of a client in a round in which it takes part, in its set-up, and of the server in a "
        "round."
    )
    means = own.groupby(["arm", "share", "clients"])[["up", "down", "setup", "server_in", "server_out"]].mean()
    lines = [
        (f"`{arm}`", f"{100 * share:g} %", count, *(f"{value:,.0f}" for value in row))
        for (arm, share, count), row in zip(means.index, means.to_numpy(), strict=True)
    ]
    yield from ["", *table(("arm", "a round", "K", "up", "down", "set-up", "server in", "server out"), lines)]
    worst, looks = runs.groupby("clients")["float32_error"].max().dropna(), runs[runs["arm"] == "dml"]
    if worst.empty or looks.empty:
        return
    yield from [
        "",
        f"A float32 sum over {worst.index[-1]:,} clients' log-probabilities is at most {worst.iloc[-1]:.1e} nats from "
        f"the float64 one, of an entry of the peers' mean ({worst.iloc[0]:.1e} with {worst.index[0]}). Looking at the "
        f"sample took {100 * looks['look_s'].sum() / looks['cpu_s'].sum():.0f} % of DML's CPU time.",
    ]


def _cost(spent: pd.DataFrame) -> Iterator[str]:
    inside = crowd_cost.inside(spent)
    yield (
        "One round, one epoch a phase, 28 pixels, each measurement in a process of its own "
        f"({spent['processor'].iloc[0]}, one thread, other work beside it); K from {inside['clients'].min()} to "
        f"{inside['clients'].max():,}. Slopes in logarithms: 1 is linear, 0 flat."
    )
    lines = [
        (f"`{row.arm}`", COSTS[row.cost], estimate(row.slope, row.low, row.high, ".2f", 1), row.n)
        for row in crowd_cost.slopes(spent)
    ]
    yield from ["", *table(("arm", "cost", "slope [95 %]", "n"), lines)]
    if lines:
        measured, numbers = crowd_cost.megabytes_a_client(spent)
        yield from [
            "",
            f"One more client of DML takes {measured:.2f} MB; its weights and two moments are {numbers:.2f} MB. Its "
            f"refinement costs {crowd_cost.flat(spent):.2f} times as much with the most clients as with the fewest.",
        ]
    for row in spent[spent["on_disk"]].itertuples():
        yield from [
            "",
            f"{row.clients:,} clients of the {row.size}-pixel network in a memory-mapped file: at most "
            f"{row.peak_mb / 1024:.2f} GB in memory, {row.before_mb / 1024:.2f} GB of it before the clients were made "
            f"(libraries and {row.fold} images a client).",
        ]
