"""The figure of notebook 06: accuracy of honest clients by the number of liars."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from dml.evidence.words import between
from dml.plots.looks import RUNG_FACE, look, name
from dml.plots.style import BETTER, DOUBLE, INTERVAL, about, figure, letters, percent
from dml.stats import columns, interval

MARKERS, STROKES = "sD^vPXh*<>", ("-", ":", "-.", (0, (3, 1, 1, 1, 1, 1)))  # of rules; "--" is who hears nobody
REACH, STEP = 0.12, 0.04  # liars: from the middle of a column to its outermost line, and at most to the next line
PROPER = {"alie": "ALIE", "fltrust": "FLTrust", "multi-krum": "Multi-Krum"}  # attacks and rules; all others as they are
OUTPUTS = ("dml", "self", "fedmd", "dsfl")  # how arms' names begin that exchange outputs; all others, weights
MEANING = {  # of attacks that captions explain
    "veto": "Veto: a liar is sure of a wrong class on every public image.",
    "flip": "Flip: a liar sends the mirror image of its model about the first common one.",
}
HEADS = ("outputs exchanged, attack: ", "weights exchanged, attack: ")


@figure("06_liars", "hostile")
def by_liars(hostile: pd.DataFrame, data: str, state: str = "") -> tuple[Figure, pd.DataFrame, str]:
    """Accuracy of the honest clients against the number of liars, a line for each arm and rule: on the left arms that
    exchange outputs, on the right those that exchange weights. What hears nobody is a level line with its interval.
    """
    rows = hostile[(hostile["metric"] == "accuracy") & hostile["labels"]]
    alone = rows["arm"].str.startswith("local")
    outputs = rows["arm"].str.startswith(OUTPUTS)
    both = zip(HEADS, (rows[outputs], rows[~outputs & ~alone]), strict=True)
    parts = {head: part for head, part in both if len(part)}
    lines = [part.groupby(["arm", "rule", "clip"], sort=False).ngroups for part in parts.values()]
    fig = Figure(figsize=(DOUBLE, 3.0))
    widths = [max(count, max(lines) / 2) for count in lines]
    grid = list(fig.subplots(1, len(parts), sharey=True, squeeze=False, width_ratios=widths).ravel())
    floors, drawn = sorted(rows["clip"].unique()), []
    nobody = {arm: interval(part["value"].to_numpy()) for arm, part in rows[alone].groupby("arm", sort=False)}
    for axes, (head, part), count in zip(grid, parts.items(), lines, strict=True):
        for place, ((arm, rule, clip), of_guard) in enumerate(part.groupby(["arm", "rule", "clip"], sort=False)):
            aside = min(STEP, 2 * REACH / count) * (place - (count - 1) / 2)
            keys = _look(arm, rule, place, clip > floors[0])
            drawn += _line(axes, aside, named(arm, rule, clip > floors[0]), keys, of_guard)
        for arm, one in nobody.items():
            colour = look(arm)["color"]
            axes.axhspan(one.low, one.high, color=colour, alpha=0.15, linewidth=0, zorder=0)
            axes.axhline(one.mean, color=colour, linewidth=0.9, linestyle="--", label=f"{name(arm)} (n = {one.n})")
        axes.set_xticks(sorted(rows["liars"].unique()))
        axes.set_xlabel(f"liars of {rows['clients'].max()} clients")
        axes.set_title(head + ", ".join(sorted(set(part["attack"].dropna()) - {""})))
        above = axes.transAxes + ScaledTranslation(0, 0.17, fig.dpi_scale_trans)  # lines go everywhere; over the title
        corner: dict[str, Any] = {
            "loc": "lower left",
            "bbox_to_anchor": (0, 1),
            "bbox_transform": above,
            "borderpad": 0,
        }
        axes.legend(**corner, ncols=1 + (count > 2), fontsize=6)
    drawn += [{"line": name(arm), "liars": 0, **columns(one)} for arm, one in nobody.items()]
    grid[0].set_ylabel(f"accuracy of honest clients, %{BETTER}")
    percent(grid[0])
    if len(grid) > 1:
        letters(grid)
    table = pd.DataFrame(drawn)
    text = about(
        data,
        f"Accuracy on unseen images after the last round, honest clients only; {_counts(table)}"
        f"{f' ({state})' if state else ''}.",
        f"Clipped: no probability below {floors[-1]:g} is believed." if len(floors) > 1 else "",
        *(told for attack, told in MEANING.items() if attack in set(rows["attack"])),
        f"Marker: mean; bar: {INTERVAL}; dots: seeds; lines stand side by side at each number of liars. Dashed, with "
        "its interval: clients that hear nobody.",
    )
    return fig, table, text


def _line(axes: Axes, aside: float, title: str, keys: dict[str, Any], rows: pd.DataFrame) -> list[dict]:
    estimates = {liars: interval(values["value"].to_numpy()) for liars, values in rows.groupby("liars")}
    counted = f"{title} (n = {between(one.n for one in estimates.values())})"
    keys, colour = {**keys, "markersize": 3.5, "linewidth": 0.9}, keys["color"]
    for count, one in estimates.items():
        axes.plot([count + aside] * 2, [one.low, one.high], color=colour, linewidth=0.9)
    axes.plot([count + aside for count in estimates], [one.mean for one in estimates.values()], label=counted, **keys)
    axes.scatter(rows["liars"] + aside, rows["value"], s=3, color=colour, alpha=0.4, linewidth=0)
    return [{"line": title, "liars": liars, **columns(one)} for liars, one in estimates.items()]


def _look(arm: str, rule: str, place: int, clipped: bool) -> dict[str, Any]:
    """An arm's look; clipped, that of DML clipped or a hollow marker; of another rule than the mean, its own marker."""
    if rule != "mean":
        return {**look(arm), "marker": MARKERS[place % len(MARKERS)], "linestyle": STROKES[place % len(STROKES)]}
    if clipped and arm == "dml":
        return look("dml, clipped")
    return {**look(arm), "markerfacecolor": RUNG_FACE, "linestyle": STROKES[3]} if clipped else look(arm)


def named(arm: str, rule: str, clipped: bool) -> str:
    """An arm with its clip and rule, as figures call it."""
    return f"{name(arm)}{', clipped' if clipped else ''}{'' if rule == 'mean' else f', {PROPER.get(rule, rule)}'}"


def _counts(table: pd.DataFrame) -> str:
    """How many seeds, and of which lines where they differ."""
    counts = table.groupby("line", sort=False)["n"].agg(between)
    if counts.nunique() == 1:
        return f"n = {counts.iloc[0]} seeds"
    return " and ".join(
        f"n = {n} seeds of {'; '.join(line for line in lines if ', clipped' not in line)}"
        for n, lines in counts.groupby(counts, sort=False).groups.items()
    )
