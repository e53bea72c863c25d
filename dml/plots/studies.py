"""What the fresh seeds of the analysis plan show beside those that gave rise to it."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml.evidence.accuracy import LAST, LATE
from dml.plots import rows
from dml.plots.looks import INK
from dml.plots.style import BETTER, DOUBLE, INTERVAL, SMALLEST, drawn, legend_above, letters, percent
from dml.studies.plan import plan

KINDS = {"confirmatory": {}, "exploratory": {"markerfacecolor": "white", "alpha": 0.75}}  # fresh seeds above
SHOWN = ["protocol", "kind", "family", "measure", "against", "mean", "low", "high", "n", "better"]


@drawn
def studies(answers: Mapping[tuple[str, str], pd.DataFrame]) -> tuple[Figure, pd.DataFrame, str]:
    """One panel a protocol, one row an arm: DML minus that arm in accuracy, filled for the fresh seeds of the plan,
    hollow for those seen before it; to the right, on how many seeds DML is better.
    """
    tables = [table.assign(protocol=protocol, kind=kind) for (protocol, kind), table in answers.items() if len(table)]
    table = pd.concat(tables, ignore_index=True)
    table = table[table["measure"].isin([LATE, LAST])][SHOWN]
    protocols = list(dict.fromkeys(table["protocol"]))
    arms = list(dict.fromkeys(table.sort_values("family", kind="stable")["against"]))
    fig = Figure(figsize=(DOUBLE, 0.9 + 0.27 * len(arms)))
    panels = fig.subplots(1, len(protocols), sharey=True, squeeze=False)[0]
    for axes, protocol in zip(panels, protocols, strict=True):
        _panel(axes, table[table["protocol"] == protocol], arms)
        axes.set_title(f"{protocol.capitalize()} protocol", pad=5)
    rows.names(panels[0], arms)
    for kind, face in KINDS.items():
        if kind in set(table["kind"]):
            panels[0].errorbar([], [], xerr=[], color=INK, marker="o", linestyle="", label=f"{kind} seeds", **face)
    legend_above(fig, panels[0])
    letters(panels, left=-6)
    planned = {study.name: len(study.confirmatory) for study in plan().studies.values()}
    counts = table.groupby(["protocol", "kind"], sort=False)["n"].max().astype(int)
    counted = "; ".join(
        f"{protocol} protocol {n} {kind}" + (f" of {planned[protocol]}" if kind == "confirmatory" else "")
        for (protocol, kind), n in counts.items()
    )
    text = (
        "Accuracy on unseen images, DML minus another arm, percentage points, paired by seed: mean and "
        f"{INTERVAL}, not corrected. Seeds: {counted}; only all confirmatory ones decide. Those: mean of the last "
        f"{plan().late_rounds} rounds; exploratory: the last round. Grey: within half a point. Right: on how many "
        "seeds DML is better; ties count half. Data: Face-mask photos."
    )
    return fig, table, text


def _panel(axes: Axes, table: pd.DataFrame, arms: list[str]) -> None:
    axes.axvspan(-plan().margin, plan().margin, color="0.93", zorder=0)
    axes.axvline(0, color=INK, linewidth=0.7)
    for kind, face in KINDS.items():
        shift = -0.17 if kind == "confirmatory" else 0.17
        for row in table[table["kind"] == kind].itertuples():
            place = arms.index(row.against) + shift
            rows.mean(axes, place, (row.mean, row.low, row.high), row.against, **face)
            axes.text(
                1.01,
                place,
                f"{row.better * row.n:g}/{row.n:.0f}",
                va="center",
                fontsize=SMALLEST,
                transform=axes.get_yaxis_transform(),
            )
    axes.set_xlabel(f"DML − arm, pp{BETTER}")
    axes.text(1.01, -0.75, "better on", va="center", fontsize=SMALLEST, transform=axes.get_yaxis_transform())
    axes.tick_params(axis="y", length=0)
    percent(axes, "x")
    axes.grid(False, axis="y")
