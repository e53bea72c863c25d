"""The table "if your clients ... then ...", from the map of dml/evidence/skew.py."""

from pathlib import Path

import pandas as pd

from dml.evidence.skew import ABOVE, BELOW, EQUAL, LABELLED, LITTLE, UNDECIDED, skew_map
from dml.evidence.words import estimate, joined, table
from dml.files import read_table
from dml.studies.study import STUDIES

THEN = {
    ABOVE: "use DML",
    BELOW: "use {against}",
    EQUAL: "either: within a point",
    UNDECIDED: "undecided with so many seeds",
}


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 05: what to do when clients differ, from the study of data/plan_skew.md."""
    study, pages = folder / "skew", "The plan and its predictions: `data/plan_skew.md`."
    if not (study / "results.csv.gz").is_file():
        return ["Nothing is on record yet.", pages]
    return [advice(skew_map(read_table(study / "results.csv.gz"), read_table(study / "cells.csv"))), pages]


def advice(map_: pd.DataFrame) -> str:
    """The table "if your clients ... then ...", in Markdown."""
    rows = [
        (
            "hold the same classes" if row.distance < LITTLE else f"are {row.distance:.2f} apart from the whole",
            LABELLED[row.public_fold],
            THEN[row.state].format(against=f"`{row.against}`"),
            f"{estimate(row.mean, row.low, row.high)} to `{row.against}`",
            f"`{row.best}` {100 * row.accuracy:.1f}",
            row.n,
        )
        for row in map_.itertuples()
    ]
    titles = ("if your clients", "and public images are", "then", "DML minus the best rule without, points [95 %]")
    return joined(table((*titles, "highest mean, %", "n"), rows))
