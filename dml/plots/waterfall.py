"""The figure of where DML's gain comes from, and of DML minus FedAvg seed by seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml import stats
from dml.evidence import accuracy, published
from dml.plots import rows
from dml.plots.looks import INK, PUBLISHED, data_name, look, protocol, signed
from dml.plots.style import (
    BETTER,
    DOUBLE,
    INTERVAL,
    drawn,
    figure,
    folded,
    letters,
    percent,
    spread,
)
from dml.studies.plan import plan

STEPS = (  # arm, less that arm, from where the bar starts, what it adds
    ("local+public", "local", "", "+ labels of the public folds, and steps"),
    ("self", "local+public", "local+public", "+ held to own frozen predictions"),
    ("dml", "self", "self", "+ the peers' predictions"),
    ("dml", "local", "", "= DML"),
    ("fedavg", "local", "", "FedAvg: averaging weights"),
)
FORMS = {"dml": "{}", "dml-one-term": "its code's one-term form"}  # of DML, less FedAvg: the row's title
Run = tuple[pd.DataFrame, str, str]  # results, title, which kind of seeds
PREDICTED = ["published", "low", "high", "reached"]  # of one more seed
FILLS: tuple[dict[str, Any], ...] = ({"alpha": 1.0}, {"alpha": 0.35})  # of the first and the second protocol
FACES: tuple[dict[str, Any], ...] = ({}, {"markerfacecolor": "white"})


@figure("09_story", "results")
def story(results: pd.DataFrame, data: str) -> tuple[Figure, pd.DataFrame, str]:
    """A waterfall from training alone to DML: what public labels, own frozen predictions and the peers add to accuracy,
    and FedAvg beneath. Below it DML minus FedAvg, seed by seed, with the published difference as a star.
    """
    return _waterfall([(results, data, "")])


@drawn
def stories(runs: Sequence[Run], width: float = DOUBLE) -> tuple[Figure, pd.DataFrame, str]:
    """A waterfall from training alone to DML, for two protocols: what public labels, own frozen predictions and the
    peers add to accuracy, and FedAvg beneath. Below it DML minus FedAvg, seed by seed, with the published difference as
    a star.
    """
    return _waterfall(runs, width)


def _waterfall(runs: Sequence[Run], width: float = DOUBLE) -> tuple[Figure, pd.DataFrame, str]:
    narrow = width < DOUBLE
    fig = Figure(figsize=(width, 2.35 + (1.2 if narrow else 0.7) * len(runs)))
    upper, lower = fig.subplots(2, 1, height_ratios=(len(STEPS), 3.2 if narrow else 2), sharex=True)
    table, texts, hidden = [], [], 0
    shift = np.linspace(-0.2, 0.2, len(runs)) if len(runs) > 1 else np.zeros(1)
    height, differences, names = 0.66 / len(runs), [], []
    for i, (results, data, _) in enumerate(runs):
        measure = accuracy.measured(results, accuracy.LATE)
        values = accuracy.values(results, measure)
        for place, (arm, less, start, _) in enumerate(STEPS):  # each bar begins where the one above it ends
            estimate = stats.paired(values[arm].to_numpy(), values[less].to_numpy(), plan().margin)
            base = (values[start] - values["local"]).mean() if start else 0.0
            _bar(upper, place + shift[i], base, estimate, arm, height, FILLS[i])
            if start:
                foot: dict[str, Any] = {"color": INK, "linewidth": 1.6, "solid_capstyle": "butt"}
                upper.plot([base] * 2, place + shift[i] + height * np.array([-0.6, 0.6]), **foot)
            row = {"run": data, "arm": arm, "minus": less, "from": base, **stats.compared(estimate)}
            table.append(row)
        reached = []
        for form, title in FORMS.items():
            if form not in values:
                continue
            estimate = stats.paired(values[form].to_numpy(), values["fedavg"].to_numpy(), plan().margin)
            said = published.one_seed(results, measure, form).set_index("against").loc["fedavg", PREDICTED]
            row = {"run": data, "arm": form, "minus": "fedavg", "from": 0.0, **stats.compared(estimate)}
            table.append(row | said.add_prefix("one ").to_dict())
            differences.append(((values[form] - values["fedavg"]).to_numpy(), estimate, table[-1], FACES[i]))
            names.append(title.format(f"{protocol(data) or 'this run'}, n = {len(values)}"))
            reached.append(f"{said['reached']:.0f}")
        when = "last round" if measure == accuracy.LAST else f"mean of the last {plan().late_rounds} rounds"
        forms = f", {reached[1]} in the one-term form" if len(reached) > 1 else ""
        texts.append(
            f"{data_name(data)}: {when}; {reached[0]} of n = {len(values)} seeds reach the published difference{forms}"
        )
    upper.set_yticks(range(len(STEPS)), [folded(title, width, 22) for *_, title in STEPS])
    upper.set_ylim(len(STEPS) - 0.5, -0.6)
    upper.axhline(len(STEPS) - 1.5, color="0.75", linewidth=0.6)
    upper.set_title(folded("From training alone (Local, at 0) to DML, and FedAvg", width, 32), pad=5)
    far = rows.reach(
        [gap for gap, _, row, _ in differences if row["arm"] == "dml"],
        [x for row in table for x in _extent(row)] + [table[-1]["one published"]],
    )
    upper.set_xlim(*far)
    lower.axvspan(-plan().margin, plan().margin, color="0.93", zorder=0)
    for place, difference in enumerate(differences):
        hidden += _difference(lower, place, *difference)
    gap = table[-1]["one published"]
    top = -0.8
    lower.plot(gap, top, linestyle="", markersize=8, **PUBLISHED, clip_on=False)
    star = folded(f"{signed(100 * gap)} published, one seed", width, 17)
    lower.text(1.01, top, star, va="center", transform=lower.get_yaxis_transform())
    titles = [f"{protocol(data) or 'this run'}, n = {results['seed'].nunique()}" for results, data, _ in runs]
    lower.set_yticks(range(len(names)), [folded(title, width, 18) for title in names])
    lower.set_ylim(len(names) - 0.3, top - 0.4)
    within = f"DML − FedAvg, paired by seed (grey: within ± {100 * plan().margin:g} points)"
    lower.set_title(folded(within, width, 32), pad=5)
    if len(runs) > 1:
        for title, fill in zip(titles, FILLS, strict=True):
            upper.barh(0, 0, color="0.3", label=title, **fill)
        if narrow:
            fig.legend(*upper.get_legend_handles_labels(), loc="outside upper right")
        else:
            upper.legend(loc="lower left")
    for axes in (upper, lower):
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
    what = f"difference in accuracy on unseen images, percentage points{BETTER}"
    lower.set_xlabel(folded(what, width, 45))
    percent(lower, "x")
    upper.tick_params(labelbottom=False)
    letters((upper, lower), left=-6)
    which = "Solid bars, filled markers: the first run; pale, hollow: the second. " if len(runs) > 1 else ""
    last, differ = runs[-1][2], len({kind for *_, kind in runs}) > 1  # one kind of seed is named once
    counted = (f"{results['seed'].nunique()} {kind if differ else ''}".strip() for results, _, kind in runs)
    seeds = f"{' and '.join(counted)} {'' if differ else last}"
    text = (
        f"Paired means and {INTERVAL}, n = {seeds} seeds: differences between arms, not causes. {which}a: bars; the "
        "first three add up to the fourth; an interval is its step's alone, measured from where its bar begins (thick "
        "stroke, else 0). b: dots, one seed each; broad grey bar, where one more seed would fall "
        "(Student's 95 % prediction interval, cut at the axis); star, the published difference: photographs, last "
        "round, one-term form. "
        f"{rows.beyond_text(hidden)} {'. '.join(texts)}."
    )
    return fig, pd.DataFrame(table), " ".join(text.split())


def _bar(
    axes: Axes, place: float, base: float, estimate: stats.Difference, arm: str, height: float, fill: dict
) -> None:
    colour = look(arm)["color"]
    axes.barh(place, estimate.mean, left=base, height=height * 0.9, color=colour, linewidth=0, **fill)
    error = spread(base + estimate.mean, base + estimate.low, base + estimate.high)
    axes.errorbar(
        base + estimate.mean, place, xerr=error, linestyle="", color=INK, capsize=1.8, elinewidth=0.8, capthick=0.7
    )
    axes.text(1.01, place, _words(estimate), va="center", transform=axes.get_yaxis_transform())


def _extent(row: dict) -> tuple[float, float, float]:
    """What the axis must hold of a bar: both ends and its interval."""
    low, high = (0.0 if np.isnan(row[end]) else row[end] for end in ("low", "high"))
    return row["from"] + row["mean"], row["from"] + low, row["from"] + high


def _difference(axes: Axes, place: float, gap: np.ndarray, estimate: stats.Difference, row: dict, face: dict) -> int:
    """A row of the lower panel, in the form's look. Returns how many dots lie beyond the axis."""
    form = row["arm"]
    axes.plot(
        [row["one low"], row["one high"]], [place, place], color="0.72", linewidth=2.2, solid_capstyle="butt", zorder=1
    )
    rows.seeds(axes, place + 0.08, gap, form)
    rows.mean(axes, place, (estimate.mean, estimate.low, estimate.high), form, **face)
    axes.text(1.01, place, _words(estimate), va="center", transform=axes.get_yaxis_transform())
    return rows.beyond(axes, place + 0.08, gap, form)


def _words(estimate: stats.Difference) -> str:
    span = "" if np.isnan(estimate.low) else f" [{signed(100 * estimate.low)}, {signed(100 * estimate.high)}]"
    return f"{signed(100 * estimate.mean)}{span}"
