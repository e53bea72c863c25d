"""The figure of the games of data/plan_privacy.md: what every adversary finds, the server that chooses among them."""

from collections import Counter
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml.evidence.games import ADVERSARIES, CHOOSES, ONE, SEVERAL, adversaries, chosen, state
from dml.plots.looks import GREYS, look
from dml.plots.privacy import GUESS
from dml.plots.style import DOUBLE, INTERVAL, SMALLEST, about, drawn, folded, legend_above, letters, percent, spread

TIMES = {ONE: ", one round", SEVERAL: ", several rounds"}
NEARLY = 0.9  # an AUC beyond it is told in words at the edge
MARKERS = {ONE: "o", SEVERAL: "s", CHOOSES: "D"}
PANELS = {
    "auc": ("membership AUC", 0.5),
    "tpr": ("members found, %, at 1 % false positives\n(axis linear to 5 %, then logarithmic)", 0.01),
}
SHARES = (0, 0.01, 0.05, 0.2, 1)  # ticks of a share of members


def colour_of(view: str) -> str:
    """FedAvg's, partial weights' or DML's colour; grey for a client that checks."""
    if view.startswith("client"):
        return GREYS[0]
    arm = "asynchronous" if view.startswith("partial") else "fedavg" if "weights" in view else "dml"
    return str(look(arm)["color"])


@drawn
def by_adversary(rates: pd.DataFrame, data: str, width: float = DOUBLE) -> tuple[Figure, pd.DataFrame, str]:
    """A row an adversary, in three strengths: how well its attack tells members from others, by the area under the ROC
    curve and by the members found at 1 % false positives; a small dot a game.
    """
    rows, twice = adversaries(rates), Counter(ADVERSARIES.values())
    shown = dict(list(PANELS.items())[: 2 if width == DOUBLE else 1])
    fig = Figure(figsize=(width, 0.7 + (0.2 if len(shown) > 1 else 0.25) * len(rows)))
    grid = list(fig.subplots(1, len(shown), sharey=True, squeeze=False)[0])
    for axes, (metric, (title, chance)) in zip(grid, shown.items(), strict=True):
        _panel(axes, rates, rows, metric)
        axes.axvline(chance, **GUESS)
        axes.set_xlabel(f"{title}\n← more private")
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
    for axes in grid[1:]:
        axes.set_xscale("symlog", linthresh=SHARES[2])
        axes.set_xlim(-0.002, 1.3)
        axes.set_xticks(SHARES)
        percent(axes, "x")
        letters(grid, left=-4)
    titles = [f"{who}{TIMES.get(strength, '') * (twice[who] > 1)}" for (strength, _), who in ADVERSARIES.items()]
    grid[0].set_yticks(range(len(rows)), [folded(title, width, 32) for title in titles])
    grid[0].set_ylim(len(rows) - 0.4, -0.6)
    for strength, marker in MARKERS.items():
        grid[0].plot([], [], color=GREYS[0], marker=marker, linestyle="", label=strength)
    legend_above(fig, grid[0], 0 if width == DOUBLE else 1)
    n, games = " or ".join(map(str, sorted(rows["n"].unique()))), state(rates)
    text = about(
        data,
        f"What each adversary finds of who was in the training data, n = {n} games ({games}). Orange: FedAvg, brown: "
        "Partial-weight FL, blue: DML, black: DML whose clients check what they are sent.",
        "A server that chooses gets the losses of its candidates, as one with weights would: the same numbers.",
        f"Marker: mean; bar: {INTERVAL} over games, cut at 0; dots: games; dashed: guessing. The attack of a game is "
        "chosen on all other games.",
    )
    return fig, rows, text


def _panel(axes: Axes, rates: pd.DataFrame, rows: pd.DataFrame, metric: str) -> None:
    for place, row in enumerate(rows.itertuples()):
        colour = colour_of(row.view)
        games = chosen(rates, row.strength, row.view)[metric]
        mean, low, high = (max(getattr(row, f"{metric}{end}"), 0) for end in ("", "_low", "_high"))
        keys: dict[str, Any] = {
            "color": colour,
            "marker": MARKERS[row.strength],
            "markersize": 2.5,
            "elinewidth": 0.9,
            "capsize": 0,
        }
        if metric == "auc" and mean > NEARLY:
            edge: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": SMALLEST, "color": colour}
            axes.text(0.99, place, f"{mean:.2f} ▸", transform=axes.get_yaxis_transform(), **edge)
            continue
        axes.scatter(games, [place] * len(games), s=3, color=colour, alpha=0.4, linewidth=0)
        axes.errorbar(mean, place, xerr=spread(mean, low, high), linestyle="", **keys)
