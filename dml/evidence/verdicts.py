"""One verdict for every claim of the paper, from the tables in a run's folder: nothing is decided by hand.

A claim is a list of comparisons, each "holds", "fails", "no difference" (the interval is within one percentage point)
or "undecided". It holds when all of them do, holds *only when* some do, does not hold when none does and one is
refuted, and otherwise cannot be tested with the seeds there are.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence import cost_models, many_clients, privacy
from dml.evidence.about import About, read_all
from dml.evidence.accuracy import claims
from dml.evidence.bandwidth import c3
from dml.models import VisionNet

HOLDS, FAILS, SAME, UNDECIDED = "holds", "fails", "no difference", "undecided"
COLUMNS = ["claim", "says", "verdict", "why", "figure", "short"]
WEIGHTS = {
    "fedavg": "weights go as float32",
    "fedavg, 8 bits": "weights go as 8 bits",
    "fedavg, top 1 %": "only the largest 1 % of an update goes",
}
READERS = dict(
    zip(
        privacy.QUESTIONS.values(),
        (
            *("a server reads FedAvg's weights", "a server reads partial weights", "a peer reads what is published"),
            *("a server reads only sums", "a peer reads only sums"),
        ),
        strict=True,
    )
)
GROWTH, EXACT = 1.1, 1e-4  # L1: how much the bytes of a client may grow to K = 1,000, how far off the sum may be
SMALL = 0.01  # of FedAvg's bytes: what L2 calls a small cost
NAMES = {"fedavg": "FedAvg", "asynchronous": "asynchronous"}  # in short cells
LOOKS_AT = dict(  # who reads what, in short cells
    zip(
        privacy.QUESTIONS.values(),
        ("server, weights", "server, partial weights", "peer, as published", "server, secure sum", "peer, secure sum"),
        strict=True,
    )
)
FOLLOWS = {"higher": HOLDS, "same": SAME, "lower": FAILS, "undecided": UNDECIDED}


def overall(statuses: dict[str, str]) -> str:
    """The verdict on a claim from the status of each of its comparisons, by name: at least one."""
    good = [name for name, status in statuses.items() if status == HOLDS]
    if len(good) == len(statuses):
        return HOLDS
    if good:
        return f"holds only when {' or '.join(good)}"
    refuted = any(status in (FAILS, SAME) for status in statuses.values())
    return "does not hold" if refuted else "cannot be tested with so few seeds"


def brief(verdict: str) -> str:
    """The verdict in at most three words."""
    if verdict.startswith(f"{HOLDS} only when"):
        return "holds in part"
    return UNDECIDED if verdict.startswith("cannot be tested") else verdict


def verdicts(folder: Path, about: About) -> pd.DataFrame:
    """Columns `COLUMNS`, one row for each claim whose tables the folder has; `figure` names the evidence, and `short`
    is the numbers that decide alone, for a cell of a table.
    """
    rows = []
    for make, names in JUDGES.items():
        if there := read_all(folder, names):
            rows += make(there, about)
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("claim", kind="stable", ignore_index=True)


def _points(row) -> str:
    span = "" if np.isnan(row.low) else f" [{100 * row.low:+.2f}, {100 * row.high:+.2f}]"
    return f"{100 * row.mean:+.2f}{span}"


def _accuracy(tables: list[pd.DataFrame], about: About) -> list[tuple]:
    table = claims(tables[0], about.reported)
    table = table.assign(words=[f"{_points(row)} {row.verdict}" for row in table.itertuples()])
    first, second = table[table["claim"] == "C1"].set_index("against"), table[table["claim"] == "C2"]
    asked = {f"the baseline is `{arm}`": first.loc[arm, "verdict"] for arm in ("fedavg", "asynchronous")}
    reports = {
        arm: f" (published {100 * row.reported:+.2f})" for arm, row in first.iterrows() if row.reported == row.reported
    }
    parts = [f"minus `{arm}`{reports.get(arm, '')} {first.loc[arm, 'words']}" for arm in ("fedavg", "asynchronous")]
    why = f"points of accuracy, n = {first['n'].iloc[0]}: {'; '.join(parts)}. Matched: " + "; ".join(
        f"minus `{arm}` {first.loc[arm, 'words']}" for arm in ("fedavg+public", "local+public", "self")
    )
    short = f"points, n = {first['n'].iloc[0]}: " + "; ".join(
        f"{name} {first.loc[arm, 'words']}" for arm, name in NAMES.items()
    )
    accuracy = ("C1", "higher accuracy on unseen data than sharing weights", overall(asked), why, "09_story", short)
    weights = second[second["against"].isin(["fedavg", "asynchronous"])]
    asked = {f"it is {row.measure} against `{row.against}`": row.verdict for row in weights.itertuples()}
    why = f"points, n = {first['n'].iloc[0]}: " + "; ".join(
        f"{row.measure} minus `{row.against}` {row.words}" for row in second.itertuples()
    )
    short = f"points, n = {first['n'].iloc[0]}: " + "; ".join(
        f"{row.measure.removeprefix('unseen ')} to {NAMES[row.against]} {row.words}" for row in weights.itertuples()
    )
    return [
        accuracy,
        ("C2", "generalises better: clients agree more, smaller gap", overall(asked), why, "02_agreement", short),
    ]


def _privacy(tables: list[pd.DataFrame], _) -> list[tuple]:
    table = privacy.c4(tables[0])
    asked = {READERS[row.question]: row.verdict for row in table.itertuples()}
    why = f"difference in membership AUC, n = {table['n'].iloc[0]} targets: " + "; ".join(
        f"{row.question} {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}] {row.verdict}" for row in table.itertuples()
    )
    short = f"AUC, n = {table['n'].iloc[0]}: " + "; ".join(
        f"{LOOKS_AT[row.question]} {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in table.itertuples()
    )
    return [("C4", "more private than sharing weights", overall(asked), why, "03_membership", short)]


def forwarded(ladder: pd.DataFrame, clients: int) -> float:
    """FedAvg's bytes of a round by DML's where every peer's losses are forwarded, as published, instead of their sum: a
    client then gets clients - 1 messages as large as its own.
    """
    dml, fedavg = (ladder.set_index("arm").loc[arm] for arm in ("dml", "fedavg"))
    return (fedavg["up"] + fedavg["down"]) / (clients * dml["up"])


def _bytes(tables: list[pd.DataFrame], about: About) -> list[tuple]:
    (ladder, goals, scaling), size = tables, about.experiment.size
    ratios = c3(ladder, goals).set_index(["what", "against"])["ratio"]
    status = {key: HOLDS if ratio > 1 else FAILS for key, ratio in ratios.items()}
    whole, round_ = "the run, set-up included", "a round's messages"
    plain = [arm for arm in ("fedavg", "asynchronous") if (round_, arm) in ratios]
    totals = {"the public images are at hand": round_, "the set-up is counted too": whole}
    asked = {
        words: HOLDS if all(status[what, arm] == HOLDS for arm in plain) else FAILS for words, what in totals.items()
    }
    times = "; ".join(
        f"`{arm}` {ratios[round_, arm]:,.0f} times the bytes of DML's messages, {ratios[whole, arm]:.2f} with set-up"
        for arm in dict.fromkeys(arm for _, arm in ratios.index)
    )
    even = cost_models.break_even(cost_models.parameters(VisionNet(size, about.classes)), size, about.classes)
    dml = ladder.set_index("arm").loc["dml"]
    share = dml["setup"] / (dml["setup"] + dml["sent"])
    costs = {what: 1 / ratios[what, "fedavg"] for what in totals.values()}
    against = {words: status[whole, arm] for arm, words in WEIGHTS.items() if (whole, arm) in ratios}
    last = scaling[scaling["clients"] == scaling["clients"].max()].set_index("topology")
    one, copies = last.loc["server, one sum"], last.loc["server, forwarding"]
    copied = forwarded(ladder, about.experiment.clients)

    def each(what: str, arms: Iterable[str], form: str) -> str:
        return ", ".join(f"{NAMES.get(arm, arm.rpartition(', ')[2])} {ratios[what, arm]:{form}}" for arm in arms)

    sums = scaling.loc[scaling["topology"] == "server, one sum", "down"]
    scales = one["down"] < copies["down"] and sums.max() < GROWTH * sums.min() and scaling["error"].max() < EXACT
    return [
        (
            "C3",
            "less transmission than full or partial weights",
            overall(asked),
            times,
            "04_bytes",
            f"times a round, one sum: {each(round_, plain, ',.0f')}; as published: FedAvg {copied:,.0f}; "
            f"a run: {each(whole, plain, '.2f')}",
        ),
        (
            "F2",
            "cheaper than weight sharing, the images and compressed weights counted",
            overall(against),
            f"{times}. Break-even for VisionNet: {even['fresh images sent']:,.0f} fresh images a round, or "
            f"{even['images at hand']:,.0f} that every client has",
            "04_ladder",
            f"times a run: {each(whole, [arm for arm in WEIGHTS if (whole, arm) in ratios], '.2f')}",
        ),
        (
            "L2",
            "the cost of sharing losses is small (not analysed in the paper)",
            overall({words: HOLDS if costs[what] < SMALL else FAILS for words, what in totals.items()}),
            f"a round {dml['up']:,.0f} bytes up and {dml['down']:,.0f} down for a client, {100 * costs[round_]:.3f} % "
            f"of `fedavg`'s; a run {100 * costs[whole]:.0f} %, for {100 * share:.3f} % of DML's bytes are the set-up, "
            f"the initial model and the public images. Small: under {100 * SMALL:g} %",
            "04_formulas",
            f"{100 * costs[round_]:.3f} % of FedAvg's round, {100 * costs[whole]:.0f} % of its run",
        ),
        (
            "L1",
            "messages scale to many clients (not discussed in the paper)",
            overall({"the server sends one sum": HOLDS if scales else FAILS}),
            f"{last['clients'].iloc[0]:,} clients: {one['down']:,.0f} bytes down for a client with one sum "
            f"({sums.min():,.0f} with {scaling['clients'].min()} clients), {copies['down']:,.0f} with every peer's "
            f"losses; the same table within {scaling['error'].max():.0e}",
            "04_scaling",
            f"{last['clients'].iloc[0]:,} clients: {one['down']:,.0f} bytes down with one sum, {copies['down']:,.0f} "
            "as published",
        ),
    ]


def _many(tables: list[pd.DataFrame], about: About) -> list[tuple]:
    table = many_clients.gains(tables[0])
    most = table["clients"].max()
    if most <= about.experiment.clients:  # too few images for more clients than the run has
        return []
    final = table[table["clients"] == most].set_index("against")
    asked = {"the baseline is `fedavg`": FOLLOWS[final.loc["fedavg", "verdict"]]}
    words = "; ".join(
        f"K = {row.clients}: minus `{row.against}` {_points(row)}"
        for row in table.itertuples()
        if row.against != "local"
    )
    why = f"points of accuracy, n = {table['n'].iloc[0]}: {words}"
    (last,) = table[(table["clients"] == most) & (table["against"] == "fedavg")].itertuples()
    return [
        (
            "L1",
            f"more accurate than averaging weights with {most} clients (not discussed in the paper)",
            overall(asked),
            why,
            "09_clients",
            f"{most} clients, points, n = {last.n}: FedAvg {_points(last)} {asked['the baseline is `fedavg`']}",
        )
    ]


JUDGES: dict[Callable, tuple[str, ...]] = {
    _accuracy: ("results",),
    _bytes: ("bandwidth_ladder", "bandwidth_targets", "bandwidth_scaling"),
    _privacy: ("privacy_differences",),
    _many: ("clients",),
}
