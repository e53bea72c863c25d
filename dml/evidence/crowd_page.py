"""The page figures/crowd.md: accuracy by the number of clients, predictions, who is absent, bytes, cost."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from dml.evidence import crowd, crowd_cost
from dml.evidence.answers import FAILED, HELD, OPEN
from dml.evidence.crowd import EVERYBODY, SETTING, SOME, TENTH
from dml.evidence.crowd_text import NOTHING, STATE, complete, costs, recorded
from dml.evidence.predictions import answered, shown
from dml.evidence.words import estimate, joined, points, table
from dml.files import read_table
from dml.stats import interval
from dml.studies import crowd_cost as measurements
from dml.studies.crowd import ALONE, NAME
from dml.studies.study import STUDIES

COSTS = {"seconds": "CPU seconds", "refine_ms": "refinement of one client", "state_mb": "memory"}
EXACT = 1e-6  # nats: P7
HEAR_NOBODY = ("local+public", "self")
PAID = ("up", "down", "setup", "run", "server_in", "server_out")
TURNS = 4  # from so many on, turns are one column


def text(folder: Path = STUDIES) -> str:
    """Everything on record: accuracy by K, predictions, who is absent, bytes, cost."""
    clients, spent = recorded(folder), costs(folder)
    lines = ["### Accuracy", "", *(_accuracy(clients) if clients is not None else [NOTHING])]
    if clients is not None:
        runs = read_table(folder / NAME / "costs.csv")
        lines += ["", "### Predictions", "", *_predictions(clients, runs)]
        lines += ["", "### Who is absent", "", *_absent(clients)]
        lines += ["", "### Bytes", "", *_bytes(runs)]
    lines += ["", "### Cost", "", *(_cost(spent) if spent is not None else [NOTHING])]
    return joined(lines)


def _accuracy(clients: pd.DataFrame) -> Iterator[str]:
    yield (
        f"{STATE[complete(clients)]} Accuracy on unseen images, %, mean [95 %, Student's t] (n seeds), of a sample of "
        "at most 50 clients drawn before the run; 24 images a client; last round. Arms in which nobody hears of "
        f"anybody ({', '.join(f'`{arm}`' for arm in ALONE)}) are run once: their cells are of the first clients of "
        "that run. Arms with different n are not on the same seeds; the second table of each part has differences "
        "paired by seed (points; of log loss, nats; uncorrected) and DML's own disagreement. A client is judged by its "
        "own last model, in FedAvg by the newest common one."
    )
    means, rounds = crowd.accuracy(clients), clients.groupby(SETTING)["rounds"].first()
    apart, losses = (crowd.gains(clients, metric) for metric in ("accuracy", "log_loss"))
    losses = losses[losses["against"].isin(("fedavg", "local+public"))]
    unlike = crowd.accuracy(clients, "disagreement")
    unlike = unlike[unlike["arm"] == "dml"]
    for setting, part in means.groupby(SETTING, sort=False):
        here = [each[crowd.within(each, setting)] for each in (apart, losses, unlike)]
        yield from [
            "",
            f"{_called(setting, rounds[setting])}:",
            "",
            *_by_count([(part, "arm", "`{}`", ".1f", 100)]),
            "",
        ]
        yield from _by_count(
            [
                (here[0], "against", "DML minus `{}`", "+.2f", 100),
                (here[1], "against", "log loss of DML minus `{}`'s", "+.2f", 1),
                (here[2], "arm", "disagreement of `{}`, %", ".1f", 100),
            ]
        )


def _by_count(parts: Sequence[tuple[pd.DataFrame, str, str, str, float]]) -> list[str]:
    """A row a number of clients, a column an arm of each part: its rows, where arms stand, title, form and scale."""
    columns: dict[str, dict[int, str]] = {}
    for rows, arm, title, form, scale in parts:
        for row in rows.to_dict("records"):
            cell = f"{estimate(row['mean'], row['low'], row['high'], form, scale)} ({row['n']})"
            columns.setdefault(title.format(row[arm]), {})[row["clients"]] = cell
    if not columns:
        return []
    counts = sorted({count for cells in columns.values() for count in cells})
    lines = ((count, *(cells.get(count, "") for cells in columns.values())) for count in counts)
    return table(("K", *columns), lines)


def _called(setting: tuple, rounds: int) -> str:
    data, share, kept, one_public = setting
    who = "everybody in every round" if share == 1 else f"{100 * share:g} % of the clients a round"
    more = ["sets that are kept" if kept else "fresh folds", *(["one public fold"] if one_public else [])]
    return ", ".join(("Drawn faces" if data == "faces" else "Photographs", f"{rounds} rounds", who, *more))


def _predictions(clients: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    done, values = complete(clients), crowd.by_seed(clients)
    yield (
        "Student's t, Holm over P1 to P6, apart for what is expected and for its contrary. The plan names no test for "
        "P1. Contraries are corrected, and P1 is tested from both sides, only since the tables were seen."
    )
    yield from ["", *shown(answered(crowd.predictions(clients)), not done), ""]
    errors = runs.groupby("clients")["float32_error"].max().dropna()
    if len(errors):
        answer = OPEN if not done else HELD if errors.max() < EXACT else FAILED
        yield (
            f"P7, a count: a float32 sum is at most {errors.max():.1e} nats from the float64 one in any run (K = "
            f"{errors.idxmax():,}), of an entry of the peers' mean (expected: under {EXACT:g}): **{answer}**."
        )
    moved = {arm: crowd.change(values, TENTH, EVERYBODY, SOME, arm) for arm in ("fedavg", "dml", *HEAR_NOBODY)}
    told = "; ".join(f"`{arm}` {points(interval(each.to_numpy()))}" for arm, each in moved.items() if len(each) > 1)
    if told:
        yield from [
            "",
            f"P5 compares two settings that differ in rounds and turns, too. A tenth a round minus all, K = {SOME}, "
            f"points (post hoc): {told}. Arms that hear nobody show what the turns do without any exchange.",
        ]


def _absent(clients: pd.DataFrame) -> Iterator[str]:
    """Accuracy of the sampled clients by how often they took part, and how long ago."""
    away = clients[(clients["share"] < 1) & (clients["arm"] == "dml") & ~clients["one_public"]]
    if away.empty:
        yield NOTHING
        return
    yield (
        "DML's clients by turns, the rounds in which a client took part; who never did has the model of the set-up. "
        "Accuracy, %, mean over seeds of the mean over sampled clients (clients; rounds since they last took part, "
        "mean). A client has the same images and coins at every K, so rows share the clients of the seeds they share."
    )
    names = ["never", "1 turn", *(f"{turns} turns" for turns in range(2, TURNS)), f"{TURNS} or more"]
    away = away.assign(band=away["turns"].clip(upper=TURNS).astype(int))
    lines = []
    for count, part in away.groupby("clients"):
        means = part.groupby(["seed", "band"])["accuracy"].mean().groupby("band").mean()
        ages, counted = part.groupby("band")["staleness"].mean(), part["band"].value_counts()
        cells = (
            f"{100 * means[band]:.1f} ({counted[band]}{f'; {ages[band]:.1f}' if band else ''})" if band in means else ""
            for band in range(TURNS + 1)
        )
        lines.append((count, *cells, part["seed"].nunique()))
    yield from ["", *table(("K", *names, "n seeds"), lines)]


def _bytes(runs: pd.DataFrame) -> Iterator[str]:
    own = runs[(runs["data"] == "faces") & runs["arm"].isin(["dml", "fedavg"]) & runs["kept"] & ~runs["one_public"]]
    yield (
        "Bytes, mean over seeds: of a client in a round in which it takes part, in its set-up, and over the run with "
        "the turns that are expected; of the server in a round. To use FedAvg's last model everybody fetches it; that "
        "is counted for those present in the last round alone."
    )
    means = crowd.paid(own).groupby(["arm", "share", "clients"])[[*PAID]].mean()
    lines = [
        (f"`{arm}`", f"{100 * share:g} %", count, *(f"{value:,.0f}" for value in row))
        for (arm, share, count), row in zip(means.index, means.to_numpy(), strict=True)
    ]
    yield from ["", *table(("arm", "a round", "K", *(name.replace("_", " ") for name in PAID)), lines)]
    looks = runs[runs["arm"] == "dml"]
    if len(looks):
        share = looks["look_s"].sum() / looks["cpu_s"].sum()
        yield from ["", f"Looking at the sample took {100 * share:.0f} % of DML's CPU time."]


def _cost(spent: pd.DataFrame) -> Iterator[str]:
    inside, planned = crowd_cost.inside(spent), len(list(measurements.points()))
    done = f"All {planned}" if len(spent) >= planned else f"{len(spent)} of {planned} planned"
    yield (
        f"{done} measurements. One round, one epoch a phase, 28 pixels, each measurement in a process of its own "
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
            f"One more client of DML takes {measured:.2f} MiB; its weights and two moments are {numbers:.2f} MiB. Its "
            f"refinement costs {crowd_cost.flat(spent):.2f} times as much with the most clients as with the fewest.",
        ]
    for row in spent[spent["on_disk"]].itertuples():
        yield from [
            "",
            f"{row.clients:,} clients of the {row.size}-pixel network in a memory-mapped file: at most "
            f"{row.peak_mb / 1024:.2f} GiB in memory, {row.before_mb / 1024:.2f} GiB of it before the clients were "
            f"made (libraries and {row.fold} images a client).",
        ]
