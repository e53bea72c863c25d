"""The figure of notebook 05 on clients with different models: which kind of model gains."""

import pandas as pd
from matplotlib.figure import Figure

from dml.evidence.mixed import ALONE, by_kind, different, gains, who
from dml.evidence.skew import TABLES, UNDECIDED
from dml.evidence.words import between
from dml.plots import rows
from dml.plots.looks import INK
from dml.plots.style import BETTER, INTERVAL, TEXT, about, figure, letters, percent

ROW, HEAD = 0.26, 0.42  # inches


@figure("05_models", *TABLES)
def who_gains(
    results: pd.DataFrame, cells: pd.DataFrame, data: str, state: str = ""
) -> tuple[Figure, pd.DataFrame, str]:
    """A panel a group of clients, one row a kind of model, the weak ones first: DML minus the same model's accuracy
    with public labels alone.
    """
    table, groups = gains(results), different(results)
    kinds = {cell: by_kind(results, cell) for cell in groups}
    differences = {
        (cell, kind): (both["dml"] - both[ALONE]).to_numpy()
        for cell, part in kinds.items()
        for kind, both in part.items()
    }
    sizes = [len(kinds[cell]) * ROW + HEAD for cell in groups]
    fig = Figure(figsize=(TEXT, 0.45 + sum(sizes or [1])))
    panels = [*fig.subplots(max(1, len(groups)), sharex=True, squeeze=False, height_ratios=sizes or None).flat]
    if len(table):
        panels[0].set_xlim(rows.reach(list(differences.values()), [*table["low"], *table["high"]]))
    cut = 0
    for axes, cell in zip(panels, groups, strict=False):
        here = table[table["cell"] == cell]
        rows.names(axes, [*here["kind"]], [f"{row.kind} ({100 * row.alone:.0f} alone)" for row in here.itertuples()])
        for place, row in enumerate(here.itertuples()):
            values = differences[cell, row.kind]
            rows.seeds(axes, place, values, "dml")
            face = {"markerfacecolor": "white"} if row.state == UNDECIDED else {}
            rows.mean(axes, place, (row.mean, row.low, row.high), "dml", **face)
            cut += rows.beyond(axes, place, values, "dml")
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.set_title(who(cell), loc="left")
    panels[-1].set_xlabel(f"DML − local + public labels, same model, pp{BETTER}")
    percent(panels[-1], "x")
    letters(panels)
    counted = f"n = {between(table['n'])} seeds" if len(table) else "no seed"
    text = about(
        data,
        f"Accuracy on unseen images of DML minus that of the same model with public labels alone, {counted}"
        f"{f' ({state})' if state else ''}, mean and {INTERVAL}, not corrected; filled where it is decided after "
        "Holm over all rows; small dots: seeds. In brackets the "
        "model's accuracy with public labels alone, %.",
        "Clients with different models exchange only outputs.",
        rows.beyond_text(cut),
    )
    return fig, table, text
