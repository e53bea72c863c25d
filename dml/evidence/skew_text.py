"""The table "if your clients ... then ...", from the map of dml/evidence/skew.py."""

import pandas as pd

from dml.evidence.markdown import estimate, joined, table
from dml.evidence.skew import ABOVE, BELOW, EQUAL, LABELLED, LITTLE, UNDECIDED

THEN = {
    ABOVE: "use DML",
    BELOW: "use {against}",
    EQUAL: "either: within a point",
    UNDECIDED: "undecided with so many seeds",
}


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
