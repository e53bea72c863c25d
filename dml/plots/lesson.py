"""The figures of notebook 00: who has what, and one round, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dml.plots.looks import LOOKS, data_name
from dml.plots.style import BETTER, DOUBLE, TEXT, drawn, figure, legend_above, percent, sheet

if TYPE_CHECKING:
    from dml.experiment.lesson import Lesson  # an annex

SHOWN = 16  # images of a fold
STAGES = {
    "before": {"color": "0.5", "marker": "x"},
    "labels only": {key: LOOKS["local+public"][key] for key in ("color", "marker")},
    "with peers": {key: LOOKS["dml"][key] for key in ("color", "marker")},
}


@figure("00_one_round", "lesson", facts=("data",))
def one_round(table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Accuracy of every client on unseen images before the refinement, after it with labels only, and after it with
    labels and peers, joined by a line.
    """
    fig = Figure(figsize=(TEXT, 1.8))
    axes, stages = fig.subplots(), list(STAGES)
    steps = np.linspace(-0.2, 0.2, len(stages))
    for row in table.itertuples(index=False):
        axes.plot(row.client + steps, row[1:], color="0.75", linewidth=0.7, zorder=1)
    for step, stage in zip(steps, stages, strict=True):
        axes.plot(table["client"] + step, table[stage], linestyle="", label=stage, **STAGES[stage])
    axes.set_xticks(table["client"], [f"client {client}" for client in table["client"]])
    axes.set_ylabel(f"accuracy on\nunseen images, %{BETTER}")
    percent(axes)
    legend_above(fig, axes)
    means = ", ".join(f"{stage} {100 * table[stage].mean():.1f}" for stage in stages)
    text = (
        f"One round of one seed decides nothing. Means of the {len(table)} clients, %: {means}. "
        f"Data: {data_name(data)}; one seed, so no interval."
    )
    return fig, table, text


@drawn
def pictures(lesson: Lesson) -> tuple[Figure, pd.DataFrame, str]:
    """The first images of every client's own fold, one row a client, and of the public fold that everybody sees."""
    fed = lesson.fed
    folds = {f"client {i}'s own": fold for i, fold in enumerate(fed.folds.private[0])} | {"public": fed.folds.public[0]}
    fig, rows = Figure(figsize=(DOUBLE, 0.62 * len(folds))), []
    for axes, (name, fold) in zip(fig.subplots(len(folds), 1), folds.items(), strict=True):
        chosen = fold[:SHOWN]
        sheet(axes, fed.images.train.images[chosen], SHOWN)
        axes.set_title(f"{name}, {len(fold)} images")
        rows += [{"fold": name, "file": fed.images.train.files[i]} for i in chosen.tolist()]
    return fig, pd.DataFrame(rows), f"The first {SHOWN} images of each fold. Data: {data_name(fed.images.name)}."
