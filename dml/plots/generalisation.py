"""The figure of notebook 08: the two gaps of every arm beside their evaluated bounds and the floors of these."""

from math import isinf
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dml.evidence.generalisation import ASKED, OUT_OF_SAMPLE, OWN, PARTICIPATION, by_draw, summary
from dml.evidence.generalisation import state as state_of
from dml.evidence.words import between, capital
from dml.plots.looks import INK, look, name
from dml.plots.style import DOUBLE, INTERVAL, WORSE, about, figure, letters, percent, spread

PANELS = ((OUT_OF_SAMPLE, OWN), (PARTICIPATION, OWN))
APART = 0.42  # from the clients that differ to those that are alike, in rows
UNDER = 0.2  # from a gap to its diagnostic
ALIKE = "clients alike"
FLOOR: dict[str, Any] = {"color": "0.55", "marker": "|", "markersize": 5, "linestyle": ""}


@figure("08_gaps", "generalisation_gaps")
def gaps(table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """One row an arm, two panels: on the left the gap to images that a client did not train on, on the right to clients
    that never took part. A filled dot is the measured gap where clients differ, a hollow one where they are alike; a
    triangle under it is its diagnostic, a grey stroke the floor of that.
    """
    drawn = summary(table)
    drawn = drawn[[(row.gap, row.asked) in PANELS for row in drawn.itertuples()]]
    arms = list(dict.fromkeys(drawn["arm"]))
    fig = Figure(figsize=(DOUBLE, 1.2 + 0.34 * len(arms)))
    grid = list(fig.subplots(1, 2, sharey=True))
    cut = 0
    for axes, key in zip(grid, PANELS, strict=True):
        here, seen = drawn[(drawn["gap"] == key[0]) & (drawn["asked"] == key[1])], [0.0]
        for row in here.itertuples():
            place = arms.index(row.arm) + (APART if isinf(row.label_alpha) else 0)
            draws = by_draw(table, *key, row.label_alpha)[row.arm].dropna()
            _row(axes, place, row, draws)
            seen += [*draws, row.bound, row.floor]
        axes.axvline(0, color=INK, linewidth=0.7)
        cut += _limit(axes, seen, [*here["low"].dropna(), *here["high"].dropna()])
        axes.set_xlabel(f"gap to {ASKED[key]}, pp\n{WORSE.strip()}")
        percent(axes, "x")
    grid[0].set_yticks(range(len(arms)), [name(arm) for arm in arms])
    grid[0].set_ylim(len(arms) - 0.2, -0.4)
    fig.legend(handles=_legend(drawn), loc="outside upper center", ncols=5)
    letters(grid)
    counted = "; ".join(f"{_who(level)}: {state_of(table, level)}" for level in sorted(drawn["label_alpha"].unique()))
    text = about(
        data,
        f"Dots: gap of the 0/1 loss, mean over outer draws and {INTERVAL}; small dots: the draws. {capital(counted)}. "
        "Who took part is asked by its own net, who did not by every net of the federation.",
        "Triangles: evaluated-CMI diagnostic after Wang et al., with our pooled estimator; strokes: its floor, what it "
        "is when the masks (who and what was trained on) of whole runs are permuted. By construction it exceeds the "
        "gap: only its distance from the floor tells anything. Arms without hollow marks were not run on like clients.",
        "Intervals that reach the edge go on." if cut else "",
    )
    return fig, drawn, text


def _limit(axes: Axes, seen: list[float], ends: list[float]) -> int:
    """Limits that hold all marks, and intervals but where they end further out than all marks are apart: two draws give
    intervals that would hide the rest. Returns how many ends are outside.
    """
    low, high = min(seen), max(seen)
    reach = high - low
    near = [end for end in ends if low - reach <= end <= high + reach]
    left, right = min([low, *near]), max([high, *near])
    axes.set_xlim(left - 0.04 * (right - left), right + 0.04 * (right - left))
    return len(ends) - len(near)


def _row(axes: Axes, place: float, row, draws: pd.Series) -> None:
    colour = look(row.arm)["color"]
    face = "white" if isinf(row.label_alpha) else colour
    axes.plot(draws, [place] * len(draws), "o", color=colour, markersize=1.6, alpha=0.5)
    keys: dict[str, Any] = {"color": colour, "marker": "o", "markerfacecolor": face, "markersize": 4, "linestyle": ""}
    axes.errorbar(row.mean, place, xerr=spread(row.mean, row.low, row.high), **keys)
    axes.plot(row.bound, place + UNDER, color=colour, marker="^", markerfacecolor=face, markersize=4, linestyle="")
    axes.plot(row.floor, place + UNDER, **FLOOR)


def _legend(drawn: pd.DataFrame) -> list[Line2D]:
    """What the marks mean, in grey: the colours are the arms'."""
    counts = drawn.groupby(drawn["label_alpha"].map(_who))["n"].agg(between)
    shown = {f"{who} (n = {counts[who]})": ("o", "white" if who == ALIKE else INK) for who in counts.index[::-1]}
    shown["diagnostic"] = ("^", INK)
    lines = [
        Line2D([], [], color=INK, marker=marker, markerfacecolor=face, markersize=4, linestyle="", label=words)
        for words, (marker, face) in shown.items()
    ]
    return [*lines, Line2D([], [], **FLOOR, label="floor of the diagnostic")]


def _who(label_alpha: float) -> str:
    return ALIKE if isinf(label_alpha) else "clients differ"
