"""The figure of the grid of data/plan_hostile.md, whose arms and rules are too many for the lines of `hostile.py`."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dml.evidence.hostile import ALONE, GUARD, alone, break_even, by_seed, differences
from dml.evidence.words import between
from dml.plots import rows as chart
from dml.plots.hostile import OUTPUTS, PROPER, named
from dml.plots.looks import INK, look, name
from dml.plots.style import BETTER, DOUBLE, INTERVAL, SMALLEST, about, drawn, percent
from dml.stats import interval

GAP = 0.7  # of a row: between arms that exchange outputs and arms that exchange weights


@drawn
def by_rule(hostile: pd.DataFrame, data: str, state: str = "") -> tuple[Figure, pd.DataFrame, str]:
    """A row an arm and rule, a panel a number of liars: the accuracy of the honest clients, each row at its worst
    attack. The band through the panels is what clients reach that hear nobody.
    """
    table, seeds, nobody = differences(hostile), by_seed(hostile), interval(alone(hostile).to_numpy())
    table = table[table["arm"] != "local"]
    guards, numbers, clips = list(table.groupby(GUARD)), sorted(table["liars"].unique()), table["clip"]
    guards.sort(key=lambda guard: (not guard[0][0].startswith(OUTPUTS), guard[0][0], guard[0][1] != "mean"))
    places = [place + GAP * (not arm.startswith(OUTPUTS)) for place, ((arm, *_), _) in enumerate(guards)]
    titles = [named(arm, rule, clip > clips.min()) for (arm, rule, clip), _ in guards]
    fig = Figure(figsize=(DOUBLE, 0.6 + 0.17 * len(guards)))
    panels = fig.subplots(1, len(numbers), sharex=True, sharey=True, squeeze=False).ravel()
    note: dict[str, Any] = {"fontsize": SMALLEST, "va": "center", "color": INK}
    for axes, liars in zip(panels, numbers, strict=True):
        axes.axvspan(nobody.low, nobody.high, color=look(ALONE)["color"], alpha=0.15, linewidth=0)
        axes.axvline(nobody.mean, color=look(ALONE)["color"], linewidth=0.9, linestyle="--")
        for place, (guard, rows) in zip(places, guards, strict=True):
            arm, row = guard[0], rows[rows["liars"] == liars]
            if row.empty:
                axes.text(0.5, place, "refused", ha="center", transform=axes.get_yaxis_transform(), **note)
                continue
            values = seeds[guard][liars].to_numpy()
            axes.scatter(values, [place] * len(values), s=3, color=look(arm)["color"], alpha=0.4, linewidth=0)
            chart.mean(axes, place, tuple(row[["mean", "low", "high"]].iloc[0]), arm, markersize=3)
        axes.set_title("no liar" if not liars else f"{liars} liar{'s' if liars > 1 else ''}")
        percent(axes, "x")
    chart.names(panels[0], titles, titles, places)
    for place, (_, rows) in zip(places, guards, strict=True):
        even, attack = break_even(rows), rows.loc[rows["liars"] > 0, "attack"].max()
        told = f"{PROPER.get(attack, attack)}; {'–' if even is None else even}"
        panels[-1].text(1.04, place, told, transform=panels[-1].get_yaxis_transform(), **note)
    panels[-1].text(1.04, 1, "attack; break-even", transform=panels[-1].transAxes, **(note | {"va": "bottom"}))
    fig.supxlabel(f"accuracy of honest clients, %{BETTER}", fontsize=6.5)
    clipped = f"Clipped: no probability below {clips.max():g} is believed." if clips.nunique() > 1 else ""
    text = about(
        data,
        f"Accuracy on unseen images after the last round, honest clients only, of {hostile['clients'].max()} clients; "
        f"n = {between(table['n'])} seeds{f' ({state})' if state else ''}.",
        f"Each row at its worst attack of the screen, which stands at the right. {clipped}",
        f"Marker: mean; bar: {INTERVAL}; dots: seeds. Dashed, with its interval: {name(ALONE)}, which hears nobody.",
        "Break-even: the fewest liars at which that is shown to be better (paired t, Holm over a row); –: not shown.",
    )
    return fig, table, text
