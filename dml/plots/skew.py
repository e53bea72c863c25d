"""Figures of notebook 05: the map of where mutual learning helps, and its relatives."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dml.evidence.skew import LABELLED, TABLES, UNDECIDED, by_seed, fields_of, skew_map
from dml.evidence.words import between, capital
from dml.plots.looks import INK, name, signed
from dml.plots.style import BETTER, DOUBLE, INTERVAL, SMALLEST, about, figure, legend_above, percent

STEP = 0.05  # of accuracy: the map's colours end at the next one beyond the largest difference
COLOURS = "PiYG"  # pink: another rule is better, green: DML is; no arm has these
FOOT = 0.1  # of a cell: where it is hatched


@figure("05_map", *TABLES)
def the_map(results: pd.DataFrame, cells: pd.DataFrame, data: str, state: str = "") -> tuple[Figure, pd.DataFrame, str]:
    """A grid: to the right, clients whose classes are further apart; downward, what the public fold is. Colour and
    first line are DML minus the best arm that exchanges no outputs; below it the best arm; the foot of a cell is
    hatched where the interval decides nothing.
    """
    map_ = skew_map(results, cells)
    map_ = map_.assign(alpha=[float(fields_of(cell)["label_alpha"]) for cell in map_["cell"]])
    folds = [fold for fold in LABELLED if fold in set(map_["public_fold"])]
    alphas = sorted(map_["alpha"].unique(), reverse=True)
    counted = f"n = {between(map_['n'])} seeds a cell" if len(map_) else "no cell on record"
    fig = Figure(figsize=(DOUBLE, 1.0 + 0.6 * max(1, len(folds))))
    axes = fig.subplots()
    widest = 100 * STEP * max(1, np.ceil(map_["mean"].abs().max() / STEP)) if len(map_) else 100 * STEP
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(-widest, widest), COLOURS)
    for row in map_.itertuples():
        _cell(axes, alphas.index(row.alpha), folds.index(row.public_fold), row, scale.to_rgba(100 * row.mean))
    axes.set(xlim=(0, max(1, len(alphas))), ylim=(max(1, len(folds)), 0), facecolor="0.93")
    axes.set_xlabel("Dirichlet α of the clients' classes; their mean distance   further apart →")
    axes.set_ylabel("public images")
    axes.set_xticks(np.arange(len(alphas)) + 0.5, [_column(map_[map_["alpha"] == alpha]) for alpha in alphas])
    axes.set_yticks(np.arange(len(folds)) + 0.5, [LABELLED[fold].replace(", ", ",\n") for fold in folds])
    axes.tick_params(length=0)
    axes.grid(False)
    bar = fig.colorbar(scale, ax=axes, fraction=0.03, pad=0.01)
    bar.ax.yaxis.set_major_formatter(lambda value, _: signed(value, "g"))
    bar.set_label(f"DML − best of up to four, pp{BETTER}")
    axes.set_title(f"{counted}; hatched foot: undecided")
    text = about(
        data,
        "Colour and first line: unseen accuracy, DML minus the best of Local, FedAvg and, where public images are "
        f"labelled, both with public labels, pp, {counted}. "
        f"{capital(state)}{'. ' if state else ''}Green: DML is better; pink: it is not.",
        "Below it the one of these arms and both forms of DML with the highest mean, %. Distance: total "
        "variation between a client's classes and the whole's, over the rows of a column. Hatched foot: undecided "
        f"({INTERVAL}).",
    )
    return fig, map_.drop(columns="alpha"), text


def _cell(axes: Axes, place: int, level: int, row, colour: Any) -> None:
    axes.add_patch(Rectangle((place, level), 1, 1, facecolor=colour, edgecolor="white", linewidth=1))
    if row.state == UNDECIDED:
        foot: dict[str, Any] = {"facecolor": "white", "edgecolor": "0.3", "hatch": "//////", "linewidth": 0.4}
        axes.add_patch(Rectangle((place, level + 1 - FOOT), 1, FOOT, **foot))
    best = f"{name(row.best)} {100 * row.accuracy:.0f}".replace(" + ", "\n+ ").replace(", ", ",\n")
    box = {"facecolor": "white", "linewidth": 0, "pad": 1.5}
    words = f"{signed(100 * row.mean, '+.1f')}\n{best}"
    axes.text(place + 0.5, level + 0.5 - FOOT / 2, words, ha="center", va="center", fontsize=SMALLEST, bbox=box)


def _column(rows: pd.DataFrame) -> str:
    """A tick: how skewed the clients of a column are asked to be, and how far apart they are."""
    alpha, ends = rows["alpha"].iloc[0], sorted({f"{distance:.3f}" for distance in rows["distance"]})
    return f"{'∞ (alike)' if np.isinf(alpha) else f'{alpha:g}'}\n{' to '.join(dict.fromkeys((ends[0], ends[-1])))}"


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
    axes.set_yticks(list(place.values()), [f"{name(arm)}  ({cell})" for cell, arm in place])
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
