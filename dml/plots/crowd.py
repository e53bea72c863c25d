"""The figures of notebook 07: accuracy and what the peers add against the number of clients, and what clients cost."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from dml.evidence import crowd, crowd_cost
from dml.evidence.words import between
from dml.plots.looks import INK, dot, look, name
from dml.plots.style import BETTER, DOUBLE, INTERVAL, TEXT, about, drawn, figure, legend_above, letters, percent
from dml.studies.crowd import ALONE

LEFT = ("dml", "fedavg", "local+public", "self", "local")
RIGHT = ("self", "smoothing", "fedavg", "local+public")
ENOUGH, FEW = 3, "n = 1 or 2"  # seeds: Student's interval of two would hide the rest
DODGE = 0.012  # of the axis, from one arm to the next


@figure("07_accuracy", "crowd_clients")
def by_clients(clients: pd.DataFrame, data: str, state: str = "") -> tuple[Figure, pd.DataFrame, str]:
    """Accuracy on unseen images against the number of clients, on a logarithmic axis, a line an arm: on the left as it
    is, on the right DML minus another arm. A row of panels for each share of clients that take part in a round.
    """
    means, gains = crowd.accuracy(clients), crowd.gains(clients)
    plain = {"kept": True, "one_public": False, "data": clients["data"].iloc[0]}
    means, gains = (rows[(rows[list(plain)] == pd.Series(plain)).all(axis=1)] for rows in (means, gains))
    shares = sorted(means["share"].unique(), reverse=True)
    fig = Figure(figsize=(DOUBLE, 0.7 + 1.9 * len(shares)))
    grid = fig.subplots(len(shares), 2, squeeze=False, sharex=True)
    for (left, right), share in zip(grid, shares, strict=True):
        _lines(left, means[(means["share"] == share)], "arm", LEFT)
        left.set_ylim(top=min(left.get_ylim()[1], 1))
        _lines(right, gains[(gains["share"] == share)], "against", RIGHT)
        right.axhspan(-crowd.MARGIN, crowd.MARGIN, color="0.93", zorder=0)
        right.axhline(0, color=INK, linewidth=0.7)
        who = "all clients in every round" if share == 1 else f"{100 * share:g} % of the clients a round"
        left.set_ylabel(f"accuracy, %{BETTER}")
        left.set_title(who)
        right.set_ylabel("DML minus the arm, pp\nDML better →")
    ticks = sorted(means["clients"].unique())
    for axes in grid[-1]:
        axes.set_xlabel("clients K")
        axes.set_xticks(ticks, [f"{count:,}" for count in ticks])
        axes.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
    letters(list(grid.ravel()), left=-22)
    handles = [Line2D([], [], label=name(arm), **_look(arm, arm in LEFT)) for arm in dict.fromkeys(LEFT + RIGHT)]
    handles.append(Line2D([], [], color="0.4", marker="o", markerfacecolor="white", linestyle="", label=FEW))
    shown_left, shown_right = means[means["arm"].isin(LEFT)], gains[gains["against"].isin(RIGHT)]
    few = min(shown_left["n"].min(), shown_right["n"].min()) < ENOUGH
    beyond = ((shown_left["n"] >= ENOUGH) & (shown_left["high"] > 1)).any()
    shown = {name(arm) for arm in {*means["arm"], *gains["against"]}} | ({FEW} if few else set())
    fig.legend(handles=[one for one in handles if one.get_label() in shown], loc="outside upper center", ncols=7)
    text = about(
        data,
        "Accuracy on unseen images after the last round, of a sample of at most 50 clients, each by its own last "
        f"model, in FedAvg by the newest one. {_seeds(name('dml'), means[means['arm'] == 'dml'])} Right: DML's paired "
        "differences; the marker is that of the arm DML is compared with. "
        f"{_seeds(name('smoothing'), gains[gains['against'] == 'smoothing'])} "
        f"Mean and {INTERVAL}{'; hollow: n = 1 or 2, no interval shown' if few else ''}"
        f"{'; ▴: it goes on beyond 100 %' if beyond else ''}. {state}",
        "Each client has 24 images of its own and keeps them, as many at every K. Grey: within a point.",
        f"{', '.join(name(arm) for arm in LEFT if arm in ALONE)} do not depend on K: they were run once, and the first "
        "K clients are averaged; without a marker where that repeats a smaller K.",
    )
    return fig, pd.concat([means.assign(panel="accuracy"), gains.assign(panel="difference")]), " ".join(text.split())


def _seeds(who: str, rows: pd.DataFrame) -> str:
    """How many seeds there are, by the share of clients a round and K."""
    told: list[str] = []
    for share, part in rows.sort_values(["share", "clients"], ascending=[False, True]).groupby("share", sort=False):
        counts = part.groupby("n", sort=False)["clients"]
        each = "; ".join(f"n = {n} at K = {', '.join(f'{count:,}' for count in own)}" for n, own in counts)
        told.append(f"{who}, {'all' if share == 1 else f'{100 * share:g} %'} a round: {each}.")
    return " ".join(told)


def _lines(axes: Axes, rows: pd.DataFrame, column: str, arms: tuple[str, ...]) -> None:
    """A line for each arm that the rows have, one beside the other."""
    width = DODGE * np.log(max(2.0, rows["clients"].max() / rows["clients"].min()))
    for place, arm in enumerate(arms):
        own = rows[rows[column] == arm].sort_values("clients")
        if own.empty:
            continue
        x = own["clients"].to_numpy() * np.exp(width * (place - len(arms) / 2))
        keys = _look(arm, column == "arm")
        axes.plot(x, own["mean"], linewidth=0.9, color=keys["color"], linestyle=keys["linestyle"])
        again = own.duplicated(["mean", "low", "high"]) if column == "arm" and arm in ALONE else own["n"] < 0
        for here, row, repeated in zip(x, own.itertuples(), again, strict=True):
            if not repeated:
                _mark(axes, here, row, keys, 1.0 if column == "arm" else np.inf)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    percent(axes)


def _look(arm: str, itself: bool) -> dict[str, Any]:
    """An arm's look, or where DML is compared with it, DML's with the arm's marker."""
    return look(arm) if itself else {**look("dml"), "marker": look(arm)["marker"], "linestyle": ":"}


def _mark(axes: Axes, x: float, row, keys: dict[str, Any], most: float) -> None:
    """A mean and its interval, which ends in an arrow at `most`; hollow and without it where seeds are too few."""
    colour, known = keys["color"], row.n >= ENOUGH
    if known:
        error = [[row.mean - row.low], [min(row.high, most) - row.mean]]
        axes.errorbar(x, row.mean, yerr=error, color=colour, linewidth=0.8, capsize=1.5)
        if row.high > most:
            axes.plot(x, most, marker="^", markersize=3, color=colour, clip_on=False)
    axes.plot(
        x, row.mean, color=colour, marker=keys["marker"], markersize=3.5, markerfacecolor=colour if known else "white"
    )


@drawn
def cost(measured: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """CPU seconds of one round, on the left, and memory, on the right, against the number of clients, both axes
    logarithmic; a dot a measurement, a line an arm.
    """
    rows = crowd_cost.inside(measured)
    fig = Figure(figsize=(TEXT, 2.3))
    left, right = fig.subplots(1, 2)
    for axes, column in ((left, "seconds"), (right, "peak_mb")):
        for arm, own in rows.groupby("arm", sort=False):
            middle = own.groupby("clients")[column].median()
            axes.plot(middle.index, middle, color=look(arm)["color"], linewidth=0.9)
            axes.plot(own["clients"], own[column], markersize=3, **dot(arm), label=name(arm))
        axes.set(xscale="log", yscale="log", xlabel="clients K")
        counts = sorted(rows["clients"].unique())
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("CPU seconds of a round")
    right.set_ylabel("peak memory, MiB")
    letters((left, right), left=-22)
    legend_above(fig, left)
    seconds = {slope.arm: slope for slope in crowd_cost.slopes(measured) if slope.cost == "seconds"}
    told = ", ".join(f"{name(arm)} {one.slope:.2f} [{one.low:.2f}, {one.high:.2f}]" for arm, one in seconds.items())
    text = about(
        data,
        "One round, one epoch a phase, without the look at the models; a dot is one measurement in a process of its "
        f"own ({_measured(rows)}), a line joins their medians. Memory includes the libraries.",
        f"Slopes of seconds in logarithms, 95 % interval over the measurements: {told}." if told else "",
    )
    return fig, rows[["arm", "clients", "turn", "seconds", "refine_ms", "peak_mb", "before_mb"]], text


def _measured(rows: pd.DataFrame) -> str:
    """How many measurements of an arm there are, by K: "n = 2 at K = 10 and 30, n = 1 at K = 100"."""
    counts = rows.groupby(["clients", "arm"]).size().groupby("clients").agg(between)
    return ", ".join(
        f"n = {n} at K = {' and '.join(', '.join(f'{count:,}' for count in at).rsplit(', ', 1))}"
        for n, at in counts.groupby(counts, sort=False).groups.items()
    )
