"""The figure of DML's relatives where classes differ: what each reaches, and the bytes that it takes."""

import pandas as pd
from matplotlib.figure import Figure

from dml.evidence.relatives import BESIDE, FOLDS, LEVELS, beside
from dml.evidence.skew import LABELLED
from dml.evidence.words import between
from dml.plots import rows
from dml.plots.looks import INK, dot
from dml.plots.style import BETTER, DOUBLE, INTERVAL, about, drawn, legend_above, letters, percent

ALPHA = LEVELS[0]  # the other often deals the same images
ROW, HEAD = 0.13, 0.35  # inches
RIGHT, OWN = ("accuracy", "all images alike"), ("personal", "the client's own classes")


@drawn
def by_relative(
    results: pd.DataFrame, costs: pd.DataFrame, data: str, state: str = ""
) -> tuple[Figure, pd.DataFrame, str]:
    """One row an arm, the most accurate on top; above with labelled public images, below without labels. From left to
    right: accuracy, a dot for all images and a stroke for a client's own classes; DML minus the arm; bytes of a round.
    """
    found = {fold: beside(results, costs, ALPHA, fold) for fold in FOLDS}
    parts = {fold: part for fold, part in found.items() if len(part)}
    sizes = [len(part) * ROW + HEAD for part in parts.values()] or [1.0]
    fig = Figure(figsize=(DOUBLE, 0.6 + sum(sizes)))
    panels = fig.subplots(len(sizes), 3, sharex="col", squeeze=False, height_ratios=sizes, width_ratios=(5, 5, 3))
    for (right, less, sent), (fold, part) in zip(panels, parts.items(), strict=False):
        for axes in (right, less, sent):
            rows.names(axes, [*part["arm"]], [] if axes is right else [""] * len(part))
        for (measure, told), mark in ((RIGHT, "o"), (OWN, "|")):  # the stroke shows through the dot
            keys = {"color": "0.45" if mark == "o" else INK, "markersize": 3.5 if mark == "o" else 7}
            right.plot(part[measure], range(len(part)), mark, label=told, **keys)
        for place, row in enumerate(part.to_dict("records")):
            if row["arm"] != "dml":
                rows.mean(less, place, (row["mean"], row["low"], row["high"]), row["arm"])
            if row["up"] + row["down"]:
                sent.plot(row["up"] + row["down"], place, **{**dot(row["arm"]), "markersize": 4})
            else:
                sent.text(0.02, place, "none", va="center", transform=sent.get_yaxis_transform())
        less.axvline(0, color=INK, linewidth=0.7)
        sent.set_xscale("log")
        right.set_title(f"public images {LABELLED[fold]}", loc="left")
    bottom = panels[-1]
    for axes, told in zip(
        bottom, (f"accuracy, %{BETTER}", "DML − the arm, pp", "bytes of a client, round"), strict=True
    ):
        axes.set_xlabel(told)
    percent(bottom[0], "x")
    percent(bottom[1], "x")
    letters([*panels.flat])
    if parts:
        legend_above(fig, bottom[0])
    table = pd.concat([part.assign(public_fold=fold) for fold, part in parts.items()] or [pd.DataFrame(columns=BESIDE)])
    counted = f"n = {between(table['n'])} seeds" if len(table) else "no seed"
    text = about(
        data,
        f"Clients whose classes differ (Dirichlet {ALPHA}), {counted}{f' ({state})' if state else ''}, the most "
        "accurate arm on top. Left: accuracy on unseen images, of all classes alike (dot) and weighted by a "
        "client's own (stroke); clients that end with one model have about the same in both.",
        f"Middle: DML minus the arm on all images, mean and {INTERVAL}, without correction. Right: bytes of a client "
        "in a round, up and down, without set-up.",
    )
    return fig, table, text
