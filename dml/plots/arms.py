"""The figures of notebook 02 that compare arms, each from the run's results alone."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml import stats
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

FORMS = {"dml": "student\nfirst", "dml-peer-first": "peer\nfirst", "dml-one-term": "one\nterm"}
QUALITY = {
    "unseen precision": "precision",
    "unseen recall": "recall",
    "unseen auc": "area under ROC",
    "unseen calibration error": "calibration error",
}


@figure("02_unseen_accuracy", "results", facts=("reported", "title"))
def unseen_accuracy(results: pd.DataFrame, reported: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Accuracy on the unseen set: every seed (mean of its clients), mean and 95 % interval, reported number dashed."""
    table = stats.per_seed(results, "unseen accuracy")
    summary = stats.summarise(results, "unseen accuracy")
    summary["reported"] = summary["arm"].map(reported.groupby("arm")["accuracy"].mean())
    fig = Figure(figsize=(DOUBLE, 2.9))
    axes = fig.subplots()
    for place, row in enumerate(summary.itertuples()):
        look = LOOKS[row.arm]
        axes.scatter(_spread(place, len(table)), table[row.arm], s=9, color=look["color"], alpha=0.6, linewidth=0)
        _interval(axes, place + 0.28, row, look)
        axes.text(place, 1.01, f"{100 * row.mean:.1f}", ha="center", fontsize=7, transform=axes.get_xaxis_transform())
        if not np.isnan(row.reported):
            axes.hlines(row.reported, place - 0.4, place + 0.4, **REPORTED, label="reported (paper, one seed)")
    axes.set_xticks(range(len(summary)), summary["arm"], rotation=25, ha="right", rotation_mode="anchor")
    axes.set_ylabel("unseen accuracy, %")
    percent(axes)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[:1], names[:1], loc="lower right")
    caption(
        fig,
        f"{data}, {seeds_text(results)}. Small dots: one seed each, mean of its clients; "
        f"bar and number on top: mean and {INTERVAL}.",
    )
    return fig, summary.merge(table.T.add_prefix("seed ").reset_index(), on="arm")


def _spread(place: float, count: int) -> np.ndarray:
    return place + (np.linspace(-0.2, 0.1, count) if count > 1 else np.zeros(1) - 0.05)


def _interval(axes: Axes, place: float, row, look: dict, horizontal: bool = False) -> None:
    error = spread(row.mean, row.low, row.high)
    keys = {"color": look["color"], "marker": look["marker"], "capsize": 2, "elinewidth": 1}
    if horizontal:
        axes.errorbar(row.mean, place, xerr=error, linestyle="", **keys)
    else:
        axes.errorbar(place, row.mean, yerr=error, linestyle="", **keys)


@figure("02_client_accuracy", "results", facts=("reported", "title"))
def client_accuracy(results: pd.DataFrame, reported: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """The paper's own comparison: accuracy on the unseen set by client and arm; reported values as grey dashes."""
    arms = [arm for arm in ("fedavg", "asynchronous", "dml") if arm in set(results["arm"])]
    rows = results[(results["metric"] == "unseen accuracy") & results["arm"].isin(arms)]
    table = rows.groupby(["arm", "client"], sort=False)["value"].agg(["mean", "min", "max", "count"]).reset_index()
    table = table.merge(reported.rename(columns={"accuracy": "reported"}), how="left", on=["arm", "client"])
    fig = Figure(figsize=(DOUBLE, 2.3))
    axes = fig.subplots()
    for i, arm in enumerate(arms):
        rows_of_arm = table[table["arm"] == arm]
        x = rows_of_arm["client"] + (i - 1) * 0.22
        error = [rows_of_arm["mean"] - rows_of_arm["min"], rows_of_arm["max"] - rows_of_arm["mean"]]
        look = {key: LOOKS[arm][key] for key in ("color", "marker")}
        axes.errorbar(x, rows_of_arm["mean"], yerr=error, linestyle="", capsize=2, elinewidth=0.8, label=arm, **look)
        if rows_of_arm["reported"].notna().any():
            axes.hlines(rows_of_arm["reported"], x - 0.1, x + 0.1, **REPORTED, label="reported" if i == 0 else "")
    clients = sorted(table["client"].unique())
    axes.set_xticks(clients, [f"client {client}" for client in clients])
    axes.set_ylabel("unseen accuracy, %")
    percent(axes)
    legend_above(fig, axes, columns=4)
    dashed = "" if reported.empty else " Dashed: the paper (one seed)."
    caption(fig, f"{data}, {seeds_text(results)}. Marker: mean over seeds, bar: their range.{dashed}")
    return fig, table


@figure("02_paired_differences", "results")
def paired_differences(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Unseen accuracy of every arm minus FedAvg's (left) and minus local+public's (right), paired over seeds."""
    fig = Figure(figsize=(DOUBLE, 2.7))
    panels, tables = fig.subplots(1, 2, sharey=False), []
    for axes, against in zip(panels, ("fedavg", "local+public"), strict=True):
        table, values = (
            stats.compare(results, "unseen accuracy", against, plan().margin),
            stats.per_seed(results, "unseen accuracy"),
        )
        for place, row in enumerate(table.itertuples()):
            look, differences = LOOKS[row.arm], values[row.arm] - values[against]
            axes.scatter(
                differences, np.full(len(differences), place + 0.22), s=8, color=look["color"], alpha=0.6, linewidth=0
            )
            _interval(axes, place, row, look, horizontal=True)
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set_yticks(range(len(table)), table["arm"])
        axes.invert_yaxis()
        axes.set_title(f"minus {against}")
        axes.set_xlabel("difference, percentage points")
        percent(axes, "x")
        tables.append(table)
    caption(
        fig,
        f"{data}, {seeds_text(results)}, paired. Small dots: one seed each; marker: mean and {INTERVAL}.",
    )
    return fig, pd.concat(tables)


@figure("02_quality", "results")
def quality(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Precision, recall, area under ROC and calibration error on the unseen set, every arm."""
    present = {metric: title for metric, title in QUALITY.items() if metric in set(results["metric"])}
    table = pd.concat(stats.summarise(results, metric).assign(metric=metric) for metric in present)
    return _panels(
        results,
        table,
        present,
        f"{data}, {seeds_text(results)}. Mean of the clients; {INTERVAL}. "
        "Precision and recall: of class 1, or the mean over more than two classes.",
    )


@figure("02_agreement", "results")
def agreement(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Claim C2: how often clients disagree on unseen images, and the gap from their own images to unseen ones."""
    both = pd.concat([results, stats.gaps(results)])
    titles = {
        "unseen disagreement": "disagreement between clients",
        "gap": "own training - unseen accuracy",
        "validation accuracy": "accuracy, own validation images",
    }
    table = pd.concat(stats.summarise(both, metric).assign(metric=metric) for metric in titles)
    text = f"{data}, {seeds_text(results)}. Mean of the clients; {INTERVAL}. FedAvg's clients are one model."
    return _panels(both, table, titles, text)


def _panels(results: pd.DataFrame, table: pd.DataFrame, titles: dict[str, str], text: str):
    arms = [arm for arm in results["arm"].unique() if arm in set(table["arm"])]
    fig = Figure(figsize=(DOUBLE, 0.55 + 0.2 * len(arms)))
    grid = fig.subplots(1, len(titles), sharey=True)
    for axes, (metric, title) in zip(grid, titles.items(), strict=True):
        values = stats.per_seed(results, metric)
        for row in table[table["metric"] == metric].itertuples():
            place, look = arms.index(row.arm), LOOKS[row.arm]
            axes.scatter(
                values[row.arm], np.full(len(values), place + 0.25), s=7, color=look["color"], alpha=0.6, linewidth=0
            )
            _interval(axes, place, row, look, horizontal=True)
        left, right = axes.get_xlim()
        axes.set_xlim(left if metric == "gap" else max(left, -0.01), min(right, 1.01))  # Student's can leave [0, 1]
        axes.set_title(title, fontsize=7)
        axes.set_xlabel("%")
        percent(axes, "x")
    grid[0].set_yticks(range(len(arms)), arms)
    grid[0].invert_yaxis()
    caption(fig, text)
    return fig, table


@figure("02_kl_forms", "results")
def kl_forms(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """The three forms of the peer term side by side, seeds joined: accuracy, precision, recall, calibration."""
    titles = {
        "unseen accuracy": "accuracy",
        "unseen recall": "recall",
        "unseen precision": "precision",
        "unseen calibration error": "calibration error",
    }
    fig = Figure(figsize=(DOUBLE, 2.1))
    parts = []
    for axes, (metric, title) in zip(fig.subplots(1, 4), titles.items(), strict=True):
        table = stats.per_seed(results, metric)
        forms = [form for form in FORMS if form in table]
        axes.plot(range(len(forms)), table[forms].T, color="0.75", linewidth=0.7, zorder=1)
        for place, form in enumerate(forms):
            look = LOOKS[form]
            axes.scatter(np.full(len(table), place), table[form], s=10, color=look["color"], alpha=0.7, linewidth=0)
            axes.plot(place, table[form].mean(), color=look["color"], marker=look["marker"], markersize=6)
        axes.set_xticks(range(len(forms)), [FORMS[form] for form in forms])
        axes.set_xlim(-0.5, len(forms) - 0.5)
        axes.set_title(f"{title}, %", fontsize=7.5)
        percent(axes)
        parts.append(table[forms].melt(ignore_index=False).reset_index().assign(metric=metric))
    caption(
        fig,
        f"{data}, {seeds_text(results)}. Lines join one seed; large marker: mean. "
        "Precision and recall: of class 1. "
        "Student first: the paper's equation; peer first: Zhang 2018; one term: the author's code.",
    )
    return fig, pd.concat(parts)
