"""The figure of notebook 06: accuracy of honest clients by the number of liars."""

import pandas as pd
from matplotlib.figure import Figure

from dml.plots.style import COLOURS, DOUBLE, LOOKS, caption, figure, legend_above, percent, seeds_text
from dml.stats import interval

LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPXh*<>"


@figure("06_liars", "hostile")
def by_liars(hostile: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame]:
    """One line a guarded arm, Student's t intervals, every seed a dot; what hears nobody is a level line."""
    rows = hostile[(hostile["metric"] == "accuracy") & hostile["labels"]]
    fig = Figure(figsize=(DOUBLE, 3.2))
    axes, drawn = fig.subplots(), []
    for place, (guard, part) in enumerate(rows.groupby(["arm", "rule", "clip"], sort=False)):
        name, look = _name(*guard), {"color": COLOURS[place % 10], "linestyle": LINES[place % 4]}
        estimates = {liars: interval(values["value"].to_numpy()) for liars, values in part.groupby("liars")}
        if part["liars"].max() == 0 and guard[0].startswith("local"):
            axes.axhline(estimates[0].mean, label=name, color=LOOKS[guard[0]]["color"], linewidth=1, alpha=0.7)
        else:
            counts, means = list(estimates), [each.mean for each in estimates.values()]
            axes.plot(counts, means, label=name, marker=MARKERS[place % len(MARKERS)], markersize=4, **look)
            axes.scatter(part["liars"], part["value"], s=3, color=look["color"], alpha=0.4)
            for count, each in estimates.items():
                axes.plot([count, count], [each.low, each.high], color=look["color"], linewidth=1)
        drawn += [
            {"line": name, "liars": liars, "mean": each.mean, "low": each.low, "high": each.high, "n": each.n}
            for liars, each in estimates.items()
        ]
    axes.set(xlabel=f"liars of {rows['clients'].max()} clients", ylabel="unseen accuracy of the honest, %")
    axes.set_xticks(sorted(rows["liars"].unique()))
    percent(axes)
    legend_above(fig, axes, columns=3)
    attacks = ", ".join(sorted(set(rows["attack"]) - {""}))
    caption(
        fig,
        f"{data}, {seeds_text(hostile)}. Last round, honest clients only; attacks: {attacks}. Mean, 95 % interval "
        "(Student's t), dots: seeds.",
    )
    return fig, pd.DataFrame(drawn)


def _name(arm: str, rule: str, clip: float) -> str:
    clipped = f", clip {clip:g}" if arm.startswith("dml") else ""
    return f"{arm}{clipped}{'' if rule == 'mean' else f', {rule}'}"
