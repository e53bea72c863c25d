"""The figures of notebook 04 that show measured bytes: accuracy against them, the ladder of encodings, more clients."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dml.plots import rows
from dml.plots.looks import INK, dot, ink, look, name, signed
from dml.plots.style import (
    BETTER,
    DOUBLE,
    INTERVAL,
    SMALLEST,
    about,
    figure,
    legend_above,
    letters,
    percent,
    seeds_text,
    spread,
)

SHOWN = ("dml", "dml, 1 bit", "fedavg", "fedavg, 8 bits", "fedavg, top 1 %", "asynchronous", "self", "local")
APART = 0.06  # accuracy: a mean this far below the best, or a difference this large, is told in words
ZERO = 4  # how many times below the least bytes sent the place for 0 bytes is, behind a break of the axis


@figure("04_accuracy_for_bytes", "bandwidth_curves")
def accuracy_for_bytes(curves: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Accuracy on a sample of the unseen set after every round against the bytes that a client had sent and got by
    then: left its messages, with arms that send nothing at a 0 of their own; right with the set-up.
    """
    arms = [arm for arm in curves["arm"].unique() if arm in SHOWN]
    table = curves[curves["arm"].isin(arms)].assign(total=lambda some: some["sent"] + some["setup"])
    means = table.groupby(["arm", "round"], sort=False)[["sent", "total", "accuracy"]].mean().reset_index()
    fig = Figure(figsize=(DOUBLE, 2.5))
    left, right = fig.subplots(1, 2, sharey=True)
    nothing = means.loc[means["sent"] > 0, "sent"].min() / ZERO
    for arm in arms:
        line, keys = means[means["arm"] == arm], {**look(arm), "markersize": 3.2, "linewidth": 0.6}
        for axes, bytes_ in ((left, line["sent"].clip(lower=nothing)), (right, line["total"])):
            grows = {} if bytes_.nunique() > 1 else {"linestyle": ""}
            axes.plot(bytes_, line["accuracy"], **(keys | grows))
        left.plot([], [], label=name(arm), **(keys | grows))
    for axes in (left, right):
        axes.set_xscale("log")
    _broken(left, nothing)
    left.set(xlabel="bytes of one client's messages so far", ylabel=f"accuracy on unseen images, %\n{BETTER.strip()}")
    right.set(xlabel="bytes so far, with the first model and the public images")
    low, high = means["accuracy"].min(), means["accuracy"].max()
    left.set_ylim(max(low, high - 3 * APART) - 0.01, high + 0.01)
    below = int((means["accuracy"] < left.get_ylim()[0]).sum())
    percent(left)
    letters((left, right), left=-14)
    legend_above(fig, left, columns=4)
    text = about(
        data,
        f"Every marker is a round: mean over clients and seeds, {seeds_text(curves)}, on a fixed sample of the unseen "
        "set.",
        f"{below} markers lie below the panels." if below else "",
        "a: arms that send nothing stand at 0, left of the break in the axis: the accuracy they reach was bought by no "
        "exchange.",
    )
    return fig, means, text


def _broken(axes: Axes, nothing: float) -> None:
    """Make the place `nothing` of a logarithmic axis a 0, with two strokes where the axis is broken."""
    low = nothing / 2
    axes.set_xlim(left=low)
    axes.axvspan(low, nothing * 2, color="0.95", zorder=0)
    axes.text(nothing, -0.025, "0", ha="center", va="top", fontsize=SMALLEST, transform=axes.get_xaxis_transform())
    for place in (nothing * 1.85, nothing * 2.15):
        axes.plot(
            place, 0, marker=(2, 0, -20), markersize=6, color=INK, clip_on=False, transform=axes.get_xaxis_transform()
        )
    ticks = [10.0**power for power in range(12) if nothing * 2 < 10.0**power < axes.get_xlim()[1]]
    axes.set_xticks(ticks)
    axes.minorticks_off()


@figure("04_ladder", "bandwidth_ladder", "bandwidth_accuracy")
def front(ladder: pd.DataFrame, accuracy: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Left: unseen accuracy against a run's bytes, every arm and rung, with the Pareto front and a real 0. Right, one
    row for each: its paired difference, seed by seed, to the arm it is compared with.
    """
    fig = Figure(figsize=(DOUBLE, max(2.4, 0.75 + 0.17 * len(ladder))))
    axes, right = fig.subplots(1, 2, width_ratios=(1.1, 1))
    apart = _front(axes, ladder)
    hidden = _differences(right, ladder, accuracy)
    letters((axes, right), left=-12)
    text = about(
        data,
        f"a: mean and {INTERVAL} over n = {ladder['n'].max()} seeds; grey line: the "
        f"Pareto front of the means; bytes of messages in a run, without the set-up{apart}.",
        "b: paired differences, what an exchange brings (named) or what a rung costs, less the arm without it; markers "
        "as in a, dots one seed each; a row without a difference names its marker.",
        rows.beyond_text(hidden),
    )
    return fig, ladder, text


def _front(axes: Axes, ladder: pd.DataFrame) -> str:
    nothing = ladder.loc[ladder["sent"] > 0, "sent"].min() / ZERO
    inside = ladder[ladder["mean"] > ladder["mean"].max() - APART]
    low, high = inside[["mean", "low"]].min(axis=None), inside[["mean", "high"]].max(axis=None)
    axes.set_xscale("log")
    for row in inside.itertuples():
        error = spread(row.mean, row.low, row.high)
        axes.errorbar(max(row.sent, nothing), row.mean, yerr=error, elinewidth=0.7, capsize=1.5, **dot(row.arm))
    best = ladder[ladder["front"]].sort_values("sent")
    axes.step(best["sent"].clip(lower=nothing), best["mean"], where="post", color="0.6", linewidth=0.9, zorder=0)
    axes.set_ylim(low - 0.006, high + 0.003)
    axes.set(xlabel="bytes of one client's messages in a run", ylabel=f"accuracy on unseen images, %\n{BETTER.strip()}")
    axes.set_xlim(right=ladder["sent"].max() * 3)
    _broken(axes, nothing)
    percent(axes)
    out = ladder.drop(inside.index)
    return "".join(f"; {name(row.arm)}, at {100 * row.mean:.1f} %, lies below the panel" for row in out.itertuples())


def _differences(axes: Axes, ladder: pd.DataFrame, accuracy: pd.DataFrame) -> int:
    values = accuracy.pivot(index="seed", columns="arm", values="value")
    axes.set_xlim(-APART, APART)
    hidden = 0
    for place, row in enumerate(ladder.itertuples()):
        shown = dot(row.arm)
        axes.plot(-0.03, place, clip_on=False, transform=axes.get_yaxis_transform(), **shown, markersize=4)
        if not isinstance(row.against, str):
            continue
        gaps = (values[row.arm] - values[row.against]).to_numpy()
        rows.seeds(axes, place, gaps, row.arm)
        hidden += rows.beyond(axes, place, gaps, row.arm)
        if abs(row.difference) > APART:
            words, low = f"mean {signed(100 * row.difference, '+.1f')}", row.difference < 0
            x, side, words = (0.005, "left", f"◂ {words}") if low else (0.995, "right", f"{words} ▸")
            keys: dict[str, Any] = {"ha": side, "va": "center", "transform": axes.get_yaxis_transform()}
            axes.text(x, place - 0.24, words, color=ink(row.arm), fontsize=SMALLEST, **keys)
        else:
            rows.mean(axes, place - 0.08, (row.difference, row.difference_low, row.difference_high), row.arm)
    axes.axvline(0, color=INK, linewidth=0.7)
    titles = [
        f"{name(row.arm)}" + (f" − {name(row.against)}" if isinstance(row.against, str) and ", " not in row.arm else "")
        for row in ladder.itertuples()
    ]
    rows.names(axes, list(ladder["arm"]), titles)
    axes.tick_params(axis="y", pad=11, labelsize=SMALLEST)
    axes.set_xlabel(f"paired difference, pp{BETTER}")
    percent(axes, "x")
    return hidden


@figure("04_scaling", "bandwidth_scaling", "bandwidth_ladder")
def scaling(table: pd.DataFrame, ladder: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Bytes per round against the number of clients, for the three topologies of DML and for FedAvg: what one client
    sends, what it gets, and what the server sends and gets.
    """
    weights = ladder.set_index("arm").loc["fedavg", "up"]
    fig = Figure(figsize=(DOUBLE, 2.1))
    panels, blue, orange = fig.subplots(1, 3), look("dml")["color"], look("fedavg")["color"]
    for axes, (column, title) in zip(panels, WAYS.items(), strict=True):
        for (_, some), stroke in zip(table.groupby("topology", sort=False), STROKES, strict=True):
            if some[column].any():
                axes.plot(some["clients"], some[column], color=blue, **stroke)
        total = 2 * table["clients"] * weights if column == "server" else 0 * table["clients"] + weights
        axes.plot(table["clients"], total, color=orange, linestyle="-", linewidth=1.1)
        axes.set(xscale="log", yscale="log", xlabel="clients K", ylabel=title)
    handles = [
        Line2D([], [], color=blue, **stroke, label=f"DML: {topology}")
        for topology, stroke in zip(table["topology"].unique(), STROKES, strict=True)
    ]
    handles.append(Line2D([], [], color=orange, label="FedAvg"))
    fig.legend(handles=handles, loc="outside upper center", ncols=4)
    letters(panels, left=-30)
    text = about(
        data,
        f"Real messages of K clients about {table['images'].iloc[0]:.0f} images with simulated logits, through the "
        f"arms' own code; every table is within {table['error'].max():.0e} of the plain mean over peers.",
        "In a both ways over a server coincide, in b forwarding and peer to peer. With two clients the sum is the "
        "dearer way down. FedAvg: K times its measured message, drawn as a line. Peer to peer has no server.",
    )
    return fig, table, text


WAYS = {
    "up": "bytes up in a round,\none client",
    "down": "bytes down in a round,\none client",
    "server": "bytes in a round, both ways,\nthe server",
}
STROKES: tuple[dict[str, Any], ...] = (  # hollow, and each smaller than the one it may cover
    {"linestyle": "-", "marker": "o", "markersize": 6.5, "markerfacecolor": "none"},
    {"linestyle": "--", "marker": "^", "markersize": 5, "markerfacecolor": "none"},
    {"linestyle": ":", "marker": "s", "markersize": 2.5, "markerfacecolor": "none"},
)
