"""The figures of notebook 09: where DML's gain comes from, what one seed hides, and the published run among ours."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml import stats
from dml.evidence import many_clients as crowd
from dml.evidence import published
from dml.plots.style import (
    DOUBLE,
    INTERVAL,
    LOOKS,
    REPORTED,
    caption,
    figure,
    legend_above,
    percent,
    seeds_text,
    spread,
)
from dml.studies.plan import plan

STEPS = (  # arm, less that arm, and what the difference is
    ("local+public", "local", "labels and steps:\nlocal+public − local"),
    ("self", "local+public", "held to frozen predictions:\nself − local+public"),
    ("dml", "self", "the peers:\ndml − self"),
    ("dml", "local", "all three:\ndml − local"),
    ("fedavg", "local", "averaging weights:\nfedavg − local"),
)


@figure("09_story", "results")
def story(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """How much of DML's gain is labels and steps, how much is being held to predictions, how much is peers."""
    values, rows = stats.per_seed(results, "unseen accuracy"), []
    fig = Figure(figsize=(DOUBLE, 2.9))
    axes = fig.subplots()
    axes.axvspan(-plan().margin, plan().margin, color="0.93", zorder=0)
    for place, (arm, less, title) in enumerate(STEPS):
        differences = (values[arm] - values[less]).to_numpy()
        estimate = stats.paired(values[arm].to_numpy(), values[less].to_numpy(), plan().margin)
        rows.append({"step": title.partition(":")[0], "arm": arm, "minus": less, **stats.compared(estimate)})
        _dots_and_interval(axes, place, differences, estimate, arm)
        axes.text(1.01, place, _words(estimate), va="center", fontsize=6.5, transform=axes.get_yaxis_transform())
    for edge in (2.5, 3.5):
        axes.axhline(edge, color="0.8", linewidth=0.6)
    axes.set_yticks(range(len(STEPS)), [title for *_, title in STEPS])
    axes.set_ylim(len(STEPS) - 0.4, -0.6)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel("difference in unseen accuracy, percentage points")
    percent(axes, "x")
    caption(
        fig,
        f"{data}, {seeds_text(results)}, paired. Small dots: one seed each; marker, text: mean and {INTERVAL}. "
        "The first three add up to the fourth. Grey: less than half a point.",
    )
    return fig, pd.DataFrame(rows)


def _dots_and_interval(axes: Axes, place: float, differences: np.ndarray, estimate: stats.Difference, arm: str) -> None:
    color, marker = LOOKS[arm]["color"], LOOKS[arm]["marker"]
    axes.scatter(differences, np.full(len(differences), place + 0.25), s=8, color=color, alpha=0.6, linewidth=0)
    error = spread(estimate.mean, estimate.low, estimate.high)
    axes.errorbar(estimate.mean, place, xerr=error, color=color, marker=marker, linestyle="", capsize=2, elinewidth=1)


def _words(estimate: stats.Estimate) -> str:
    span = "" if np.isnan(estimate.low) else f"\n[{100 * estimate.low:+.2f}, {100 * estimate.high:+.2f}]"
    return f"{100 * estimate.mean:+.2f}{span}"


@figure("09_one_seed", "results")
def one_seed(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """What one seed would have shown: DML minus FedAvg and minus the asynchronous arm, seed by seed, and the published
    gaps.
    """
    values, table = stats.per_seed(results, "unseen accuracy"), published.one_seed(results)
    fig = Figure(figsize=(DOUBLE, 2.3))
    for axes, row in zip(fig.subplots(1, 2), table.itertuples(), strict=True):
        differences = np.sort((values["dml"] - values[row.against]).to_numpy())
        look = LOOKS[row.against]
        axes.scatter(differences, np.arange(1, len(differences) + 1), s=12, color=look["color"], marker=look["marker"])
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.axvline(row.published, **REPORTED, label="published gap (one seed)")
        axes.axvspan(row.low, row.high, color=look["color"], alpha=0.12, linewidth=0, label="one more seed, 95 %")
        axes.set_ylim(0, len(differences) + 1)
        axes.set_title(f"dml − {row.against}: {row.reached} of {row.n} reach it", fontsize=7.5)
        axes.set_xlabel("difference in unseen accuracy, percentage points")
        percent(axes, "x")
    fig.axes[0].set_ylabel("seeds, sorted")
    legend_above(fig, fig.axes[0])
    caption(
        fig,
        f"{data}, {seeds_text(results)}, paired. One marker a seed; how many reach the "
        "published gap, which is of the paper's own images and protocol. Shaded: Student's 95 % prediction interval.",
    )
    return fig, table


@figure("09_histories", "history", facts=("reported", "title"))
def histories(history: pd.DataFrame, reported: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Training accuracy by epoch, mean of the clients, and over it, where `reported`, the published histories."""
    theirs, parts = published.history(), []
    theirs = theirs if len(reported) else theirs.iloc[:0]
    arms = {arm: source for arm, source in published.COUNTERPARTS.items() if arm in set(history["arm"]) - {"pooled"}}
    order = {"pretrain": 0, "local": 1, "public": 2, "global": 2}
    fig = Figure(figsize=(DOUBLE, 3.6))
    grid = fig.subplots(2, 2, sharex=True, sharey=True).ravel()
    for axes in grid[len(arms) :]:
        axes.set_visible(False)
    for axes, (arm, source) in zip(grid, arms.items(), strict=False):
        ours = history[(history["arm"] == arm) & (history["epoch"] > 0)]
        ours = ours.groupby(["seed", "round", "phase", "epoch"])["accuracy"].mean().reset_index()
        ours = ours.groupby(["round", "phase", "epoch"])["accuracy"].agg(["mean", "min", "max"]).reset_index()
        published_rows = theirs[(theirs["arm"] == source) & (theirs["epoch"] > 0)].rename(
            columns={"accuracy": "published"}
        )
        both = ours.merge(
            published_rows[["round", "phase", "epoch", "published"]], how="left", on=["round", "phase", "epoch"]
        )
        both = both.assign(order=both["phase"].map(order)).sort_values(["round", "order", "epoch"], ignore_index=True)
        both["step"] = np.arange(1, len(both) + 1)
        color = LOOKS[arm]["color"]
        axes.fill_between(both["step"], both["min"], both["max"], alpha=0.25, linewidth=0, color=color)
        axes.plot(both["step"], both["mean"], linewidth=0.8, label="measured: mean, range of seeds", color=color)
        if len(reported):
            axes.plot(
                both["step"], both["published"], **(REPORTED | {"color": "0.2", "linewidth": 0.7}), label="published"
            )
        axes.set_title(arm)
        axes.legend(loc="lower right")
        parts.append(both.drop(columns="order").assign(arm=arm))
    for axes in fig.axes[2:]:
        axes.set_xlabel("epoch")
    for axes in fig.axes[::2]:
        axes.set_ylabel("training accuracy, %")
        percent(axes)
    caption(
        fig,
        f"{data}, {seeds_text(history)}. Mean of the clients. Published: one seed, for its own protocol and images "
        "only; its DML used the one-term form.",
    )
    return fig, pd.concat(parts)


@figure("09_clients", "clients")
def clients(table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Unseen accuracy against the number of clients, and DML's differences to the other arms."""
    means, gains = crowd.accuracy(table), crowd.gains(table)
    counts = sorted(table["clients"].unique())
    fig = Figure(figsize=(DOUBLE, 2.5))
    left, right = fig.subplots(1, 2)
    left.set(title="unseen accuracy", ylabel="unseen accuracy, %")
    right.set(title="dml minus …", ylabel="difference, points")
    right.axhspan(-plan().margin, plan().margin, color="0.93", zorder=0)
    right.axhline(0, color="0.3", linewidth=0.8)
    for axes, rows, names in ((left, means, "arm"), (right, gains, "against")):
        for place, arm in enumerate(crowd.STUDIED):
            rows_of_arm = rows[rows[names] == arm]
            if len(rows_of_arm):
                x = np.array([counts.index(count) for count in rows_of_arm["clients"]]) + 0.1 * (place - 1.5)
                error = (
                    [rows_of_arm["mean"] - rows_of_arm["low"], rows_of_arm["high"] - rows_of_arm["mean"]]
                    if rows_of_arm["low"].notna().all()
                    else None
                )
                axes.errorbar(x, rows_of_arm["mean"], yerr=error, capsize=2, elinewidth=0.8, label=arm, **LOOKS[arm])
        axes.set_xticks(range(len(counts)), counts)
        axes.set_xlabel("clients K")
        percent(axes)
    legend_above(fig, left)
    caption(
        fig,
        f"{data}, {seeds_text(table)}, paired. Mean and {INTERVAL}. Folds "
        "keep their size: each client has as much data at every K. Grey: less than half a point.",
    )
    return fig, pd.concat([means.assign(panel="accuracy"), gains.assign(panel="difference")])
