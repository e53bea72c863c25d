"""The figure of data/plan_defences.md: what a defence leaves to find, and to use, attacked with the same strength."""

from math import isinf
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dml.evidence.defences import STRENGTHS, by_game, points, state
from dml.plots import rows as chart
from dml.plots.looks import INK, look
from dml.plots.privacy import GUESS
from dml.plots.style import BETTER, DOUBLE, INTERVAL, about, drawn, legend_above, letters, percent

SERVERS = {"chooses": "server that chooses the public images", "honest": "honest server"}
SHIFT = {"chooses": -0.2, "honest": 0.2}  # of a row


@drawn
def leak_and_accuracy(rates: pd.DataFrame, worth: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """A row a defence, blue for DML and orange for FedAvg: on the left the membership AUC of the server that chooses,
    filled, and of the honest one, hollow; on the right the accuracy that is left. Small dots are games.
    """
    games = by_game(rates, worth)
    table = points(games, worth)
    fig = Figure(figsize=(DOUBLE, 0.7 + 0.25 * len(table)))
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.2, 1))
    of_point = {name: part for name, part in games.groupby("point", sort=False)}
    right.set_xlim(
        *chart.reach(
            [part["accuracy"].to_numpy() for part in of_point.values()], [*table["accuracy"], *_near(table, "accuracy")]
        )
    )
    hidden = 0
    for place, row in enumerate(table.to_dict("records")):
        here, colour = of_point[row["point"]], look(row["arm"])["color"]
        for server in STRENGTHS.values():
            at, face = place + SHIFT[server], colour if server == "chooses" else "white"
            found = here[f"{server} auc"]
            left.scatter(found, [at] * len(found), s=3, color=colour, alpha=0.4, linewidth=0)
            chart.mean(left, at, _estimate(row, f"{server} auc"), row["arm"], markerfacecolor=face)
        chart.mean(right, place - 0.1, _estimate(row, "accuracy"), row["arm"])
        chart.seeds(right, place - 0.1, here["accuracy"].to_numpy(), row["arm"])
        hidden += chart.beyond(right, place - 0.1, here["accuracy"].to_numpy(), row["arm"])
    left.axvline(0.5, **GUESS)
    left.set_xlabel("← more private   membership AUC")
    right.set_xlabel(f"accuracy on unseen images, %{BETTER}")
    percent(right, "x")
    for axes in (left, right):
        chart.names(axes, list(table["point"]), [_title(row) for row in table.to_dict("records")])
    for server, told in SERVERS.items():
        face = INK if server == "chooses" else "white"
        left.plot([], [], "o", color=INK, markerfacecolor=face, markersize=4, label=told)
    legend_above(fig, left)
    letters((left, right), left=-4)
    counts = " or ".join(map(str, sorted(table["n"].unique())))
    text = about(
        data,
        f"What servers find, and what accuracy is left, n = {counts} games at every point ({state(rates)}), with the "
        "same pools, targets and shadows. Blue: DML, orange: FedAvg.",
        "A server that chooses asks for the losses of its candidates, and so learns what weights would tell: equal "
        "numbers of DML and FedAvg are no error.",
        f"Accuracy: mean of {worth['clients'].max()} clients on {worth['unseen'].max():,} unseen images after the "
        f"whole protocol. Markers: means; bars: {INTERVAL} over games; small dots: games; dashed: guessing. ε: of "
        "DP-SGD in a round, δ = 0.001; no other defence has a bound. The attack of a game is chosen on all others.",
        chart.beyond_text(hidden),
    )
    return fig, table, text


def _estimate(row: dict[str, Any], name: str) -> tuple[float, float, float]:
    return row[name], row[f"{name}_low"], row[f"{name}_high"]


def _near(table: pd.DataFrame, name: str) -> list[float]:
    """The ends of the intervals, but of the widest quarter: few games can give one that would hide the rest."""
    width = table[f"{name}_high"] - table[f"{name}_low"]
    near = table[width <= width.quantile(0.75)]
    return [*near[f"{name}_low"], *near[f"{name}_high"]]


def _title(row: dict[str, Any]) -> str:
    """A defence, with the ε of a round where it has one."""
    return str(row["point"]) if isinf(row["epsilon"]) else f"{row['point']} (ε = {row['epsilon']:,.0f})"
