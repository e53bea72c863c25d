"""How cost grows with the number of clients, from the table of `python -m dml study crowd-cost`."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import linregress, t

from dml.stats import LEVEL

SECONDS = ["local_s", "public_s", "between_s", "look_s"]
MEGA = 2**20
NUMBERS, WIDTH = 3, 4  # of a parameter a client keeps itself and two moments, of 4 bytes


class Slope(NamedTuple):
    """How a cost grows: the slope in logarithms, with its 95 % interval over the measurements."""

    arm: str
    cost: str
    slope: float
    low: float
    high: float
    n: int


def inside(table: pd.DataFrame) -> pd.DataFrame:
    """The measurements in memory, with `seconds` of all work but the look, `refine_ms`, of one client's refinement,
    and `state_mb`, the memory beyond what was there before the clients.
    """
    own = table[~table["on_disk"]]
    return own.assign(
        seconds=own["local_s"] + own["public_s"] + own["between_s"],
        refine_ms=1000 * own["public_s"] / own["clients"],
        state_mb=own["peak_mb"] - own["before_mb"],
    )


def slopes(table: pd.DataFrame) -> list[Slope]:
    """Of every arm: all seconds, the refinement of one client (where there is one), and memory."""
    found = []
    for arm, rows in inside(table).groupby("arm", sort=False):
        for cost in ("seconds", "refine_ms", "state_mb"):
            part = rows[rows[cost] > 0]
            if part["clients"].nunique() < 3:
                continue
            fit = linregress(np.log(part["clients"]), np.log(part[cost]))
            half = t.ppf((1 + LEVEL) / 2, len(part) - 2) * fit.stderr
            found.append(Slope(str(arm), cost, fit.slope, fit.slope - half, fit.slope + half, len(part)))
    return found


def megabytes_a_client(table: pd.DataFrame, arm: str = "dml") -> tuple[float, float]:
    """Memory that one more client takes, measured (a straight line through the measurements), and what its weights and
    moments are, both in MiB.
    """
    rows = inside(table)
    rows = rows[rows["arm"] == arm]
    measured = linregress(rows["clients"], rows["peak_mb"]).slope
    return float(measured), NUMBERS * WIDTH * float(rows["parameters"].iloc[0]) / MEGA


def flat(table: pd.DataFrame, arm: str = "dml") -> float:
    """A client's refinement with the most clients, divided by that with the fewest; medians over the turns."""
    rows = inside(table)
    medians = rows[rows["arm"] == arm].groupby("clients")["refine_ms"].median()
    return float(medians.iloc[-1] / medians.iloc[0])
