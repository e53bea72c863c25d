"""The figure of notebook 02 that shows which images are called wrongly, beside what the two sets differ in."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml import stats
from dml.evidence.style import sharper
from dml.plots import rows
from dml.plots.looks import GREYS, dot
from dml.plots.style import (
    DOUBLE,
    INTERVAL,
    WORSE,
    about,
    figure,
    legend_above,
    letters,
    percent,
    seeds_text,
    spread,
)

SETS = {"train": "training", "unseen": "unseen"}
BOX = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles


@figure("02_failures", "results", "images")
def failures(results: pd.DataFrame, images: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Left, one row an arm: the share of each class's unseen images that is called the other class. Right: how sharp
    the images of each class are, in the training set and in the unseen set.
    """
    wrong, classes = errors(results, images), list(images["class"].unique())
    arms = list(wrong["arm"].unique())
    fig = Figure(figsize=(DOUBLE, 0.6 + 0.2 * len(arms)))
    left, right = fig.subplots(1, 2, width_ratios=(1.35, 1))
    for place, arm in enumerate(arms):
        ends = wrong[wrong["arm"] == arm].sort_values("mean")
        left.plot(ends["mean"], np.full(len(ends), place), color="0.8", linewidth=2.5, solid_capstyle="butt", zorder=1)
        for row in ends.itertuples():
            face = {} if row.called == "first" else {"markerfacecolor": "white"}
            error = spread(row.mean, row.low, row.high)
            left.errorbar(row.mean, place, xerr=error, **(dot(arm) | face), capsize=1.8, elinewidth=0.8, markersize=4)
    rows.names(left, arms)
    left.set_xlim(0, None)
    left.set_xlabel(f"{WORSE}share of unseen images called wrongly, %")
    percent(left, "x")
    two = len(classes) == 2
    said = (
        [f"“{classes[0]}” called “{classes[1]}”", f"“{classes[1]}” called “{classes[0]}”"] if two else ["all classes"]
    )
    for label, fill in zip(said, ("0.3", "white"), strict=False):
        left.plot([], [], "o", color="0.3", markerfacecolor=fill, label=label)
    legend_above(fig, left)
    told = _sharpness(right, images)
    letters((left, right), left=-6)
    text = about(
        data,
        f"a: {said[0]} (filled) and {said[1]} (hollow), {seeds_text(results)}, last round, mean over clients and "
        f"{INTERVAL} over seeds."
        if two
        else f"a: errors, {seeds_text(results)}, {INTERVAL} over seeds.",
        f"Arms whose first share is the larger one: {_lopsided(wrong)} of {len(arms)}." if two else "",
        "b: sharpness (variance of the Laplacian) by set and class: line, 5th to 95th percentile; bar, 25th to 75th; "
        "dot, median.",
        told,
        "Whether sharpness causes the errors is not known: predictions of single images are not in these tables.",
    )
    return fig, wrong, text


def errors(results: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Shares of the unseen images of a class that are called another one: columns arm, called ("first": images of the
    first class called the second; "second": the reverse; "any": with more than two classes, all of them), mean, low,
    high, n over seeds. From recorded precision and recall of class 1, and the recorded numbers of images.
    """
    counts = images[(images["set"] == "unseen") & (images["measure"] == "count")].set_index("class")["value"]
    keys = ["arm", "seed", "client"]
    rows_of = results[results["metric"].isin(["unseen precision", "unseen recall"])]
    wide = rows_of.pivot_table(index=keys, columns="metric", values="value", sort=False)
    missed = 1 - wide["unseen recall"]
    shares = {"any": missed}
    if len(counts) == 2:
        hits = wide["unseen recall"] * counts.iloc[1]
        shares = {"first": hits * (1 / wide["unseen precision"] - 1) / counts.iloc[0], "second": missed}
    table = []
    for called, share in shares.items():
        for arm, values in share.groupby(["arm", "seed"], sort=False).mean().groupby("arm", sort=False):
            table.append({"arm": arm, "called": called, **stats.columns(stats.interval(values.to_numpy()))})
    return pd.DataFrame(table)


def _lopsided(wrong: pd.DataFrame) -> int:
    means = wrong.pivot(index="arm", columns="called", values="mean")
    return int((means["first"] > means["second"]).sum())


def _sharpness(axes: Axes, images: pd.DataFrame) -> str:
    """Draw the boxes. Returns the sentence about them: how often an image of one class is sharper."""
    sharp = images[images["measure"] == "sharpness"]
    classes, titles, chances = list(sharp["class"].unique()), [], []
    for row, part in enumerate(("train", "unseen")):
        for i, title in enumerate(classes):
            line = sharp[(sharp["set"] == part) & (sharp["class"] == title)]
            low, first, middle, third, high = np.interp(BOX, line["quantile"], line["value"])
            place, grey = row * (len(classes) + 0.6) + i, GREYS[i % len(GREYS)]
            axes.plot([low, high], [place, place], color=grey, linewidth=0.8)
            axes.plot([first, third], [place, place], color=grey, linewidth=4.5, solid_capstyle="butt")
            axes.plot(middle, place, "o", color=grey, markerfacecolor="white", markersize=4)
            titles.append((place, f"{SETS[part]}: {title}"))
        if len(classes) == 2:
            chances.append((part, sharper(images, part)[0]))
    axes.set(xscale="log", xlabel="sharpness, grey levels²")
    axes.set_yticks([place for place, _ in titles], [title for _, title in titles])
    axes.set_ylim(titles[-1][0] + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    for (_, chance), place in zip(chances, (0.5, 3.1), strict=False):
        axes.text(1.0, place, f"P = {chance:.2f}", ha="right", va="center", transform=axes.get_yaxis_transform())
    if not chances:
        return ""
    shares = " and ".join(f"{chance:.2f} in the {SETS[part]} set" for part, chance in chances)
    return f"P: probability that a “{classes[0]}” image is sharper than a “{classes[1]}” one, {shares}."
