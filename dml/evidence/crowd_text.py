"""What a reader with many clients should expect: the page figures/crowd.md, and the sentence of the README."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dml.evidence import crowd, crowd_cost
from dml.evidence.answers import points
from dml.evidence.crowd import EVERYBODY, SETTING, TENTH
from dml.evidence.words import estimate, joined, table
from dml.files import read_table
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
COSTS = {"seconds": "CPU seconds", "refine_ms": "refinement of one client", "state_mb": "memory"}


def recorded(folder: Path = STUDIES) -> pd.DataFrame | None:
    """The sampled clients of the study, if any seed is on record."""
    file = folder / NAME / "clients.csv.gz"
    return read_table(file) if file.is_file() else None


def costs(folder: Path = STUDIES) -> pd.DataFrame | None:
    """What was measured of cost, if anything."""
    file = folder / "crowd-cost" / "costs.csv"
    return read_table(file) if file.is_file() else None


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


def _complete(clients: pd.DataFrame) -> bool:
    """Whether all that is planned is on record."""
    key = ["data", "seed", *FIELDS]
    done = set(clients[key].drop_duplicates().itertuples(index=False, name=None))
    return done >= {
        (grid.data, seed, *(getattr(cell, name) for name in FIELDS))
        for grid in plan().grids
        for seed in grid.seeds
        for cell in grid.cells
    }


def _accuracy(clients: pd.DataFrame) -> Iterator[str]:
    yield (
        f"{STATE[_complete(clients)]} Accuracy on unseen images, %, mean [95 %, Student's t] (n seeds), of a sample of "
        "at most 50 clients drawn before the run; 24 images a client; last round."
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
    lines = []
    for row in crowd.judged(clients).itertuples():
        p = "" if pd.isna(row.p) else f"{row.p:.3f}"
        shown = points(row) if row.n else "not yet"
        lines.append((row.name, row.what, shown, row.n, p, row.answer))
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
        f"{_each_pays(read_table(folder / NAME / 'costs.csv'))} {STATE[_complete(clients)]}"
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


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 07: what to expect, in words."""
    told = expectation(folder)
    return [f"{told[0].upper()}{told[1:]}" if told else NOTHING, PAGES]
