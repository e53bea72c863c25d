"""The figures of notebook 01: what is in the data, and who sees what when."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dml.config import Experiment
from dml.data.folds import plan
from dml.data.images import Images
from dml.plots.style import CLIENTS, DOUBLE, caption, drawn, figure, sheet

COLUMNS, ROWS = 10, 3  # of pictures on a contact sheet, per class and set


@drawn
def contact_sheet(images: Images) -> tuple[Figure, pd.DataFrame]:
    """The first images of a seeded shuffle, never picked: by class and set."""
    fig = Figure(figsize=(DOUBLE, 1.35 * len(images.classes) + 0.2))
    grid, files = fig.subplots(len(images.classes), 2, squeeze=False), []
    for column, (name, split) in enumerate((("train", images.train), ("unseen", images.unseen))):
        for row, title in enumerate(images.classes):
            members = np.flatnonzero(split.labels.numpy() == row)
            chosen = np.random.default_rng(0).permutation(members)[: COLUMNS * ROWS]
            sheet(grid[row, column], split.images[chosen], COLUMNS)
            grid[row, column].set_title(f"{name}: {title}")
            files += [{"set": name, "class": title, "file": split.files[i]} for i in chosen]
    caption(fig, f"{images.name}: {images.source}. Drawn at random, generator seed 0.")
    return fig, pd.DataFrame(files)


@figure("01_fold_plan", "images", facts=("experiment", "title"))
def fold_plan(images: pd.DataFrame, experiment: Experiment, data: str) -> tuple[Figure, pd.DataFrame]:
    """Who sees which fold when: one column a round, one cell a fold with its images per class.

    Of `images` (see `style.describe`) the counts are used; only the training set's classes are dealt.
    """
    counts = images[(images["measure"] == "count") & (images["set"] == "train")]
    counts = counts.rename(columns={"value": "count"}).astype({"count": int})
    labels = np.repeat(np.arange(len(counts)), counts["count"])
    folds = plan(labels, experiment, seed=0)
    rows = [("pre-training", 0, "all", folds.pretrain)]
    for round_index in range(1, experiment.rounds + 1):
        rows += [(f"client {i}", round_index, f"client {i}", f) for i, f in enumerate(folds.private[round_index - 1])]
        rows.append(("public", round_index, "all", folds.public[round_index - 1]))
    names = ["pre-training", *(f"client {i}" for i in range(experiment.clients)), "public"]
    colours = dict(
        zip(
            names,
            [(0.6, 0.6, 0.6), *(CLIENTS[i % len(CLIENTS)] for i in range(experiment.clients)), (0.35, 0.35, 0.35)],
            strict=True,
        )
    )
    fig = Figure(figsize=(DOUBLE, 0.26 * len(names) + 0.75))
    axes = fig.subplots()
    table: list[dict] = []
    for name, round_index, seen_by, fold in rows:
        place, parts = names.index(name), np.bincount(labels[fold], minlength=len(counts))
        axes.add_patch(
            Rectangle((round_index - 0.46, place - 0.42), 0.92, 0.84, color=colours[name], alpha=0.35, linewidth=0)
        )
        axes.text(round_index, place, ":".join(map(str, parts)), ha="center", va="center", fontsize=5.5)
        per_class = dict(zip((f"images: {name}" for name in counts["class"]), parts.tolist(), strict=True))
        table.append({"fold": len(table), "round": round_index, "seen by": seen_by, "images": len(fold), **per_class})
    axes.set(xlim=(-0.6, experiment.rounds + 0.6), ylim=(len(names) - 0.4, -0.6))
    axes.set_xticks(range(experiment.rounds + 1), ["start", *map(str, range(1, experiment.rounds + 1))])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("round")
    axes.grid(False)
    caption(
        fig, f"{data}: {len(rows)} disjoint folds; a cell is one fold, its images as {' : '.join(counts['class'])}."
    )
    return fig, pd.DataFrame(table)


@figure("01_style_confound", "images")
def style_confound(images: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Sharpness (variance of the Laplacian) by class and set: if it tells the label, style is confounded with it.

    Of `images` (see `style.describe`) the quantiles are drawn.
    """
    quantiles = images[images["measure"] == "sharpness"].drop(columns="measure").rename(columns={"value": "sharpness"})
    fig = Figure(figsize=(DOUBLE, 2.2))
    for axes, name in zip(fig.subplots(1, 2, sharex=True, sharey=True), ("train", "unseen"), strict=True):
        rows, lines = quantiles[quantiles["set"] == name], {}
        for colour, linestyle, (title, line) in zip(CLIENTS, "-:" * 5, rows.groupby("class", sort=False), strict=False):
            lines[title] = axes.plot(line["sharpness"], line["quantile"], color=colour, linestyle=linestyle)[0]
        axes.set(title=name, xscale="log", xlabel="sharpness (variance of the Laplacian)")
        axes.legend(lines.values(), lines.keys(), loc="upper left")
    fig.axes[0].set_ylabel("share of images below")
    caption(fig, f"{data}: cumulative distribution of the sharpness of the decoded images, by class and set.")
    return fig, quantiles
