"""Every claim of the paper against the tables in a run's folder: nothing is decided by hand.

A claim is a list of comparisons, each held, refuted or open; its answer is these three lists (`answers`). Accuracy is
judged as the analysis plan says, bytes are counts, and privacy is judged by intervals.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from dml.evidence import many_clients, mixed, privacy, skew, transmission
from dml.evidence.about import About, read_all
from dml.evidence.accuracy import claims
from dml.evidence.answers import HELD, OPEN, REFUTED, STATUSES, lists
from dml.evidence.transmission import OURS, PUBLISHED
from dml.evidence.words import estimate, points

COLUMNS = ["claim", "system", "says", *STATUSES, "why", "figure", "short"]
NAMES = {  # of arms, in short cells
    "fedavg": "FedAvg",
    "asynchronous": "asynchronous",
    "fedavg+public": "`fedavg+public`",
    "local+public": "`local+public`",
}
MEASURES = {"unseen disagreement": "disagreement", "gap": "gap"}
READERS = dict(  # who reads what
    zip(
        privacy.QUESTIONS.values(),
        (
            *("a server reads FedAvg's weights", "a server reads partial weights", "a peer reads what is sent"),
            *("a server reads only sums", "a peer reads only sums"),
        ),
        strict=True,
    )
)
FOLLOWS = {"higher": HELD, "same": REFUTED, "lower": REFUTED, "open": OPEN}


def verdicts(folder: Path, about: About) -> pd.DataFrame:
    """Columns `COLUMNS`, one row for each claim, and system where it matters, whose tables the folder has; `figure`
    names the evidence, and `short` is the numbers that decide alone, for a cell of a table.
    """
    rows = []
    for make, names in JUDGES.items():
        if there := read_all(folder, names):
            rows += make(there, about)
    table = pd.DataFrame([dict.fromkeys(COLUMNS, "") | row for row in rows], columns=COLUMNS)
    return table.sort_values("claim", kind="stable", ignore_index=True)


def _accuracy(tables: list[pd.DataFrame], about: About) -> list[dict]:
    return accuracy_rows(claims(tables[0], about.reported))


def accuracy_rows(table: pd.DataFrame) -> list[dict]:
    """The rows on C1 and C2 from the claims of a run, or of a study."""
    words = {
        "C1": ("higher accuracy on unseen data than sharing weights", "09_story"),
        "C2": ("generalises better: clients agree more, smaller gap", "02_agreement"),
    }
    rows, n = [], table["n"].iloc[0]
    mechanism = "; ".join(
        f"minus `{row.against}` {points(row)} {row.answer}"
        for row in table[table["family"] == "mechanism"].itertuples()
    )
    for family, (says, figure) in words.items():
        asked = table[table["family"] == family]
        names = [name_of(row) for row in asked.itertuples()]
        reports = [
            "" if np.isnan(row.reported) else f" (published {100 * row.reported:+.2f})" for row in asked.itertuples()
        ]
        told = [f"{points(row)} {row.answer}" for row in asked.itertuples()]
        why = "; ".join(f"{name}{report} {text}" for name, report, text in zip(names, reports, told, strict=True))
        more = f". What the peers add: {mechanism}" if family == "C1" and mechanism else ""
        short = "; ".join(f"{name} {text}" for name, text in zip(names, told, strict=True))
        answers = dict(zip(names, asked["answer"], strict=True))
        row = {"claim": family, "says": says, **lists(answers), "figure": figure}
        rows.append(row | {"why": f"points, n = {n}: {why}{more}", "short": f"points, n = {n}: {short}"})
    return rows


def name_of(row) -> str:
    """What is compared, in few words: the other arm, and what of it where it is not accuracy."""
    name = NAMES.get(row.against, f"`{row.against}`")
    return f"{MEASURES[row.measure]} to {name}" if row.measure in MEASURES else name


def _privacy(tables: list[pd.DataFrame], _) -> list[dict]:
    table, rows = privacy.c4(tables[0]), []
    for system in (PUBLISHED, OURS):
        asked = table[table["question"].str.contains("secure sum") == (system == OURS)]
        told = [estimate(row.mean, row.low, row.high, "+.3f", 1) for row in asked.itertuples()]
        readers = [READERS[question] for question in asked["question"]]
        n = asked["n"].iloc[0]
        why = "; ".join(
            f"{row.question} {text} {row.answer}" for row, text in zip(asked.itertuples(), told, strict=True)
        )
        rows.append(
            {
                "claim": "C4",
                "system": system if system == PUBLISHED else "with our sum, kept secret from the server",
                "says": "more private than sharing weights",
                **lists(dict(zip(readers, asked["answer"], strict=True))),
                "why": f"one round, black box: difference in membership AUC, n = {n} targets: {why}",
                "figure": "03_membership",
                "short": f"one round, AUC, {n} targets, uncorrected: "
                + "; ".join(f"{reader} {text}" for reader, text in zip(readers, told, strict=True)),
            }
        )
    return rows


def _many(tables: list[pd.DataFrame], about: About) -> list[dict]:
    table = many_clients.gains(tables[0])
    most = table["clients"].max()
    if most <= about.experiment.clients:  # too few images for more clients than the run has
        return []
    told = "; ".join(
        f"K = {row.clients}: minus `{row.against}` {points(row)}"
        for row in table.itertuples()
        if row.against != "local"
    )
    (last,) = table[(table["clients"] == most) & (table["against"] == "fedavg")].itertuples()
    answer = FOLLOWS[last.verdict]
    return [
        {
            "claim": "L1",
            "says": f"more accurate than averaging weights with {most} clients (a limit that the paper states)",
            **lists({"FedAvg": answer}),
            "why": f"points of accuracy, n = {last.n}: {told}",
            "figure": "07_fresh",
            "short": f"exploratory, {most} clients, points, n = {last.n}: FedAvg {points(last)} {answer}",
        }
    ]


JUDGES: dict[Callable, tuple[str, ...]] = {
    _accuracy: ("results",),
    transmission.judged: ("bandwidth_ladder", "bandwidth_scaling", "bandwidth_codings"),
    _privacy: ("privacy_differences",),
    _many: ("clients",),
    skew.judged: skew.TABLES,
    mixed.judged: skew.TABLES,
}
