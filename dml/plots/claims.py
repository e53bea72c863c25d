"""The figures of notebook 09 beside the waterfall: the published run among ours, and many clients."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dml.evidence import many_clients as crowd
from dml.evidence import published
from dml.evidence.words import between
from dml.plots.looks import INK, dot, ink, look, name
from dml.plots.style import (
    BETTER,
    DOUBLE,
    INTERVAL,
    about,
    figure,
    legend_above,
    letters,
    percent,
    seeds_text,
)
from dml.studies.plan import plan


@figure("09_histories", "history", facts=("reported", "title"))
def histories(history: pd.DataFrame, reported: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Training accuracy by epoch, mean of the clients, one panel an arm, and over it, where there is one, the published
    history.
    """
    theirs, parts = published.history(), []
    theirs = theirs if len(reported) else theirs.iloc[:0]
    arms = {arm: source for arm, source in published.COUNTERPARTS.items() if arm in set(history["arm"]) - {"pooled"}}
    order = {"pretrain": 0, "local": 1, "public": 2, "global": 2}
    fig = Figure(figsize=(DOUBLE, 3.2))
    grid = fig.subplots(2, 2, sharex=True, sharey=True).ravel()
    for axes in grid[len(arms) :]:
        axes.set_visible(False)
    keys = ["round", "phase", "epoch"]
    for axes, (arm, source) in zip(grid, arms.items(), strict=False):
        ours = history[(history["arm"] == arm) & (history["epoch"] > 0)]
        ours = ours.groupby(["seed", *keys])["accuracy"].mean().reset_index()
        ours = ours.groupby(keys)["accuracy"].agg(["mean", "min", "max", "count"]).reset_index()
        of_arm = theirs[(theirs["arm"] == source) & (theirs["epoch"] > 0)].rename(columns={"accuracy": "published"})
        both = ours.merge(of_arm[[*keys, "published"]], how="left", on=keys)
        both = both.assign(order=both["phase"].map(order)).sort_values(["round", "order", "epoch"], ignore_index=True)
        both["step"] = np.arange(1, len(both) + 1)
        color = look(arm)["color"]
        for _, epochs in both[both["phase"] == "public"].groupby("round"):
            axes.axvspan(epochs["step"].min() - 0.5, epochs["step"].max() + 0.5, color="0.9", linewidth=0, zorder=0)
        axes.fill_between(both["step"], both["min"], both["max"], alpha=0.3, linewidth=0, color=color)
        axes.plot(both["step"], both["mean"], linewidth=0.7, color=color)
        if len(reported):
            axes.plot(both["step"], both["published"], color=INK, linestyle=(0, (3, 1.5)), linewidth=0.7)
        axes.set_title(f"{name(arm)} (n = {both['count'].max()})", color=ink(arm), fontweight="bold")
        parts.append(both.drop(columns="order").assign(arm=arm))
    grid[0].plot([], [], color="0.4", label="measured: mean, and range of the seeds")
    if len(reported):
        grid[0].plot([], [], color=INK, linestyle=(0, (3, 1.5)), linewidth=0.7, label="published, one seed")
    grid[0].fill_between([], [], color="0.9", label="epochs on the public fold")
    legend_above(fig, grid[0])
    letters(grid[: len(arms)], left=-3)
    for axes in fig.axes[2:]:
        axes.set_xlabel("epoch")
    for axes in fig.axes[::2]:
        axes.set_ylabel("training accuracy, %")
        percent(axes)
    text = about(
        data,
        f"Accuracy on a client's own training images, mean of the clients, {seeds_text(history)}.",
        "In epochs on the public fold, on grey, it is of that fold. Accuracy is comparable between arms, the loss is "
        "not: in DML it holds the peer term. The published DML run used the one-term form.",
    )
    return fig, pd.concat(parts), text


@figure("07_fresh", "clients")
def clients(table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Left: unseen accuracy of four arms against the number of clients. Right: DML minus each of the other three."""
    means, gains = crowd.accuracy(table), crowd.gains(table)
    counts = sorted(table["clients"].unique())
    fig = Figure(figsize=(DOUBLE, 2.3))
    left, right = fig.subplots(1, 2)
    right.axhspan(-plan().margin, plan().margin, color="0.93", zorder=0)
    right.axhline(0, color=INK, linewidth=0.7)
    for axes, some, names in ((left, means, "arm"), (right, gains, "against")):
        for place, arm in enumerate(crowd.STUDIED):
            of_arm = some[some[names] == arm]
            if len(of_arm):
                x = np.array([counts.index(count) for count in of_arm["clients"]]) + 0.13 * (place - 1.5)
                known = of_arm["low"].notna().all()
                error = [of_arm["mean"] - of_arm["low"], of_arm["high"] - of_arm["mean"]] if known else None
                keys = dot(arm) if axes is left else dot("dml") | {"marker": look(arm)["marker"]}
                axes.errorbar(x, of_arm["mean"], yerr=error, capsize=1.8, elinewidth=0.8, label=name(arm), **keys)
        axes.set_xticks(range(len(counts)), counts)
        axes.set_xlabel("clients K")
        percent(axes)
    left.set_ylabel(f"accuracy on unseen images, %\n{BETTER.strip()}")
    right.set_ylabel("DML minus the arm, pp\nDML better →")
    letters((left, right), left=-22)
    legend_above(fig, left)
    n = table.groupby(["arm", "clients"])["seed"].nunique()
    text = about(
        data,
        f"Accuracy on unseen images at the last round and DML's paired differences (in b the marker is that of the "
        f"arm DML is compared with), n = {between(n)} seeds for each K. Mean and {INTERVAL}.",
        "Folds keep their size: each client has as much data at every K. Grey: within half a point.",
    )
    return fig, pd.concat([means.assign(panel="accuracy"), gains.assign(panel="difference")]), text
