"""The figures of notebook 01: what is in the data, and who sees what when."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dml.config import Experiment
from dml.data.folds import plan
from dml.data.images import Images
from dml.evidence.style import sharper
from dml.plots.looks import GREYS, STROKES
from dml.plots.style import DOUBLE, SMALLEST, TEXT, about, drawn, figure, letters, sheet

COLUMNS, ROWS = 8, 2  # of pictures on a contact sheet, per class and set
SETS = {"train": "training set", "unseen": "unseen set"}


@drawn
def contact_sheet(images: Images) -> tuple[Figure, pd.DataFrame, str]:
    """Sixteen images of each class of the training set, left, and of the unseen set, right."""
    fig = Figure(figsize=(DOUBLE, 1.08 * len(images.classes) + 0.1))
    grid, files = fig.subplots(len(images.classes), 2, squeeze=False), []
    for column, (part, split) in enumerate((("train", images.train), ("unseen", images.unseen))):
        for row, title in enumerate(images.classes):
            members = np.flatnonzero(split.labels.numpy() == row)
            chosen = np.random.default_rng(0).permutation(members)[: COLUMNS * ROWS]
            sheet(grid[row, column], split.images[chosen], COLUMNS)
            grid[row, column].set_title(f"{SETS[part]}: {title}")
            files += [{"set": part, "class": title, "file": split.files[i]} for i in chosen]
    letters(list(grid.ravel()), left=-2)
    text = (
        f"Images of “{images.name}” ({images.source}), chosen by a seeded shuffle and never by looking. Where images "
        "are drawn by this package, those of the unseen set are given a style that goes with the class on purpose."
    )
    return fig, pd.DataFrame(files), text


@figure("01_fold_plan", "images", facts=("experiment", "title"))
def fold_plan(images: pd.DataFrame, experiment: Experiment, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Who sees which fold when: one column a round, one row a client, and one cell a fold, which nobody sees twice; the
    first one and the public ones, darker, are seen by all.
    """
    counts = images[(images["measure"] == "count") & (images["set"] == "train")]
    counts = counts.rename(columns={"value": "count"}).astype({"count": int})
    labels = np.repeat(np.arange(len(counts)), counts["count"])
    folds = plan(labels, experiment, seed=0)
    cells = [("pre-training", 0, "all", folds.pretrain)]
    for round_index in range(1, experiment.rounds + 1):
        private = enumerate(folds.private[round_index - 1])
        cells += [(f"client {i}", round_index, f"client {i}", fold) for i, fold in private]
        cells.append(("public", round_index, "all", folds.public[round_index - 1]))
    names = ["pre-training", *(f"client {i}" for i in range(experiment.clients)), "public"]
    fig = Figure(figsize=(TEXT, 0.2 * len(names) + 0.45))
    axes = fig.subplots()
    table: list[dict] = []
    for name, round_index, seen_by, fold in cells:
        place, parts = names.index(name), np.bincount(labels[fold], minlength=len(counts))
        grey = GREYS[3] if seen_by != "all" else GREYS[2]
        axes.add_patch(Rectangle((round_index - 0.46, place - 0.42), 0.92, 0.84, color=grey, linewidth=0))
        per_class = dict(zip((f"images: {title}" for title in counts["class"]), parts.tolist(), strict=True))
        table.append({"fold": len(table), "round": round_index, "seen by": seen_by, "images": len(fold), **per_class})
    axes.set(xlim=(-0.6, experiment.rounds + 0.6), ylim=(len(names) - 0.4, -0.6))
    axes.set_xticks(range(experiment.rounds + 1), ["start", *map(str, range(1, experiment.rounds + 1))])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("round")
    axes.tick_params(length=0)
    axes.grid(False)
    sizes = pd.DataFrame(table)
    spans = [
        f"{sizes[column].min()} to {sizes[column].max()} {column[8:]}"
        for column in sizes
        if column.startswith("images: ")
    ]
    text = about(
        data,
        f"{len(cells)} disjoint folds of {sizes['images'].min()} to {sizes['images'].max()} images "
        f"({', '.join(spans)}); seed 0. Pale: seen by one client; dark: by all. Public folds are used by the arms that "
        "share predictions or see public labels.",
    )
    return fig, sizes, text


@figure("01_style_confound", "images")
def style_confound(images: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Sharpness of the images by class, cumulative, in the training set, left, and in the unseen set, right: where the
    curves of the classes part, style tells the label.
    """
    quantiles = images[images["measure"] == "sharpness"].drop(columns="measure").rename(columns={"value": "sharpness"})
    classes, chances = list(quantiles["class"].unique()), []
    fig = Figure(figsize=(TEXT, 1.9))
    panels = fig.subplots(1, 2, sharex=True, sharey=True)
    for axes, part in zip(panels, SETS, strict=True):
        of_set = quantiles[quantiles["set"] == part]
        for i, (_, line) in enumerate(of_set.groupby("class", sort=False)):
            keys = {"color": GREYS[i % len(GREYS)], "linestyle": STROKES[i % len(STROKES)], "linewidth": 1.4}
            axes.plot(line["sharpness"], line["quantile"], **keys)
        axes.set(title=SETS[part], xscale="log", xlabel="sharpness, grey levels²")
        if len(classes) == 2:
            chances.append(sharper(images, part)[0])
            axes.text(0.03, 0.62, f"P = {chances[-1]:.2f}", transform=axes.transAxes, fontsize=SMALLEST)
    inside = quantiles.loc[quantiles["quantile"].between(0.005, 0.995), "sharpness"]
    panels[0].set_xlim(max(inside.min(), 1e-3) / 1.3, inside.max() * 1.3)
    panels[0].legend(panels[0].lines, classes, loc="upper left")  # a class may be named as no label can be
    panels[0].set_ylabel("share of images below")
    letters(panels, left=-5)
    said = (
        f"P: a “{classes[0]}” image is sharper than a “{classes[1]}” one with probability {chances[0]:.2f} in the "
        f"training set and {chances[1]:.2f} in the unseen set (0.50 would tell nothing of the label)."
        if chances
        else ""
    )
    counts = images[images["measure"] == "count"].groupby("set", sort=False)["value"].sum()
    n = " and ".join(f"{counts[part]:,.0f} ({SETS[part]})" for part in SETS)
    text = about(
        data,
        said,
        f"Cumulative distributions of the sharpness (variance of the Laplacian) of the decoded images, n = {n}; the "
        "outermost hundredth is left out.",
    )
    return fig, quantiles, text
