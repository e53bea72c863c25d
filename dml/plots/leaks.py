"""The figures of notebook 03 beyond membership: class balance, reconstruction, and what a defence costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from dml.evidence.privacy import SSIM, clearly
from dml.evidence.words import between
from dml.plots.looks import dot, signed
from dml.plots.privacy import GUESS, SHOWN_VIEWS, VIEWS
from dml.plots.style import BETTER, DOUBLE, SMALLEST, about, drawn, figure, legend_above, letters, percent, spread

BALANCES = ("weights", "partial weights", "losses", "sum of predictions")
PRICED = ("weights", "partial weights", "losses")  # what a server sees


@figure("03_balance", "privacy_balance", facts=("positive", "title"))
def balance(table: pd.DataFrame, positive: str, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """One panel a view and one dot a client and round: a client's true share of a class against what was inferred from
    its messages; on the dashed line both are equal.
    """
    views = [view for view in BALANCES if view in set(table["view"])]
    table = table[table["view"].isin(views)]
    fig = Figure(figsize=(DOUBLE, 2.2))
    panels, told = fig.subplots(1, len(views), sharex=True, sharey=True), []
    rounds = sorted(table["round"].unique())
    for axes, view in zip(panels, views, strict=True):
        rows = table[table["view"] == view]
        for i, (round_index, some) in enumerate(rows.groupby("round")):
            grey = str(0.75 - 0.6 * i / max(len(rounds) - 1, 1))
            axes.scatter(some["share"], some["inferred"], s=5, linewidth=0, color=grey, label=f"round {round_index}")
        axes.plot([0, 1], [0, 1], **GUESS)
        error, prior = ((rows[column] - rows["share"]).abs().mean() for column in ("inferred", "prior"))
        shown = SHOWN_VIEWS[view].replace(": ", ":\n")
        axes.set_title(f"{shown}\nerror {100 * error:.1f} pp (guess {100 * prior:.1f})")
        told.append(f"{SHOWN_VIEWS[view]} {100 * error:.1f} against {100 * prior:.1f}")
        axes.set(xlim=(0.1, 0.9), ylim=(0.1, 0.9), xlabel=f"true share of {positive}, %")
        percent(axes)
        percent(axes, "x")
    panels[0].set_ylabel("inferred share, %")
    legend_above(fig, panels[0])
    letters(panels, left=-3)
    count = table["federation"].nunique()
    text = about(
        data,
        "Mean error of the inferred share, in points, against that of the best guess without messages: "
        f"{'; '.join(told)}.",
        f"A dot is a client in a round, n = {count} federations; inferred by a regression on the other {count - 1}; "
        "the guess is their mean share.",
    )
    return fig, table, text


@figure("03_price", "privacy_price")
def price(table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """One row a defence, grouped by what the server sees: left, how well members are told after it, right, the accuracy
    that is left; hollow markers are defences, filled ones none.
    """
    rows = (
        table[table["dial"] != "overfit"].assign(plain=lambda some: some["view"].map(_plain)).dropna(subset=["plain"])
    )
    rows = rows.assign(order=rows["plain"].map(PRICED.index)).sort_values("order", kind="stable", ignore_index=True)
    fig = Figure(figsize=(DOUBLE, 0.7 + 0.16 * len(rows)))
    left, right = fig.subplots(1, 2, sharey=True)
    places = np.arange(len(rows)) + 0.6 * rows["order"].to_numpy()
    for place, row in zip(places, rows.itertuples(), strict=True):
        keys: dict[str, Any] = {**dot(VIEWS[row.plain]), "capsize": 1.8, "elinewidth": 0.9}
        if row.dial != "as trained" or _named(row.defence):
            keys["markerfacecolor"] = "white"
        left.errorbar(row.auc, place, xerr=spread(row.auc, row.auc_low, row.auc_high), **keys)
        right.errorbar(row.accuracy, place, xerr=spread(row.accuracy, row.accuracy_low, row.accuracy_high), **keys)
    left.set_yticks(places, [f"{_defence(row)}, n = {row.n:.0f}" for row in rows.itertuples()], fontsize=SMALLEST)
    left.set_ylim(places[-1] + 0.6, -0.6)
    for order, some in rows.groupby("order"):
        title = SHOWN_VIEWS[PRICED[order]]
        middle = places[some.index].mean()
        keys = {"rotation": 90, "ha": "center", "va": "center", "color": dot(VIEWS[PRICED[order]])["color"]}
        right.text(
            1.04, middle, title.replace(": ", ":\n"), transform=right.get_yaxis_transform(), fontsize=SMALLEST, **keys
        )
    left.axvline(0.5, **GUESS)
    left.set_xlabel("← more private   membership AUC, strongest attack")
    right.set_xlabel(f"accuracy after the attacked round, %{BETTER}")
    percent(right, "x")
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
    letters((left, right), left=-6)
    counts = ", ".join(f"{n:.0f}" for n in sorted(rows["n"].unique(), reverse=True))
    text = about(
        data,
        f"What a server learns after a defence, and what accuracy is left. n = {counts} federations with a target in "
        "each, by row: rows of different n are other federations and are not paired, so a higher accuracy under a "
        "defence is not its effect. Filled: no defence.",
        "DP-SGD: ε by row, at the δ of notebook 03; all other defences are heuristic and bound nothing. 95 % over "
        "targets (a) and over federations (b); accuracy on a sample of the unseen images.",
    )
    return fig, rows.drop(columns="order"), text


def _plain(view: str) -> str | None:
    """The view that a defended one is of; None where it is none of a server."""
    stem, _, defence = view.partition(", ")
    if defence in ("average", "average - own", "global"):
        return None
    return stem if stem in PRICED else None


def _named(defence: object) -> bool:
    return isinstance(defence, str) and bool(defence)


def _defence(row) -> str:
    if row.dial.startswith("DP-SGD"):
        return f"DP-SGD, ε = {row.epsilon:,.3g}" if row.epsilon < 1000 else f"DP-SGD, ε = {row.epsilon:,.0f}"
    return row.defence if _named(row.defence) else "none"


@drawn
def reconstruction(pictures: Mapping[str, Tensor], table: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Pairs of a private image and what an attack made of it, one row an attack: two random cases, and the best
    recovered image of all cases.
    """
    table = table.assign(clearly=clearly(table))
    names = list(table["attack"].unique())
    fig = Figure(figsize=(DOUBLE, 0.8 * len(names) + 0.2))
    for row, name in zip(fig.subplots(len(names), 7, squeeze=False), names, strict=True):
        of_attack = table[table["attack"] == name].assign(gain=lambda some: some["psnr"] - some["psnr of the mean"])
        best = of_attack.loc[[of_attack["gain"].idxmax()]].assign(kind="best")
        shown = pd.concat([of_attack[of_attack["image"] == 0].head(2).assign(kind="random"), best])
        for place, case in zip((1, 3, 5), shown.itertuples(), strict=False):
            for axes, what in zip(row[place:], ("private", "recovered"), strict=False):
                picture = pictures[f"{case.case}/{name}/{what}"][case.image]
                axes.imshow(picture.permute(1, 2, 0).numpy(), interpolation="none")
            row[place].set_title(case.kind, fontsize=SMALLEST, loc="center")
            gain = signed(case.gain, "+.1f") if abs(case.gain) >= 0.05 else "0.0"
            text = f"{gain} dB{' *' if case.clearly else ''}"
            row[place + 1].set_title(text, fontsize=SMALLEST, loc="center")
        title = f"{name}\n({of_attack['view'].iloc[0]})".replace(", ", ",\n")
        row[0].text(0, 0.5, title, fontsize=SMALLEST, va="center", transform=row[0].transAxes)
        for axes in row:
            axes.set_axis_off()
    cases = table.groupby("attack", sort=False)["case"].nunique()
    firsts = min(2, cases.min())
    text = about(
        data,
        f"Pairs: private image, and what an attack made of it. Of {len(table)} images {table['clearly'].sum()} are "
        "recovered (*: nearer to the private one than the mean and every public image, and its SSIM "
        f"{SSIM:g} above that of the mean image); {table['recovered'].sum()} are nearer. n = {between(cases)} victims "
        "an attack.",
        f"Random: the first image of {firsts} victims; best: of all. dB: PSNR above that of the mean public image.",
    )
    return fig, table, text
