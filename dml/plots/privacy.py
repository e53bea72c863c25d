"""The figures of notebook 03: membership, its controls, class balance, reconstruction, and what a defence costs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from dml.plots.style import COLOURS, DOUBLE, caption, drawn, figure, legend_above, percent, spread

VIEWS = {  # colour: the method; line and marker: who looks
    "weights": (COLOURS[1], "-", "o"),
    "weights, average": (COLOURS[1], "--", "s"),
    "weights, average - own": (COLOURS[1], ":", "D"),
    "partial weights": (COLOURS[2], "-", "^"),
    "partial weights, global": (COLOURS[2], "--", "v"),
    "losses": (COLOURS[0], "-", "P"),
    "sum of predictions": (COLOURS[0], "--", "X"),
    "sum of predictions - own": (COLOURS[0], ":", "h"),
}
DIALS = ("as trained", "overfit")
STRONGEST = "strongest"


@figure("03_roc", "privacy_curves")
def roc(curves: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """The strongest attack of every view on log axes, where the confident guesses are; as trained and overfit."""
    drawn = curves[curves["dial"].isin(DIALS)]
    fig = Figure(figsize=(DOUBLE, 3.1))
    for axes, dial in zip(fig.subplots(1, 2, sharex=True, sharey=True), DIALS, strict=True):
        curves_of_dial = drawn[drawn["dial"] == dial]
        for view, line in curves_of_dial.groupby("view", sort=False):
            colour, style, _ = VIEWS[view]
            axes.plot(line["fpr"], line["value"], color=colour, linestyle=style, label=view)
            if view in ("weights", "losses"):
                axes.fill_between(line["fpr"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
        axes.plot([1e-3, 1], [1e-3, 1], color="0.4", linestyle=(0, (4, 3)), linewidth=0.8)
        axes.axvline(0.01, color="0.6", linewidth=0.8)
        known = curves_of_dial.loc[curves_of_dial["value"].notna(), "fpr"]
        axes.set(xscale="log", yscale="log", xlim=(known.min(), 1), ylim=(known.min(), 1.02), title=dial)
        axes.set_xlabel("false positive rate")
    fig.axes[0].set_ylabel("true positive rate")
    legend_above(fig, fig.axes[0], columns=4)
    n = int(drawn["n"].max())
    caption(
        fig,
        f"{data}. Strongest attack of each view, chosen on the other half of the targets; n = {n} targets. Bands: 95 % "
        "over targets (weights, losses). Dashed: guessing. Grey line: 1 % false positives.",
    )
    return fig, drawn


@figure("03_membership", "privacy_rates")
def advantage(rates: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """What each view tells about membership: area under ROC of all candidates and of canaries, and TPR at 1 % FPR."""
    strongest = rates[(rates["attack"] == STRONGEST) & (rates["against"] == "members") & rates["view"].isin(VIEWS)]
    panels = {
        ("auc", "all"): "area under ROC",
        ("auc", "canaries"): "area under ROC, canaries",
        ("tpr", "all"): "TPR at 1 % FPR, %",
    }
    fig, drawn = Figure(figsize=(DOUBLE, 2.7)), []
    for axes, ((metric, kind), title) in zip(fig.subplots(1, 3, sharey=True), panels.items(), strict=True):
        for dial, shift, fill in (("overfit", 0.16, "none"), ("as trained", -0.16, None)):
            rows = strongest[
                (strongest["dial"] == dial) & (strongest["metric"] == metric) & (strongest["candidates"] == kind)
            ]
            for row in rows.itertuples():
                colour, _, marker = VIEWS[row.view]
                _interval(axes, row, list(VIEWS).index(row.view) + shift, colour, marker, fill)
            drawn.append(rows)
        axes.axvline(0.5 if metric == "auc" else 0.01, color="0.4", linestyle=(0, (4, 3)), linewidth=0.8)
        axes.set_title(title, fontsize=7.5)
        if metric == "tpr":
            percent(axes, "x")
    fig.axes[0].set_yticks(range(len(VIEWS)), VIEWS)
    fig.axes[0].invert_yaxis()
    n, trials = int(strongest["n"].max()), int(strongest["trials"].max())
    caption(
        fig,
        f"{data}. Strongest attack of each view; filled: as trained, hollow: the overfit control. 95 % over n = {n} "
        f"targets ({trials:,} trials). Dashed: guessing.",
    )
    return fig, pd.concat(drawn)


def _interval(axes: Axes, row, place: float, colour, marker: str, fill: str | None) -> None:
    error = spread(row.value, row.low, row.high)
    keys = {"color": colour, "marker": marker, "markerfacecolor": fill or colour, "markersize": 3.5}
    axes.errorbar(row.value, place, xerr=error, linestyle="", elinewidth=0.9, capsize=1.5, **keys)


@figure("03_controls", "privacy_rates")
def controls(rates: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Every attack on every view, as trained, next to controls that must be at chance."""
    kinds = {
        "members": (COLOURS[3], "o"),
        "wrong model": ("0.45", "s"),
        "untrained model": ("0.65", "D"),
        "no model": ("0.2", "v"),
    }
    rows = rates[(rates["dial"] == "as trained") & (rates["metric"] == "auc") & (rates["candidates"] == "all")]
    rows = rows[rows["view"].isin([*VIEWS, "pixels"])]
    attacks = [each for each in rows["attack"].unique() if each not in ("ridge", STRONGEST)]
    shown = [*(each for each in VIEWS if each in set(rows["view"])), "pixels"]
    fig = Figure(figsize=(DOUBLE, 3.0))
    for axes, attack in zip(fig.subplots(1, len(attacks), sharey=True, sharex=True), attacks, strict=True):
        rows_of_attack = rows[rows["attack"].isin([attack, "ridge"])]
        for row in rows_of_attack.itertuples():
            colour, marker = kinds[row.against]
            place = shown.index(row.view) + 0.2 * (list(kinds).index(row.against) % 3 - 1)
            _interval(axes, row, place, colour, marker, None)
        axes.axvline(0.5, color="0.4", linestyle=(0, (4, 3)), linewidth=0.8)
        axes.set_title(attack, fontsize=7)
        axes.set_xlabel("area under ROC", fontsize=6.5)
        axes.tick_params(axis="x", labelsize=6)
    fig.axes[0].set_yticks(range(len(shown)), shown)
    fig.axes[0].invert_yaxis()
    handles = [
        fig.axes[0].plot([], [], color=colour, marker=marker, linestyle="", label=kind)[0]
        for kind, (colour, marker) in kinds.items()
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(kinds))
    n = int(rows["n"].max())
    caption(fig, f"{data}, as trained. 95 % over n = {n} targets (FedMIA: clients). All but the first must be at 0.5.")
    return fig, rows


@figure("03_balance", "privacy_balance")
def balance(table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """A client's class balance, true against inferred from its messages, and the mean absolute error of the prior."""
    views = [
        view for view in ("weights", "partial weights", "losses", "sum of predictions") if view in set(table["view"])
    ]
    fig = Figure(figsize=(DOUBLE, 2.3))
    for axes, view in zip(fig.subplots(1, len(views), sharex=True, sharey=True), views, strict=True):
        rows = table[table["view"] == view]
        for round_index, some in rows.groupby("round"):
            axes.scatter(
                some["share"],
                some["inferred"],
                s=8,
                alpha=0.7,
                linewidth=0,
                color=COLOURS[round_index % 10],
                label=f"round {round_index}",
            )
        axes.plot([0, 1], [0, 1], color="0.4", linestyle=(0, (4, 3)), linewidth=0.8)
        error, prior = ((rows[name] - rows["share"]).abs().mean() for name in ("inferred", "prior"))
        axes.set_title(f"{view}\nerror {100 * error:.1f}, prior {100 * prior:.1f} points", fontsize=7)
        axes.set(xlim=(0.1, 0.9), ylim=(0.1, 0.9), xlabel="true share of class 1, %")
        percent(axes)
        percent(axes, "x")
    fig.axes[0].set_ylabel("inferred share, %")
    legend_above(fig, fig.axes[0])
    count = table["federation"].nunique()
    caption(
        fig,
        f"{data}. One dot a client and round; regression on the other {count - 1} of n = {count} federations. Error: "
        "mean absolute; prior: the mean share of the other federations.",
    )
    return fig, table


@figure("03_price", "privacy_price")
def price(table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Accuracy after the attacked round against what leaks: every method and view, with and without a defence."""
    shown = ("weights", "weights, average", "partial weights", "losses", "sum of predictions")
    shown_rows = table[table["dial"] != "overfit"].assign(
        plain=lambda frame: [view if view in VIEWS else view.split(", ")[0] for view in frame["view"]],
        defence=lambda frame: [
            dial if dial != "as trained" else "none" if pd.isna(name) else name
            for dial, name in zip(frame["dial"], frame["defence"].replace("", np.nan), strict=True)
        ],
    )
    shown_rows = shown_rows[shown_rows["plain"].isin(shown)]
    markers = dict(zip(shown_rows["defence"].unique(), "oDdv^pP*sXh<>", strict=False))
    colours = dict(zip(shown, (COLOURS[1], COLOURS[3], COLOURS[2], COLOURS[0], COLOURS[9]), strict=True))
    fig = Figure(figsize=(DOUBLE, 3.3))
    axes = fig.subplots()
    for row in shown_rows.itertuples():
        axes.errorbar(
            row.auc,
            row.accuracy,
            xerr=[[row.auc - row.auc_low], [row.auc_high - row.auc]],
            yerr=[[row.accuracy - row.accuracy_low], [row.accuracy_high - row.accuracy]],
            color=colours[row.plain],
            marker=markers[row.defence],
            markerfacecolor=colours[row.plain] if row.defence == "none" else "none",
            markersize=5,
            linestyle="",
            elinewidth=0.4,
        )
    axes.axvline(0.5, color="0.4", linestyle=(0, (4, 3)), linewidth=0.8)
    axes.set(xlabel="membership: area under ROC of the strongest attack", ylabel="accuracy, unseen sample, %")
    percent(axes)
    handles = [axes.plot([], [], color=colour, linewidth=3, label=view)[0] for view, colour in colours.items()]
    handles += [
        axes.plot([], [], color="0.3", marker=marker, markerfacecolor="none", linestyle="", label=defence)[0]
        for defence, marker in markers.items()
    ]
    fig.legend(handles=handles, loc="outside right upper")
    caption(
        fig,
        f"{data}, after one round. Filled: no defence. DP-SGD by noise multiplier (bounded); all other defences are "
        "heuristic. 95 % over federations (accuracy) and targets (leakage).",
    )
    return fig, shown_rows


@drawn
def reconstruction(pictures: Mapping[str, Tensor], table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """Private images and what each attack made of them: two random cases, and the best recovered image of all cases."""
    names = list(table["attack"].unique())
    fig = Figure(figsize=(DOUBLE, 0.8 * len(names) + 0.4))
    for row, name in zip(fig.subplots(len(names), 7, squeeze=False), names, strict=True):
        rows_of_attack = table[table["attack"] == name].assign(
            gain=lambda each: each["psnr"] - each["psnr of the mean"]
        )
        best = rows_of_attack.loc[[rows_of_attack["gain"].idxmax()]].assign(kind="best")
        shown = pd.concat([rows_of_attack[rows_of_attack["image"] == 0].head(2).assign(kind="random"), best])
        for place, each in zip((1, 3, 5), shown.itertuples(), strict=False):
            for axes, what in zip(row[place:], ("private", "recovered"), strict=False):
                axes.imshow(
                    pictures[f"{each.case}/{name}/{what}"][each.image].permute(1, 2, 0).numpy(), interpolation="none"
                )
            row[place].set_title(each.kind, fontsize=6, fontweight="normal", loc="center")
            text = f"{each.gain:+.1f} dB{' *' if each.recovered else ''}"
            row[place + 1].set_title(text, fontsize=6, fontweight="normal", loc="center")
        title = f"{name}\n({rows_of_attack['view'].iloc[0]})".replace(", ", ",\n")
        row[0].text(0, 0.5, title, fontsize=6, va="center", transform=row[0].transAxes)
        for axes in row:
            axes.set_axis_off()
    caption(
        fig,
        f"{data}. Pairs: private image, what was recovered. Random: the first image of a case; best: of all cases. dB: "
        "PSNR above the mean public image's; *: nearer than it and than every public image.",
    )
    return fig, table
