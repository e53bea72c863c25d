"""The figure of notebook 06: accuracy of honest clients by the number of liars."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml.plots.looks import INK, LOOKS, NAMES, STROKES
from dml.plots.style import BETTER, DOUBLE, INTERVAL, about, figure, letters, percent, seeds_text
from dml.stats import columns, interval

MARKERS = "osD^vPXh*<>"
DODGE = 0.05  # liars, from one line to the next, so that none hides another
OUTPUTS = ("dml", "self", "fedmd", "dsfl")  # how arms' names begin that exchange outputs; all others, weights


@figure("06_liars", "hostile")
def by_liars(hostile: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """Accuracy of the honest clients against the number of liars, a line for each arm and rule: on the left arms that
    exchange outputs, on the right those that exchange weights. What hears nobody is a level line.
    """
    rows = hostile[(hostile["metric"] == "accuracy") & hostile["labels"]]
    alone = rows["arm"].str.startswith("local")
    outputs = rows["arm"].str.startswith(OUTPUTS)
    parts = [part for part in (rows[outputs], rows[~outputs & ~alone]) if len(part)]
    fig = Figure(figsize=(DOUBLE, 3.0))
    grid, drawn = list(fig.subplots(1, len(parts), sharey=True, squeeze=False).ravel()), []
    for axes, part in zip(grid, parts, strict=True):
        for place, (guard, of_guard) in enumerate(part.groupby(["arm", "rule", "clip"], sort=False)):
            drawn += _line(axes, place, _name(*guard), guard[0], of_guard)
        for arm, of_arm in rows[alone].groupby("arm", sort=False):
            mean = of_arm["value"].mean()
            axes.axhline(mean, color=LOOKS[arm]["color"], linewidth=0.9, linestyle=":", label=NAMES[arm])
        axes.set_xticks(sorted(rows["liars"].unique()))
        axes.set_xlabel(f"liars of {rows['clients'].max()} clients")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2, fontsize=6)  # above: lines go everywhere
    for arm, of_arm in rows[alone].groupby("arm", sort=False):
        one = interval(of_arm["value"].to_numpy())
        drawn.append({"line": NAMES[arm], "liars": 0, **columns(one)})
    grid[0].set_ylabel(f"accuracy of honest clients, %{BETTER}")
    percent(grid[0])
    if len(grid) > 1:
        letters(grid)
    attacks = ", ".join(sorted(set(rows["attack"].dropna()) - {""}))
    text = about(
        data,
        f"Accuracy on unseen images after the last round, honest clients only, {seeds_text(hostile)}; "
        f"attacks: {attacks}.",
        f"Marker: mean; bar: {INTERVAL}; dots: seeds. Dotted: clients that hear nobody.",
    )
    return fig, pd.DataFrame(drawn), text


def _line(axes: Axes, place: int, title: str, arm: str, rows: pd.DataFrame) -> list[dict]:
    estimates = {liars: interval(values["value"].to_numpy()) for liars, values in rows.groupby("liars")}
    colour, marker = LOOKS.get(arm, {"color": INK})["color"], MARKERS[place % len(MARKERS)]
    keys = {"color": colour, "marker": marker, "linestyle": STROKES[place % len(STROKES)], "markersize": 3.5}
    aside = DODGE * (place - 1.5)
    axes.plot([count + aside for count in estimates], [one.mean for one in estimates.values()], label=title, **keys)
    axes.scatter(rows["liars"] + aside, rows["value"], s=3, color=colour, alpha=0.4, linewidth=0)
    for count, one in estimates.items():
        axes.plot([count + aside] * 2, [one.low, one.high], color=colour, linewidth=0.9)
    return [{"line": title, "liars": liars, **columns(one)} for liars, one in estimates.items()]


def _name(arm: str, rule: str, clip: float) -> str:
    clipped = f", clip {clip:g}" if arm.startswith("dml") else ""
    return f"{NAMES.get(arm, arm)}{clipped}{'' if rule == 'mean' else f', {rule}'}"
