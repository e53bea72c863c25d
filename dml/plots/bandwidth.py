"""The figures of notebook 04 that show measured bytes: by arm, against accuracy, and along the ladder."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dml.plots.style import DOUBLE, INTERVAL, LOOKS, caption, figure, legend_above, percent, seeds_text, spread

RUNG_MARKERS = "v^<>pPXhd*"


def look(arm: str, arms: list[str]) -> dict:
    """An arm's own look; a rung has its arm's colour and line, and a marker of its own."""
    family = arm.partition(",")[0]
    style, place = LOOKS[family], [name for name in arms if name.partition(",")[0] == family].index(arm)
    return style if place == 0 else {**style, "marker": RUNG_MARKERS[place - 1], "markerfacecolor": "white"}


@figure("04_bytes", "bandwidth_traffic")
def by_arm(traffic: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Bytes of one client, log scale: up and down in an average round, and in the set-up."""
    rounds, seeds = traffic["round"].max(), traffic["seed"].nunique()
    spoken = traffic[traffic["round"] > 0].groupby(["arm", "direction"], sort=False)[["payload", "encoded"]].sum()
    spoken = (spoken / (rounds * seeds)).reset_index()
    setup = traffic[traffic["round"] == 0].groupby(["arm", "kind"], sort=False)[["payload", "encoded"]].sum() / seeds
    setup = setup.reset_index().rename(columns={"kind": "direction"}).replace({"direction": SETUP})
    table = pd.concat([spoken, setup], ignore_index=True)
    arms = list(traffic["arm"].unique())
    titles = {"up": "up, a round", "down": "down, a round", **{name: f"set-up: {name}" for name in SETUP.values()}}
    fig = Figure(figsize=(DOUBLE, 0.8 + 0.19 * len(arms)))
    for axes, (way, title) in zip(grid := fig.subplots(1, 4, sharey=True), titles.items(), strict=True):
        for row in table[table["direction"] == way].itertuples():
            place, color = arms.index(row.arm), look(row.arm, arms)["color"]
            axes.barh(place, row.encoded, color=color, alpha=0.35, height=0.75)
            axes.barh(place, row.payload, color=color, height=0.45)
            axes.text(row.encoded * 1.3, place, _bytes(row.encoded), va="center", fontsize=6)
        spoke = set(table.loc[table["direction"] == way, "arm"])
        for place, arm in enumerate(arms):
            if arm not in spoke:
                axes.text(1.5, place, "0", va="center", fontsize=6, color="0.5")
        axes.set(xscale="log", xlim=(1, 4e9), title=title, xlabel="bytes")
        axes.set_xticks([1, 1e3, 1e6, 1e9], ["1", "1 k", "1 M", "1 G"])
        axes.minorticks_off()
    grid[0].set_yticks(range(len(arms)), arms)
    grid[0].invert_yaxis()
    caption(
        fig,
        f"{data}, {seeds_text(traffic)}. Bytes of one client, measured; numbers: whole messages. Dark: the numbers "
        "alone; light: with the header. Set-up: once, before round 1.",
    )
    return fig, table


SETUP = {"Weights": "initial model", "Examples": "public images"}


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


@figure("04_accuracy_for_bytes", "bandwidth_curves")
def accuracy_for_bytes(curves: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Accuracy on the unseen sample after every round against the bytes that a client had sent and got by then."""
    arms = [arm for arm in curves["arm"].unique() if arm in SHOWN]
    fig = Figure(figsize=(DOUBLE, 2.7))
    panels, lowest = fig.subplots(1, 2, sharey=True), 1.0
    for axes, setup in zip(panels, (False, True), strict=True):
        rows = curves.assign(bytes=(curves["sent"] + setup * curves["setup"]) / (1e6 if setup else 1))
        for arm in arms:
            rows_of_arm, shown = rows[rows["arm"] == arm], look(arm, arms)
            mean = rows_of_arm.groupby("round")[["bytes", "sent", "accuracy"]].mean()
            if not mean["sent"].any():
                axes.axhline(mean["accuracy"].iloc[-1], color=shown["color"], linestyle=":", linewidth=0.9, label=arm)
                continue
            lowest = min(lowest, mean["accuracy"].min())
            for _, seed in rows_of_arm.groupby("seed"):
                axes.plot(seed["bytes"], seed["accuracy"], color=shown["color"], linewidth=0.35, alpha=0.3)
            axes.plot(mean["bytes"], mean["accuracy"], label=arm, markersize=3.5, **shown)
    panels[0].set(xscale="log", xlabel="bytes of one client, up and down", title="without the set-up")
    panels[1].set(xlim=(0, None), xlabel="MB of one client, up and down", title="set-up included")
    panels[0].set(ylabel="unseen accuracy, %", ylim=(lowest - 0.04, None))
    percent(panels[0])
    legend_above(fig, panels[0], columns=4)
    caption(
        fig,
        f"{data}, {seeds_text(curves)}. Markers: rounds, mean over seeds and clients, on a fixed sample of the unseen "
        "set; thin: single seeds (some leave the plot). Dotted: arms that send nothing, after the last round.",
    )
    return fig, curves[curves["arm"].isin(arms)]


SHOWN = ("dml", "dml, 1 bit", "fedavg", "fedavg, 8 bits", "fedavg, top 1 %", "asynchronous", "self", "local")


@figure("04_targets", "bandwidth_targets")
def to_target(targets: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Bytes a client had sent and got when the mean of the clients first reached an accuracy, without the set-up."""
    arms, goals = list(targets["arm"].unique()), sorted(targets["target"].unique())
    fig = Figure(figsize=(DOUBLE, 0.8 + 0.17 * len(arms)))
    grid = fig.subplots(1, len(goals), sharey=True, sharex=True)
    for axes, goal in zip(grid, goals, strict=True):
        for row in targets[targets["target"] == goal].itertuples():
            place, shown = arms.index(row.arm), look(row.arm, arms)
            if row.most > 0:
                axes.plot([row.least, row.most], [place, place], color=shown["color"], linewidth=0.8)
                axes.plot(row.sent, place, linestyle="", **_marker(row.arm, arms))
            elif row.most == 0:
                axes.text(110, place, "0 B", va="center", fontsize=6, color=shown["color"])
            axes.text(1, place, f"{row.reached}/{row.n}", va="center", ha="right", fontsize=6, transform=_edge(axes))
        axes.set(xscale="log", xlim=(80, 2e10), title=f"{100 * goal:g} %", xlabel="bytes")
        axes.set_xticks([1e3, 1e6, 1e9], ["1 k", "1 M", "1 G"])
        axes.minorticks_off()
    grid[0].set_yticks(range(len(arms)), arms)
    grid[0].set_ylim(len(arms) - 0.4, -0.6)
    caption(
        fig,
        f"{data}. Bar: the seeds that reached the accuracy; marker: the median of all, none where half did not; "
        "right: how many did. 0 B: reached without a message. Accuracy: mean of the clients on a sample of the unseen "
        "set, after a round.",
    )
    return fig, targets


def _edge(axes: Axes):
    return axes.get_yaxis_transform()


@figure("04_ladder", "bandwidth_ladder", "bandwidth_accuracy")
def front(ladder: pd.DataFrame, accuracy: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """The ladder: unseen accuracy against a run's bytes with the Pareto front, and what each rung costs in accuracy."""
    fig = Figure(figsize=(DOUBLE, 3.5))
    axes, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
    _front(axes, ladder)
    _differences(right, ladder, accuracy)
    fig.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=6)
    n = int(ladder["n"].max())
    caption(
        fig,
        f"{data}, n = {n} seed{'s' if n > 1 else ''}. Mean and {INTERVAL}; grey: the Pareto "
        "front of the means; right: paired differences, dots: single seeds. "
        "In words: means outside the plot.",
    )
    return fig, ladder


def _front(axes: Axes, ladder: pd.DataFrame) -> None:
    arms, nothing = list(ladder["arm"]), ladder.loc[ladder["sent"] > 0, "sent"].min() / 8
    inside = ladder[ladder["mean"] > ladder["mean"].max() - WORSE]
    low, high = inside[["mean", "low"]].min(axis=None), inside[["mean", "high"]].max(axis=None)
    axes.set_ylim(low - 0.006, high + 0.003)
    for row in ladder.itertuples():
        shown, x = _marker(row.arm, arms), max(row.sent, nothing)
        error = spread(row.mean, row.low, row.high)
        axes.errorbar(x, row.mean, yerr=error, linestyle="", elinewidth=0.7, label=row.arm, **shown)
        if row.arm not in set(inside["arm"]):
            text = f"{100 * row.mean:.1f} ↓"
            axes.text(x, 0.03, text, color=shown["color"], fontsize=6, ha="right", transform=axes.get_xaxis_transform())
    best = ladder[ladder["front"]].sort_values("sent")
    axes.step(best["sent"].clip(lower=nothing), best["mean"], where="post", color="0.6", linewidth=0.8, zorder=0)
    axes.set(xscale="log", xlabel="bytes of one client in a run, without the set-up", ylabel="unseen accuracy, %")
    axes.axvspan(nothing / 2, nothing * 2, color="0.94", zorder=-1)
    words: dict[str, Any] = {"va": "bottom", "ha": "center", "rotation": 90, "fontsize": 6}
    axes.text(nothing, 0.03, "nothing is sent", transform=axes.get_xaxis_transform(), **words)
    percent(axes)


def _differences(axes: Axes, ladder: pd.DataFrame, accuracy: pd.DataFrame) -> None:
    arms, rungs = list(ladder["arm"]), ladder.dropna(subset=["difference"])
    values = accuracy.pivot(index="seed", columns="arm", values="value")
    for place, row in enumerate(rungs.itertuples()):
        shown, differences = _marker(row.arm, arms), values[row.arm] - values[row.against]
        axes.scatter(
            differences, np.full(len(differences), place + 0.25), s=6, color=shown["color"], alpha=0.5, linewidth=0
        )
        error = spread(row.difference, row.difference_low, row.difference_high)
        axes.errorbar(row.difference, place, xerr=error, linestyle="", capsize=2, elinewidth=1, **shown)
        if abs(row.difference) > WORSE:
            edge = np.clip(np.nan_to_num(row.difference_high, nan=row.difference), -WORSE, 0.5 * WORSE) + 0.003
            axes.text(edge, place, f"mean {100 * row.difference:+.1f}", color=shown["color"], fontsize=6, va="center")
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_xlim(-WORSE, WORSE)
    axes.set_yticks(range(len(rungs)), [f"{row.arm} − {row.against}" for row in rungs.itertuples()], fontsize=6)
    axes.invert_yaxis()
    axes.set(xlabel="difference, percentage points", title="what saying it buys or costs")
    percent(axes, "x")


def _marker(arm: str, arms: list[str]) -> dict:
    return {key: value for key, value in look(arm, arms).items() if key != "linestyle"}


WORSE = 0.06  # accuracy this far below the best, or a difference this large, is told in words beside the plot


@figure("04_scaling", "bandwidth_scaling", "bandwidth_ladder")
def scaling(table: pd.DataFrame, ladder: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Bytes a round against the number of clients, measured on real messages, for the three topologies and FedAvg."""
    weights = ladder.set_index("arm").loc["fedavg", "up"]
    fig = Figure(figsize=(DOUBLE, 2.4))
    panels = fig.subplots(1, 3)
    for axes, (column, title) in zip(panels, WAYS.items(), strict=True):
        for (_, rows), (line, marker) in zip(table.groupby("topology", sort=False), STROKES, strict=True):
            if rows[column].any():
                axes.plot(rows["clients"], rows[column], color=LOOKS["dml"]["color"], linestyle=line, marker=marker)
        total = 2 * table["clients"] * weights if column == "server" else 0 * table["clients"] + weights
        axes.plot(table["clients"], total, color=LOOKS["fedavg"]["color"], linestyle="--", linewidth=0.9)
        axes.set(xscale="log", yscale="log", title=title, xlabel="clients K")
    panels[0].set_ylabel("bytes a round")
    handles = [
        Line2D([], [], color=LOOKS["dml"]["color"], linestyle=line, marker=marker, label=f"dml: {name}")
        for name, (line, marker) in zip(table["topology"].unique(), STROKES, strict=True)
    ]
    handles.append(Line2D([], [], color=LOOKS["fedavg"]["color"], linestyle="--", label="fedavg"))
    fig.legend(handles=handles, loc="outside upper center", ncols=4)
    caption(
        fig,
        f"Messages of K clients about {table['images'].iloc[0]} images, drawn logits, through the arms' own code; "
        f"every table within {table['error'].max():.0e} of the plain mean over peers. FedAvg: K times the measured "
        f"message ({data}).",
    )
    return fig, table


WAYS = {"up": "one client, up", "down": "one client, down", "server": "the server, both"}
STROKES: tuple[tuple[Any, str], ...] = (("-", "o"), ("--", "^"), (":", "s"))
