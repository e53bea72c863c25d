"""The figures of notebook 00: who has what, and one round, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dml.plots.style import COLOURS, DOUBLE, LOOKS, caption, drawn, figure, legend_above, percent, sheet

if TYPE_CHECKING:
    from dml.experiment.lesson import Lesson  # an annex

SHOWN = 16  # images of a fold
STAGES = {
    "before": {"color": "0.6", "marker": "x"},
    "labels only": {key: LOOKS["local+public"][key] for key in ("color", "marker")},
    "with peers": {key: LOOKS["dml"][key] for key in ("color", "marker")},
}


@figure("00_one_round", "lesson", facts=("data",))
def one_round(table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Unseen accuracy of every client before the refinement, after it with labels only, and with its peers too."""
    fig = Figure(figsize=(DOUBLE, 1.9))
    axes = fig.subplots()
    stages = list(STAGES)
    for row in table.itertuples(index=False):
        x = row.client + np.linspace(-0.2, 0.2, len(stages))
        axes.plot(x, row[1:], color=COLOURS[7], linewidth=0.7, zorder=1)
    for place, stage in enumerate(stages):
        x = table["client"] + np.linspace(-0.2, 0.2, len(stages))[place]
        axes.plot(x, table[stage], linestyle="", label=stage, **STAGES[stage])
    axes.set_xticks(table["client"], [f"client {client}" for client in table["client"]])
    axes.set_ylabel("unseen accuracy, %")
    percent(axes)
    legend_above(fig, axes)
    means = ", ".join(f"{stage} {100 * table[stage].mean():.1f}" for stage in stages)
    caption(
        fig, f"{data}, one seed, one round. Means of the clients, %: {means}. One round of one seed decides nothing."
    )
    return fig, table


@drawn
def pictures(lesson: Lesson) -> tuple[Figure, pd.DataFrame]:
    """What each client has of its own, and what everybody sees: the first images of every fold."""
    fed = lesson.fed
    folds = {f"client {i}'s own": fold for i, fold in enumerate(fed.folds.private[0])} | {"public": fed.folds.public[0]}
    fig, rows = Figure(figsize=(DOUBLE, 0.62 * len(folds))), []
    for axes, (name, fold) in zip(fig.subplots(len(folds), 1), folds.items(), strict=True):
        chosen = fold[:SHOWN]
        sheet(axes, fed.images.train.images[chosen], SHOWN)
        axes.set_title(f"{name}, {len(fold)} images", fontsize=7)
        rows += [{"fold": name, "file": fed.images.train.files[i]} for i in chosen.tolist()]
    caption(fig, f"{fed.images.name}: the first {SHOWN} images of each fold.")
    return fig, pd.DataFrame(rows)
