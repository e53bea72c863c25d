"""The figure of data/plan_defences.md: leakage against accuracy, every point attacked with the same strength."""

from math import isinf
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dml.evidence.defences import STRENGTHS, by_game, points, state
from dml.plots.looks import look
from dml.plots.privacy import GUESS
from dml.plots.style import BETTER, DOUBLE, INTERVAL, about, drawn, letters, percent, spread

MARKERS = {  # of a defence; those with a number share one
    **{"noise 1": "v", "noise 4": "v", "4 bits": "d", "hard labels": "^", "ideal secure sum": "P"},
    **{"every 2nd round": "<", "DP-SGD 0.03": "s", "DP-SGD 0.3": "s", "DP-SGD 1": "s", "FedAvg, DP-SGD 1": "s"},
}
SIZES = {"noise 4": 5.5, "DP-SGD 0.03": 3, "DP-SGD 0.3": 4.2, "DP-SGD 1": 5.5, "FedAvg, DP-SGD 1": 5.5}
TITLES = {"chooses": "server that chooses the public images", "honest": "honest server"}
SEEN = 0.3  # intervals that end further outside all marks than this part of their reach are cut


@drawn
def leak_and_accuracy(rates: pd.DataFrame, worth: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Two panels, the server that chooses and the honest one: membership AUC against accuracy, a marker a defence, blue
    for DML and orange for FedAvg, filled without a defence; faint dots are games.
    """
    games = by_game(rates, worth)
    rows = points(games, worth)
    fig = Figure(figsize=(DOUBLE, 3.0))
    grid = fig.subplots(1, len(STRENGTHS), sharey=True, sharex=True)
    for axes, strength in zip(grid, STRENGTHS.values(), strict=True):
        for row in rows.to_dict("records"):
            here = games[games["point"] == row["point"]]
            colour = look(row["arm"])["color"]
            axes.plot(here["accuracy"], here[f"{strength} auc"], "o", color=colour, markersize=1.6, alpha=0.4)
            _point(axes, row, f"{strength} auc")
        axes.axhline(0.5, **GUESS)
        axes.set_title(TITLES[strength])
        axes.set_xlabel(f"accuracy on unseen images, %{BETTER}")
        percent(axes, "x")
    cut = _limits(grid[0], games, rows)
    grid[0].set_ylabel("membership AUC\n← more private")
    fig.legend(handles=[_key(row) for row in rows.to_dict("records")], loc="outside right upper")
    letters(grid, left=-4)
    counts = " or ".join(map(str, sorted(rows["n"].unique())))
    text = about(
        data,
        f"Leakage against accuracy, n = {counts} games at every point ({state(rates)}), with the same pools, targets "
        "and shadows. Blue: DML, orange: FedAvg; filled: no defence; a larger marker: more noise.",
        f"Accuracy: mean of {worth['clients'].max()} clients on {worth['unseen'].max():,} unseen images after the "
        f"whole protocol. Markers: means; bars: {INTERVAL} over games; small dots: games; dashed: guessing. ε: of "
        "DP-SGD; no other defence has a bound. The attack of a game is chosen on all other games.",
        "Bars that reach the edge go on." if cut else "",
    )
    return fig, rows, text


def _looks(row: dict) -> dict[str, Any]:
    colour, marker = look(row["arm"])["color"], MARKERS.get(row["point"])
    face = colour if marker is None else "white"
    keys = {"color": colour, "marker": marker or look(row["arm"])["marker"], "markerfacecolor": face}
    return {**keys, "markersize": SIZES.get(row["point"], 4.2), "linestyle": ""}


def _point(axes: Axes, row: dict, name: str) -> None:
    bars = [spread(row[key], row[f"{key}_low"], row[f"{key}_high"]) for key in ("accuracy", name)]
    axes.errorbar(row["accuracy"], row[name], xerr=bars[0], yerr=bars[1], **_looks(row), elinewidth=0.6, capsize=0)


def _key(row: dict) -> Line2D:
    """What a marker means."""
    label = row["point"] if isinf(row["epsilon"]) else f"{row['point']} (ε = {row['epsilon']:,.0f})"
    return Line2D([], [], **_looks(row), label=label)


def _limits(axes: Axes, games: pd.DataFrame, rows: pd.DataFrame) -> bool:
    """Limits that hold all marks of both panels, and intervals but where few games make them wide. Returns whether
    any is cut.
    """
    cut = False
    for set_limits, names in (
        (axes.set_xlim, ["accuracy"]),
        (axes.set_ylim, [f"{one} auc" for one in STRENGTHS.values()]),
    ):
        low, high = games[names].min().min(), games[names].max().max()
        reach = SEEN * (high - low)
        ends = pd.concat([rows[f"{name}_{end}"] for name in names for end in ("low", "high")])
        near = ends[ends.between(low - reach, high + reach)]
        low, high, cut = min([low, *near]), max([high, *near]), cut or len(near) < len(ends)
        set_limits(low - 0.04 * (high - low), high + 0.04 * (high - low))
    return cut
