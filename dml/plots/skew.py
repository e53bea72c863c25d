"""The figures of notebook 05: the map of where mutual learning helps, and who gains among different models."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dml.evidence.skew import LABELLED, TABLES, UNDECIDED, by_seed, fields_of, model_gains, skew_map
from dml.plots.style import COLOURS, DOUBLE, caption, figure, percent, spread

WIDEST = 0.2  # of accuracy: where the map's colours end


@figure("05_map", *TABLES)
def the_map(results: pd.DataFrame, cells: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Skew against what the public fold is: colour is DML minus the best rule without outputs; letters name the arm
    with the highest mean; hatched where the interval decides nothing.
    """
    map_ = skew_map(results, cells)
    folds = [fold for fold in LABELLED if fold in set(map_["public_fold"])]
    fig = Figure(figsize=(DOUBLE, 0.9 + 0.65 * max(1, len(folds))))
    axes = fig.subplots()
    for level, fold in enumerate(folds):
        for place, row in enumerate(map_[map_["public_fold"] == fold].itertuples()):
            shade = float(np.clip(row.mean / WIDEST, -1, 1))
            colour = (*COLOURS[0 if shade > 0 else 1], abs(shade))
            hatch = "////" if row.state == UNDECIDED else None
            axes.add_patch(
                Rectangle((place, level), 1, 1, facecolor=colour, edgecolor="0.6", hatch=hatch, linewidth=0.5)
            )
            words = f"{100 * row.mean:+.1f}\n{row.best} {100 * row.accuracy:.0f}\n{row.distance:.2f} apart"
            box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}
            axes.text(place + 0.5, level + 0.5, words, ha="center", va="center", fontsize=6, bbox=box)
    widest = int(map_.groupby("public_fold").size().max()) if len(map_) else 1
    axes.set(xlim=(0, widest), ylim=(max(1, len(folds)), 0), xlabel="clients' classes further apart", xticks=[])
    axes.set_yticks(np.arange(len(folds)) + 0.5, [LABELLED[fold].replace(", ", ",\n") for fold in folds])
    counted = "n = " + " or ".join(str(n) for n in sorted(map_["n"].unique())) + " seeds a cell"
    caption(
        fig,
        f"{data}, {counted}. First line and colour: unseen accuracy of DML minus the best of local, local+public, "
        "fedavg and fedavg+public, points (blue: DML higher). Second: the arm with the highest mean, %. Third: total "
        "variation between a client's classes and the whole's. Hatched: undecided (95 % interval, Student's t).",
    )
    return fig, map_


@figure("05_models", *TABLES)
def who_gains(results: pd.DataFrame, cells: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Of every kind of model: DML minus its own `local+public`, the weak ones first."""
    tables = [
        model_gains(results, cell, fields_of(cell)["models"].split(",")).assign(cell=cell)
        for cell, arms in by_seed(results).items()
        if "," in fields_of(cell).get("models", "") and {"dml", "local+public"} <= set(arms)
    ]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["kind", "mean", "cell"])
    fig = Figure(figsize=(DOUBLE, 1.2 + 0.2 * max(1, len(table))))
    axes = fig.subplots()
    for place, row in enumerate(table.itertuples()):
        axes.errorbar(row.mean, place, xerr=spread(row.mean, row.low, row.high), color=COLOURS[0], marker="o")
    names = [f"{row.kind} ({100 * row.alone:.0f} alone)" for row in table.itertuples()]
    axes.set_yticks(range(len(table)), names)
    axes.axvline(0, color="0.7", linewidth=0.7)
    axes.set(xlabel="DML minus local+public of the same model, points", ylim=(len(table) - 0.5, -0.5))
    percent(axes, "x")
    counted = int(table["n"].max()) if len(table) else 0
    seeds = f"{counted} seed{'s' * (counted != 1)}"
    exchanged = "Clients with different models exchange only outputs"
    caption(fig, f"{data}, n = {seeds}. {exchanged}; 95 % intervals (Student's t).")
    return fig, table


@figure("05_relatives", *TABLES)
def relatives(results: pd.DataFrame, cells: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Unseen accuracy of every arm in every cell, common and personal: a dot a seed."""
    common, own = by_seed(results), by_seed(results, "unseen personal accuracy")
    rows = [
        (cell, arm, metric, seed, value)
        for metric, values in (("common", common), ("personal", own))
        for cell, wide in values.items()
        for arm in wide
        for seed, value in wide[arm].dropna().items()
    ]
    table = pd.DataFrame(rows, columns=["cell", "arm", "metric", "seed", "accuracy"])
    lines = table[["cell", "arm"]].drop_duplicates().reset_index(drop=True)
    fig = Figure(figsize=(DOUBLE, 0.9 + 0.14 * max(4, len(lines))))
    axes = fig.subplots()
    place = {tuple(line): -number for number, line in enumerate(lines.itertuples(index=False))}
    for (metric, colour), marker in zip((("common", COLOURS[0]), ("personal", COLOURS[1])), "os", strict=True):
        part = table[table["metric"] == metric]
        heights = [place[pair] for pair in zip(part["cell"], part["arm"], strict=True)]
        axes.plot(part["accuracy"], heights, linestyle="", marker=marker, color=colour, markersize=3, label=metric)
    axes.set_yticks(list(place.values()), [f"{arm}  ({cell})" for cell, arm in place], fontsize=5)
    axes.set_xlabel("accuracy, %")
    axes.legend(loc="lower left", fontsize=6)
    percent(axes, "x")
    caption(
        fig,
        f"{data}. Mean over clients, a dot a seed. Common: the unseen set as it is; personal: its recalls weighted by "
        "a client's own classes.",
    )
    return fig, table
