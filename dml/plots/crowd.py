"""The figures of notebook 07: accuracy and what the peers add against the number of clients, and what clients cost."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from dml.evidence import crowd, crowd_cost
from dml.evidence.words import between
from dml.plots.looks import INK, LOOKS, NAMES, dot, look
from dml.plots.style import BETTER, DOUBLE, INTERVAL, TEXT, about, drawn, figure, legend_above, letters, percent, spread

LEFT = ("dml", "fedavg", "local+public", "self", "local")
RIGHT = ("self", "smoothing", "fedavg", "local+public")
DODGE = 0.012  # of the axis, from one arm to the next


@figure("07_accuracy", "crowd_clients")
def by_clients(clients: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
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
        _lines(right, gains[(gains["share"] == share)], "against", RIGHT)
        right.axhspan(-crowd.MARGIN, crowd.MARGIN, color="0.93", zorder=0)
        right.axhline(0, color=INK, linewidth=0.7)
        who = "all in every round" if share == 1 else f"{100 * share:g} % a round"
        left.set_ylabel(f"accuracy, %{BETTER}\n{who}")
        right.set_ylabel("DML minus the arm, pp\nDML better →")
    counts = sorted(means["clients"].unique())
    for axes in grid[-1]:
        axes.set_xlabel("clients K")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.set_xlim(counts[0] / 1.4, counts[-1] * 1.4)
    letters(list(grid.ravel()), left=-22)
    legend_above(fig, grid[0][0])
    n = means.groupby(["clients", "arm"])["n"].max()
    text = about(
        data,
        f"Accuracy on unseen images after the last round, of a sample of at most 50 clients, n = {between(n)} seeds. "
        f"Right: DML's paired differences; the marker is that of the arm DML is compared with. Mean and {INTERVAL}.",
        "Each client has 24 images of its own and keeps them, as many at every K. Grey: within a point.",
    )
    return fig, pd.concat([means.assign(panel="accuracy"), gains.assign(panel="difference")]), text


def _lines(axes, rows: pd.DataFrame, column: str, arms: tuple[str, ...]) -> None:
    """A line for each arm that the rows have, one beside the other."""
    width = DODGE * np.log(max(2.0, rows["clients"].max() / rows["clients"].min()))
    for place, arm in enumerate(arms):
        own = rows[rows[column] == arm].sort_values("clients")
        if own.empty:
            continue
        x = own["clients"].to_numpy() * np.exp(width * (place - len(arms) / 2))
        keys = look(arm) if column == "arm" else {**look("dml"), "marker": look(arm)["marker"], "linestyle": ":"}
        axes.plot(x, own["mean"], label=NAMES[arm], markersize=3.5, linewidth=0.9, **keys)
        for here, row in zip(x, own.itertuples(), strict=True):
            if (error := spread(row.mean, row.low, row.high)) is not None:
                axes.errorbar(here, row.mean, yerr=error, color=keys["color"], linewidth=0.8, capsize=1.5)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    percent(axes)


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
            axes.plot(middle.index, middle, color=LOOKS[arm]["color"], linewidth=0.9, label=NAMES[arm])
            axes.plot(own["clients"], own[column], markersize=3, **dot(arm))
        axes.set(xscale="log", yscale="log", xlabel="clients K")
    left.set_ylabel("CPU seconds of a round")
    right.set_ylabel("memory at most, MB")
    letters((left, right), left=-22)
    legend_above(fig, left)
    seconds = {slope.arm: slope for slope in crowd_cost.slopes(measured) if slope.cost == "seconds"}
    told = ", ".join(f"{NAMES[arm]} {one.slope:.2f} [{one.low:.2f}, {one.high:.2f}]" for arm, one in seconds.items())
    text = about(
        data,
        "One round, one epoch a phase, without the look at the models; a dot is one measurement in a process of its "
        "own, a line joins medians. Memory includes the libraries.",
        f"Slopes of seconds in logarithms, 95 % interval over the measurements: {told}." if told else "",
    )
    return fig, rows[["arm", "clients", "turn", "seconds", "refine_ms", "peak_mb", "before_mb"]], text
