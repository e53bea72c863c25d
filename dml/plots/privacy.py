"""The figures of notebook 03 about membership: who learns how much, and whether the probes can be trusted."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml.evidence.privacy import ALIKE, as_groups
from dml.plots.looks import GREYS, INK, dot, look, name, signed
from dml.plots.style import DOUBLE, about, figure, legend_above, letters, percent, spread


class Observer(NamedTuple):
    """Who looks, and what of each method it sees: the views of FedAvg, of partial weights, and of DML."""

    title: str
    fedavg: str
    asynchronous: str
    dml: str


OBSERVERS = (
    Observer("server", "weights", "partial weights", "losses"),
    Observer("peer, as published", "weights, average - own", "partial weights, global", "losses"),
    Observer("server, secure sum", "weights, average", "", "sum of predictions"),
    Observer("peer, secure sum", "weights, average - own", "", "sum of predictions - own"),
)
METHODS = {"fedavg": 0.22, "dml": 0.0, "asynchronous": -0.22}  # where in its row
VIEWS = {
    **{view: "fedavg" for view in ("weights", "weights, average", "weights, average - own")},
    **{view: "asynchronous" for view in ("partial weights", "partial weights, global")},
    **{view: "dml" for view in ("losses", "sum of predictions", "sum of predictions - own")},
}
SHOWN_VIEWS = {
    "weights": "FedAvg: a client's weights",
    "weights, average": "FedAvg: the average",
    "weights, average - own": "FedAvg: the average, less one's own",
    "partial weights": "Partial-weight FL: a client's weights",
    "partial weights, global": "Partial-weight FL: the server's weights",
    "losses": "DML: a client's losses",
    "sum of predictions": "DML: the sum",
    "sum of predictions - own": "DML: the sum, less one's own",
    "pixels": "the images themselves",
}
DIALS = ("as trained", "overfit")
STRONGEST = "strongest"
BLIND = "ridge"  # sees no model: the images themselves, a control
GUESS: dict[str, Any] = {"color": "0.4", "linestyle": (0, (4, 3)), "linewidth": 0.8}


def targets(rows: pd.DataFrame) -> str:
    """n and trials of drawn rows, each number that occurs: "n = 128 targets (10,240 trials)"."""
    counts = " or ".join(f"{n:.0f}" for n in sorted(rows["n"].unique(), reverse=True))
    trials = " or ".join(f"{n:,.0f}" for n in sorted(rows["trials"].unique(), reverse=True))
    return f"n = {counts} targets ({trials} trials)"


@figure("03_membership", "privacy_rates", "privacy_differences")
def membership(rates: pd.DataFrame, differences: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """One row an observer (server or peer, with or without a secure sum): how well the strongest attack tells members
    from what it sees of FedAvg, of partial weights and of DML; at the right FedAvg's figure minus DML's.
    """
    rows = _strongest(rates, "as trained", "auc", "all")
    fig = Figure(figsize=(DOUBLE, 2.0))
    axes = fig.subplots()
    drawn = _observers(axes, rows)
    gaps = differences[differences["dial"] == "as trained"].set_index(["view", "minus"])
    told = []
    for place, observer in enumerate(OBSERVERS):
        if (observer.fedavg, observer.dml) in gaps.index:
            gap = gaps.loc[(observer.fedavg, observer.dml)]
            low, high = as_groups(gap)
            word = "DML leaks less" if low > 0 else "DML leaks more" if high < 0 else "not decided"
            span = f"{signed(gap['value'], '+.3f')} [{signed(low, '+.3f')}, {signed(high, '+.3f')}]"
            axes.text(1.02, place, f"{span}\n{word}", va="center", transform=axes.get_yaxis_transform())
            keys = {"view": observer.fedavg, "minus": observer.dml, "low": low, "high": high}
            told.append(keys | dict(gap[["value", "n", "trials"]]))
    axes.text(1.02, 1.02, "FedAvg − DML", fontweight="bold", va="bottom", transform=axes.transAxes)
    axes.set_yticks(range(len(OBSERVERS)), [observer.title for observer in OBSERVERS])
    axes.set_xlabel("← more private   membership AUC of the strongest attack (dashed: guessing)")
    legend_above(fig, axes)
    text = about(
        data,
        "Who was in the training data, one round, black box, as trained: strongest attack of each view, "
        f"{targets(drawn)}; bars: 95 % bootstrap over targets. Each row is one adversary.",
        "As published, peers of DML get every client's losses, so a peer sees what the server sees; under a secure sum "
        "only the sum is seen. Partial weights have no view under a secure sum here. Verdict words follow the interval "
        f"of the paired difference, which counts the {ALIKE} targets of a group as one.",
    )
    return fig, pd.concat([drawn, pd.DataFrame(told)], ignore_index=True), text


def _strongest(rates: pd.DataFrame, dial: str, metric: str, candidates: str) -> pd.DataFrame:
    rows = rates[(rates["attack"] == STRONGEST) & (rates["against"] == "members") & rates["view"].isin(VIEWS)]
    return rows[(rows["dial"] == dial) & (rows["metric"] == metric) & (rows["candidates"] == candidates)]


def _observers(axes: Axes, rows: pd.DataFrame, chance: float = 0.5) -> pd.DataFrame:
    """Draw the rows of one panel. Returns what was drawn."""
    by_view, drawn = rows.set_index("view"), []
    for place, observer in enumerate(OBSERVERS):
        shown = [(method, getattr(observer, method)) for method in METHODS]
        shown = [(method, view) for method, view in shown if view in by_view.index]
        for method, view in shown:
            row = by_view.loc[view]
            error = spread(row["value"], row["low"], row["high"])
            label = name(method) if place == 0 else None
            keys = dot(method) | {"capsize": 1.8, "elinewidth": 0.9, "label": label}
            axes.errorbar(row["value"], place + METHODS[method], xerr=error, **keys)
            drawn.append({"observer": observer.title, "view": view, **row})
    axes.axvline(chance, **GUESS)
    axes.set_ylim(len(OBSERVERS) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return pd.DataFrame(drawn)


@figure("03_canaries", "privacy_rates")
def canaries(rates: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """The observers of the main figure again, by three other measures: canaries, the confident guesses (TPR at 1 %
    FPR), and an overfit control in which there is more to find.
    """
    panels = {
        ("as trained", "auc", "canaries"): "canaries, membership AUC",
        ("as trained", "tpr", "all"): "TPR at 1 % FPR, %",
        ("overfit", "auc", "all"): "overfit, membership AUC",
    }
    fig, parts, counts = Figure(figsize=(DOUBLE, 1.9)), [], []
    grid = fig.subplots(1, 3, sharey=True)
    for letter, axes, ((dial, metric, kind), title) in zip("abc", grid, panels.items(), strict=True):
        parts.append(_observers(axes, _strongest(rates, dial, metric, kind), 0.5 if metric == "auc" else 0.01))
        axes.set_xlabel(f"{title}\n← more private")
        if metric == "tpr":
            percent(axes, "x")
        counts.append(f"{letter}, {targets(parts[-1])}")
    grid[0].set_yticks(range(len(OBSERVERS)), [observer.title for observer in OBSERVERS])
    legend_above(fig, grid[0])
    letters(grid, left=-4)
    text = about(
        data,
        "Strongest attack of each view: a, mislabelled images planted in training (canaries); b, true positives at 1 % "
        f"false positives; c, models trained until they overfit. {'; '.join(counts)}. Bars: 95 % bootstrap over "
        "targets; dashed: guessing.",
    )
    return fig, pd.concat(parts), text


@figure("03_roc", "privacy_curves")
def roc(curves: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """ROC curves of the strongest attack on logarithmic axes, one column an observer, as trained above and overfit
    below; bands around every curve.
    """
    drawn = curves[curves["dial"].isin(DIALS) & curves["view"].isin(VIEWS)]
    fig = Figure(figsize=(DOUBLE, 3.2))
    grid = fig.subplots(2, len(OBSERVERS), sharex=True, sharey=True)
    known = drawn.loc[drawn["value"].notna(), "fpr"].min()
    for line, dial in zip(grid, DIALS, strict=True):
        of_dial = drawn[drawn["dial"] == dial]
        for axes, observer in zip(line, OBSERVERS, strict=True):
            for method in METHODS:
                curve, keys = of_dial[of_dial["view"] == getattr(observer, method)], look(method)
                if len(curve):
                    colour, line_style = keys["color"], keys["linestyle"]
                    axes.plot(curve["fpr"], curve["value"], color=colour, linestyle=line_style, label=name(method))
                    axes.fill_between(curve["fpr"], curve["low"], curve["high"], color=colour, alpha=0.2, linewidth=0)
            axes.plot([known, 1], [known, 1], **GUESS)
            axes.axvline(0.01, color="0.6", linewidth=0.6)
            axes.set(xscale="log", yscale="log", xlim=(known, 1), ylim=(known, 1.05))
        n = " or ".join(f"{n:.0f}" for n in of_dial["n"].unique())
        line[0].set_ylabel(f"{dial}, n = {n}\ntrue positive rate")
    for axes, observer in zip(grid[0], OBSERVERS, strict=True):
        axes.set_title(observer.title)
    for axes in grid[-1]:
        axes.set_xlabel("false positive rate")
    legend_above(fig, grid[0, 0])
    letters(grid.ravel(), left=-3)
    counts = "; ".join(f"{dial}: {targets(drawn[drawn['dial'] == dial])}" for dial in DIALS)
    text = about(
        data,
        f"Strongest attack of each view, chosen on the other half of the targets. {counts}. Bands: 95 % bootstrap over "
        "targets; dashed: guessing; grey line: 1 % false positives.",
    )
    return fig, drawn, text


@figure("03_controls", "privacy_rates")
def controls(rates: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """One panel an attack and one row a view: membership AUC against members, filled, and against three controls in
    which there is nothing to find, hollow; the last of them is an attack of its own, a regression on the pixels.
    """
    kinds = {"members": "o", "wrong model": "s", "untrained model": "D", "no model": "v"}
    rows = rates[(rates["dial"] == "as trained") & (rates["metric"] == "auc") & (rates["candidates"] == "all")]
    rows = rows[rows["view"].isin([*VIEWS, "pixels"]) & (rows["attack"] != STRONGEST)]
    attacks = sorted(rows["attack"].unique(), key=lambda attack: attack == BLIND)
    shown = [*(view for view in VIEWS if view in set(rows["view"])), "pixels"]
    fig = Figure(figsize=(DOUBLE, 2.7))
    widths = [0.6 if attack == BLIND else 1 for attack in attacks]
    grid = fig.subplots(1, len(attacks), sharey=True, sharex=True, width_ratios=widths)
    for axes, attack in zip(grid, attacks, strict=True):
        for row in rows[rows["attack"] == attack].itertuples():
            shift = 0.24 * (list(kinds).index(row.against) % 3 - 1)
            member = row.against == "members"
            colour = look(VIEWS[row.view])["color"] if member else GREYS[2]
            keys = {"color": colour, "markerfacecolor": colour if member else "white", "linestyle": "", "markersize": 3}
            error = spread(row.value, row.low, row.high)
            place = shown.index(row.view) + shift
            axes.errorbar(row.value, place, xerr=error, marker=kinds[row.against], elinewidth=0.8, capsize=1.2, **keys)
        axes.axvline(0.5, **GUESS)
        axes.set_title("pixels" if attack == BLIND else attack, fontsize=6.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
    letters(grid, left=-3)
    fig.supxlabel("membership AUC", fontsize=6.5)
    grid[0].set_yticks(range(len(shown)), [SHOWN_VIEWS[view] for view in shown])
    grid[0].set_ylim(len(shown) - 0.4, -0.6)
    for kind, marker in kinds.items():
        face = INK if kind == "members" else "white"
        grid[0].plot([], [], color=INK, marker=marker, markerfacecolor=face, linestyle="", label=kind)
    legend_above(fig, grid[0])
    bars = f"Bars: 95 % bootstrap over {_units(rows)}."
    return fig, rows, about(data, f"Every attack on every view, as trained. {_chance(rows)}", bars)


def _units(rows: pd.DataFrame) -> str:
    """n of what was drawn: clients for FedMIA, targets for the others."""
    fed = rows["attack"] == "FedMIA"
    told = [f"n = {n:.0f} targets" for n in rows.loc[~fed, "n"].unique()]
    return " or ".join([*told, *(f"n = {n:.0f} clients (FedMIA)" for n in rows.loc[fed, "n"].unique())])


def _chance(rows: pd.DataFrame) -> str:
    """How many controls leave 0.5 out of their interval, the furthest of them by its number."""
    control = rows[rows["against"] != "members"]
    off = control[(control["low"] > 0.5) | (control["high"] < 0.5)]
    if off.empty:
        return f"Of {len(control)} control intervals all hold 0.5, where there is nothing to find."
    far = off.loc[(off["value"] - 0.5).abs().idxmax()]
    expected = np.ceil(0.05 * len(control))
    low = "below chance: a fault of the control and no leak (data/results/README.md)"
    why = low if far["high"] < 0.5 else "which is not explained"
    return (
        f"Where there is nothing to find, 0.5 is expected; of {len(control)} control intervals {len(off)} leave it out "
        f"(about {expected:.0f} would by chance), the furthest {far['attack']} on {SHOWN_VIEWS[far['view']]}, "
        f"{far['against']}, at {far['value']:.3f} [{far['low']:.3f}, {far['high']:.3f}], {why}."
    )
