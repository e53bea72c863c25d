"""The figures of notebook 05: the map of where mutual learning helps, and who gains among different models."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dml.evidence.skew import LABELLED, TABLES, UNDECIDED, by_seed, fields_of, model_gains, skew_map
from dml.plots.looks import INK, NAMES, dot, signed
from dml.plots.style import BETTER, DOUBLE, INTERVAL, SMALLEST, TEXT, about, figure, legend_above, percent, spread

WIDEST = 0.2  # of accuracy: where the map's colours end
COLOURS = "PuOr"  # orange: another rule is better, violet: DML is


@figure("05_map", *TABLES)
def the_map(results: pd.DataFrame, cells: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """A grid: to the right, clients whose classes are further apart; downward, what the public fold is. Colour and
    first line are DML minus the best rule that exchanges no outputs; the second line names the best arm; hatched where
    the interval decides nothing.
    """
    map_ = skew_map(results, cells)
    folds = [fold for fold in LABELLED if fold in set(map_["public_fold"])]
    fig = Figure(figsize=(DOUBLE, 0.9 + 0.72 * max(1, len(folds))))
    axes = fig.subplots()
    for level, fold in enumerate(folds):
        for place, row in enumerate(map_[map_["public_fold"] == fold].itertuples()):
            colour = mpl.colormaps[COLOURS](0.5 + float(np.clip(row.mean / WIDEST, -1, 1)) / 2)
            hatch = "////" if row.state == UNDECIDED else None
            axes.add_patch(
                Rectangle((place, level), 1, 1, facecolor=colour, edgecolor="0.6", hatch=hatch, linewidth=0.5)
            )
            best = f"{NAMES.get(row.best, row.best)} {100 * row.accuracy:.0f}".replace(" + ", "\n+ ").replace(
                ", ", ",\n"
            )
            words = f"{signed(100 * row.mean, '+.1f')}\n{best}\n{row.distance:.2f} apart"
            box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}
            axes.text(place + 0.5, level + 0.5, words, ha="center", va="center", fontsize=SMALLEST, bbox=box)
    widest = int(map_.groupby("public_fold").size().max()) if len(map_) else 1
    axes.set(xlim=(0, widest), ylim=(max(1, len(folds)), 0), xlabel="clients' classes further apart →", xticks=[])
    axes.set_yticks(np.arange(len(folds)) + 0.5, [LABELLED[fold].replace(", ", ",\n") for fold in folds])
    axes.grid(False)
    seeds = sorted(map_["n"].unique())
    counted = "n = " + " or ".join(map(str, seeds)) + f" seed{'s' * (seeds != [1])} a cell"
    text = about(
        data,
        "Colour and first line: accuracy on unseen images, DML minus the best of Local, Local + public labels, FedAvg "
        f"and FedAvg + public labels, pp, {counted}. Violet: DML is better; orange: it is not.",
        "Second line: the arm with the highest mean, %. Third: total variation between a client's classes and the "
        f"whole's. Hatched: undecided ({INTERVAL}).",
    )
    return fig, map_, text


@figure("05_models", *TABLES)
def who_gains(results: pd.DataFrame, cells: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """One row a kind of model, the weak ones first: DML minus its own accuracy with public labels alone."""
    tables = [
        model_gains(results, cell, fields_of(cell)["models"].split(",")).assign(cell=cell)
        for cell, arms in by_seed(results).items()
        if "," in fields_of(cell).get("models", "") and {"dml", "local+public"} <= set(arms)
    ]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["kind", "mean", "cell"])
    fig = Figure(figsize=(TEXT, 0.8 + 0.2 * max(1, len(table))))
    axes = fig.subplots()
    for place, row in enumerate(table.itertuples()):
        axes.errorbar(row.mean, place, xerr=spread(row.mean, row.low, row.high), **dot("dml"))
    axes.set_yticks(range(len(table)), [f"{row.kind} ({100 * row.alone:.0f} alone)" for row in table.itertuples()])
    axes.axvline(0, color=INK, linewidth=0.7)
    axes.set_xlabel(f"DML − local + public labels, same model, pp{BETTER}")
    axes.set_ylim(max(len(table), 1) - 0.5, -0.5)
    percent(axes, "x")
    counted = int(table["n"].max()) if len(table) else 0
    text = about(
        data,
        f"Accuracy on unseen images of DML minus that of the same model with public labels alone, n = {counted} "
        f"seed{'s' * (counted != 1)}, mean and {INTERVAL}; in brackets its accuracy with public labels alone, %.",
        "Clients with different models exchange only outputs.",
    )
    return fig, table, text


@figure("05_relatives", *TABLES)
def relatives(results: pd.DataFrame, cells: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """One row an arm in a cell: accuracy on the common unseen set, filled, and on each client's own mixture, hollow."""
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
    fig = Figure(figsize=(DOUBLE, 0.9 + 0.15 * max(4, len(lines))))
    axes = fig.subplots()
    place = {tuple(line): number for number, line in enumerate(lines.itertuples(index=False))}
    for metric, face in (("common", INK), ("personal", "white")):
        part = table[table["metric"] == metric]
        heights = [place[pair] for pair in zip(part["cell"], part["arm"], strict=True)]
        axes.plot(part["accuracy"], heights, "o", color=INK, markerfacecolor=face, markersize=3, label=metric)
    axes.set_yticks(list(place.values()), [f"{NAMES.get(arm, arm)}  ({cell})" for cell, arm in place])
    axes.set_ylim(max(len(place), 1) - 0.5, -0.5)
    axes.set_xlabel(f"accuracy, %{BETTER}")
    legend_above(fig, axes)
    percent(axes, "x")
    text = about(
        data,
        "Mean over clients, a dot a seed. Common: the unseen set as it is. Personal: its recalls weighted by a "
        "client's own classes.",
    )
    return fig, table, text
