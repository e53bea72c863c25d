"""The figures of notebook 02 that compare arms at the last round, each from the run's results alone."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dml import stats
from dml.plots import rows
from dml.plots.looks import PUBLISHED, dot, look
from dml.plots.style import (
    BETTER,
    DOUBLE,
    INTERVAL,
    TEXT,
    WORSE,
    about,
    figure,
    letters,
    percent,
    seeds_text,
    spread,
)

FORMS = {"dml": "student\nfirst", "dml-peer-first": "peer\nfirst", "dml-one-term": "one\nterm"}
ONE_TERM = "dml-one-term"
CLAIMED = "← claimed for DML"
QUALITY = {  # metric: title, and which way is better
    "unseen precision": ("precision, %", BETTER),
    "unseen recall": ("recall, %", BETTER),
    "unseen auc": ("area under ROC, %", BETTER),
    "unseen log loss": ("log loss", WORSE),
    "unseen calibration error": ("calibration error, %", WORSE),
}
AGREEMENT = {
    "unseen disagreement": ("disagreement, %", CLAIMED),
    "gap": ("training − unseen accuracy, pp", CLAIMED),
    "validation accuracy": ("own validation images, %", BETTER),
}
LIFT = 0.33  # of a row: a star stands above the interval
NO_SHARES = ("unseen log loss",)


@figure("02_unseen_accuracy", "results", facts=("reported", "title"))
def unseen_accuracy(results: pd.DataFrame, reported: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Accuracy on the unseen set, one row an arm: every seed as a dot, mean and 95 % interval above, and the paper's
    own number as a star.
    """
    table = stats.per_seed(results, "unseen accuracy")
    summary = stats.summarise(results, "unseen accuracy")
    arms, theirs = list(summary["arm"]), reported.groupby("arm")["accuracy"].mean()
    if ONE_TERM in arms:  # what the published run of DML learned by
        theirs = theirs.rename({"dml": ONE_TERM})
    summary["reported"] = summary["arm"].map(theirs)
    fig = Figure(figsize=(TEXT, 0.55 + 0.2 * len(arms)))
    axes = fig.subplots()
    ends = summary[["mean", "low", "high", "reported"]].to_numpy().ravel()
    axes.set_xlim(*rows.reach([table[arm].to_numpy() for arm in arms], ends))
    hidden = 0
    for place, row in enumerate(summary.itertuples()):
        rows.seeds(axes, place, table[row.arm].to_numpy(), row.arm)
        rows.mean(axes, place, (row.mean, row.low, row.high), row.arm)
        hidden += rows.beyond(axes, place, table[row.arm].to_numpy(), row.arm)
        axes.text(1.01, place, f"{100 * row.mean:.1f}", va="center", transform=axes.get_yaxis_transform())
        if not np.isnan(row.reported):
            axes.plot(row.reported, place - LIFT, linestyle="", markersize=6, label="paper, one seed", **PUBLISHED)
    rows.names(axes, arms)
    axes.set_xlabel(f"accuracy on unseen images, last round, %{BETTER}")
    percent(axes, "x")
    if shown := axes.get_legend_handles_labels()[0]:
        axes.legend(shown[:1], ["paper, one seed"], loc="lower left")
    text = about(
        data,
        f"Accuracy on unseen images at the last round, {seeds_text(results)}.",
        f"Dots: one seed, mean of its clients; marker: mean and {INTERVAL} over seeds; number: mean.",
        "Star: the paper's reported accuracy, one seed; its DML is the one-term form." if shown else "",
        rows.beyond_text(hidden),
    )
    return fig, summary.merge(table.T.add_prefix("seed ").reset_index(), on="arm"), text


@figure("02_quality", "results", facts=("positive", "title"))
def quality(results: pd.DataFrame, positive: str, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Precision, recall, area under ROC, log loss and calibration error on the unseen set, one row an arm."""
    present = {metric: titles for metric, titles in QUALITY.items() if metric in set(results["metric"])}
    meaning = f"Precision and recall: of {positive}, or the mean over more than two classes."
    return _panels(results, present, data, "Quality of the predictions on unseen images, last round", meaning)


@figure("02_agreement", "results")
def agreement(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Claim C2, one row an arm: how often clients disagree on unseen images, and the gap from their own training images
    to unseen ones; beside it accuracy on their own validation images, which is no part of the claim.
    """
    both = pd.concat([results, stats.gaps(results)])
    more = "FedAvg's clients are one model and cannot disagree. c is no part of claim C2."
    return _panels(both, AGREEMENT, data, "Agreement between clients and the gap to unseen images, last round", more)


def _panels(results: pd.DataFrame, titles: dict[str, tuple[str, str]], data: str, what: str, more: str):
    table = pd.concat(stats.summarise(results, metric).assign(metric=metric) for metric in titles)
    arms = [arm for arm in results["arm"].unique() if arm in set(table["arm"])]
    fig = Figure(figsize=(DOUBLE, 0.6 + 0.19 * len(arms)))
    grid, hidden = fig.subplots(1, len(titles), sharey=True), 0
    for axes, (metric, (title, way)) in zip(grid, titles.items(), strict=True):
        values, summary = stats.per_seed(results, metric), table[table["metric"] == metric]
        low, high = rows.reach(
            [values[arm].to_numpy() for arm in values], summary[["mean", "low", "high"]].to_numpy().ravel()
        )
        share = metric not in (*NO_SHARES, "gap")
        axes.set_xlim(max(low, -0.01) if share else low, min(high, 1.01) if share else high)
        for row in summary.itertuples():
            place = arms.index(row.arm)
            rows.seeds(axes, place, values[row.arm].to_numpy(), row.arm)
            rows.mean(axes, place, (row.mean, row.low, row.high), row.arm)
            hidden += rows.beyond(axes, place, values[row.arm].to_numpy(), row.arm)
        axes.set_xlabel(f"{title}\n{way.strip()}")
        if metric not in NO_SHARES:
            percent(axes, "x")
        rows.names(axes, arms)
    letters(grid, left=-3)
    lines = f"Dots: one seed, mean of its clients; marker: mean and {INTERVAL} over seeds."
    return fig, table, about(data, f"{what}, {seeds_text(results)}.", lines, more, rows.beyond_text(hidden))


@figure("02_kl_forms", "results", facts=("positive", "title"))
def kl_forms(results: pd.DataFrame, positive: str, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """The three forms of the peer term side by side, seeds joined by lines: accuracy, precision, recall,
    calibration.
    """
    titles = {
        "unseen accuracy": "accuracy",
        "unseen recall": "recall",
        "unseen precision": "precision",
        "unseen calibration error": "calibration error",
    }
    fig = Figure(figsize=(DOUBLE, 1.75))
    parts, panels = [], fig.subplots(1, 4)
    for axes, (metric, title) in zip(panels, titles.items(), strict=True):
        table = stats.per_seed(results, metric)
        forms = [form for form in FORMS if form in table]
        axes.plot(range(len(forms)), table[forms].T, color="0.8", linewidth=0.6, zorder=1)
        for place, form in enumerate(forms):
            axes.scatter(np.full(len(table), place), table[form], s=6, color=look(form)["color"], linewidth=0)
            one = stats.interval(table[form].to_numpy())
            error = spread(one.mean, one.low, one.high)
            axes.errorbar(place + 0.2, one.mean, yerr=error, **dot(form), markersize=4.5, capsize=1.8, elinewidth=0.9)
            parts.append(
                {"metric": metric, "arm": form, **stats.columns(one)} | table[form].add_prefix("seed ").to_dict()
            )
        axes.set_xticks(range(len(forms)), [FORMS[form] for form in forms])
        axes.set_xlim(-0.5, len(forms) - 0.4)
        axes.set_ylabel(f"{title}, %\n{(WORSE if 'error' in title else BETTER).strip()}")
        percent(axes)
    letters(panels, left=-14)
    text = about(
        data,
        f"The three forms of the peer term on unseen images, last round, {seeds_text(results)}.",
        "Student first: the paper's equation; peer first: Zhang et al. 2018; one term: the author's code.",
        f"Lines join one seed; large marker: mean and {INTERVAL} over seeds.",
        f"Precision and recall: of {positive}.",
    )
    return fig, pd.DataFrame(parts), text
