"""The figure of notebook 02 that follows training: accuracy on unseen images, round by round."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dml import stats
from dml.plots.looks import ink, look, name
from dml.plots.style import BETTER, DOUBLE, INTERVAL, about, figure, letters, percent

METRIC, COLUMNS = "unseen sample accuracy", 3


@figure("02_learning", "results")
def learning(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Learning curves, one small panel an arm: mean accuracy after every round with a band, the other arms in grey."""
    table = _curves(results)
    arms = list(table["arm"].unique())
    lines = -(-len(arms) // COLUMNS)
    fig = Figure(figsize=(DOUBLE, 1.15 * lines + 0.25))
    grid = fig.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, arm in zip(grid, arms, strict=False):
        for _, other in table.groupby("arm"):
            axes.plot(other["round"], other["mean"], color="0.85", linewidth=0.7, zorder=1)
        line, keys = table[table["arm"] == arm], look(arm)
        axes.fill_between(line["round"], line["low"], line["high"], color=keys["color"], alpha=0.22, linewidth=0)
        axes.plot(line["round"], line["mean"], color=keys["color"], marker=keys["marker"], markersize=3)
        axes.set_title(f"{name(arm)} (n = {line['n'].max()})", color=ink(arm), fontweight="bold")
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    for axes in grid[len(arms) :]:
        axes.set_visible(False)
    means = table["mean"]
    floor = max(means.min() - 0.03, 0)
    grid[0].set_ylim(floor, min(table[["mean", "high"]].max(axis=None) + 0.01, 1))
    percent(grid[0])
    for axes in grid[max(len(arms) - COLUMNS, 0) : len(arms)]:
        axes.set_xlabel("round")
        axes.tick_params(labelbottom=True)
    grid[COLUMNS * (lines // 2)].set_ylabel(f"accuracy on unseen images, %{BETTER}")
    letters(list(grid[: len(arms)]), left=-3)
    text = about(
        data,
        "Accuracy after every round on a fixed sample of the unseen images, which was followed to report and never to "
        "choose.",
        "Line: mean over seeds of the mean over clients; n seeds are in each title, since some arms were followed in "
        "fewer of them.",
        f"Band: {INTERVAL} of the mean." if table["n"].max() > 1 else "",
        f"{cut} points of bands lie below the panels." if (cut := int((table["low"] < floor).sum())) else "",
        "Grey: the means of all other arms. Partial-weight FL exchanges its deep layers in every third round only.",
    )
    return fig, table, text


def _curves(results: pd.DataFrame) -> pd.DataFrame:
    """Columns arm, round, mean, low, high, n of the accuracy on the sample; n counts seeds."""
    clients = results[results["metric"] == METRIC]
    seeds = clients.groupby(["arm", "round", "seed"], sort=False)["value"].mean()
    points = seeds.groupby(["arm", "round"], sort=False)
    return pd.DataFrame(
        {"arm": arm, "round": at, **stats.columns(stats.interval(values.to_numpy()))} for (arm, at), values in points
    )
