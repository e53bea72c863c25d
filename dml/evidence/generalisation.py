"""The two gaps of generalisation by arm, and how DML's differ from the others', from the tables of the study of
data/plan_generalisation.md or of notebook 08. The unit is the outer draw; intervals are Student's t.
"""

from math import inf
from pathlib import Path

import pandas as pd

from dml.evidence.answers import HELD, OPEN, REFUTED
from dml.evidence.words import estimate, pages, points, table
from dml.files import read_table
from dml.stats import Difference, columns, holm, interval, paired
from dml.studies.generalisation import COMMON, NAME, OUT_OF_SAMPLE, OWN, PARTICIPATION, plan, planned
from dml.studies.study import STUDIES

TABLES = ("gaps", "errors")
POOLED, CELLWISE, MEASURED, HEADLINE = "pooled", "cellwise", "measured", "root"
ASKED = {  # what is asked, and how it is called
    (OUT_OF_SAMPLE, OWN): "images not trained on",
    (PARTICIPATION, OWN): "clients that never took part",
    (PARTICIPATION, COMMON): "the same, all asked by every net",
}
PRIMARY = ((OUT_OF_SAMPLE, OWN), (PARTICIPATION, OWN))
FOLLOWS = {"lower": HELD, "higher": REFUTED, "same": REFUTED, "open": OPEN}
NOTHING = "Nothing is on record yet."
SUMMARY = ["label_alpha", "gap", "asked", "arm", "mean", "low", "high", "n", "bound", "floor", "excess", "ratio"]


def by_draw(gaps: pd.DataFrame, gap: str, asked: str, label_alpha: float, form: str = MEASURED) -> pd.DataFrame:
    """A row an outer draw, a column an arm: the pooled value of a form of one gap; arms in the table's order."""
    rows = gaps[(gaps["gap"] == gap) & (gaps["asked"] == asked) & (gaps["label_alpha"] == label_alpha)]
    rows = rows[(rows["form"] == form) & (rows["way"] == POOLED)]
    wide = rows.pivot(index="seed", columns="arm", values="value")
    return wide[[arm for arm in arms_of(gaps) if arm in wide]]


def arms_of(gaps: pd.DataFrame) -> list[str]:
    """The arms in the plan's order, then any others."""
    order = list(dict.fromkeys(arm for grid in plan().grids for arm in grid.arms))
    there = list(gaps["arm"].unique())
    return [arm for arm in order if arm in there] + [arm for arm in there if arm not in order]


def summary(gaps: pd.DataFrame, form: str = HEADLINE, way: str = POOLED) -> pd.DataFrame:
    """Of every concentration, gap and arm: the measured gap with its interval, and of a form its mean estimate over the
    draws, its floor, what it exceeds the floor by, and its ratio to the size of the mean gap: columns `SUMMARY`. No row
    where the form does not apply.
    """
    found = []
    for label_alpha in sorted(gaps["label_alpha"].unique()):
        for gap, asked in ASKED:
            measured = by_draw(gaps, gap, asked, label_alpha)
            here = gaps[(gaps["label_alpha"] == label_alpha) & (gaps["gap"] == gap) & (gaps["asked"] == asked)]
            here = here[(here["form"] == form) & (here["way"] == way)].groupby("arm")[["value", "floor"]].mean()
            for arm in [arm for arm in measured.columns if arm in here.index]:
                one = interval(measured[arm].dropna().to_numpy())
                bound, floor = here.loc[arm, "value"], here.loc[arm, "floor"]
                row = {"label_alpha": label_alpha, "gap": gap, "asked": asked, "arm": arm, **columns(one)}
                ratio = bound / abs(one.mean) if one.mean else inf
                found.append(row | {"bound": bound, "floor": floor, "excess": bound - floor, "ratio": ratio})
    return pd.DataFrame(found, columns=SUMMARY)


def differences(gaps: pd.DataFrame, against: str = "fedavg", label_alpha: float | None = None) -> dict:
    """DML minus another arm in both primary gaps, paired over draws, with Holm over the two; {} where one is missing.
    Without `label_alpha`, where clients differ.
    """
    chosen = differing(gaps) if label_alpha is None else label_alpha
    wide = {key: by_draw(gaps, *key, chosen) for key in PRIMARY}
    if not all({"dml", against} <= set(part) for part in wide.values()):
        return {}
    both = {key: part[["dml", against]].dropna() for key, part in wide.items()}
    made = [paired(part["dml"], part[against], plan().margin) for part in both.values()]
    return dict(zip(both, holm(made), strict=True))


def differing(gaps: pd.DataFrame) -> float:
    """The lowest concentration in a table: clients that differ, where there are any."""
    return float(gaps["label_alpha"].min())


def order(values: pd.Series) -> str:
    """Arms from the lowest value to the highest, in words."""
    return " < ".join(f"`{arm}`" for arm in values.sort_values(kind="stable").index)


def recorded(name: str, folder: Path = STUDIES) -> pd.DataFrame | None:
    """A table of the study, if it is there."""
    file = folder / NAME / f"{name}.csv"
    return read_table(file) if file.is_file() else None


def state(gaps: pd.DataFrame, label_alpha: float) -> str:
    """How many outer draws are on record of those planned."""
    n, of = gaps.loc[gaps["label_alpha"] == label_alpha, "seed"].nunique(), planned(label_alpha)
    return f"n = {n} outer draws" if n >= of else f"interim, n = {n} of {of} planned outer draws"


def verdict_lines(folder: Path = STUDIES) -> list[tuple[str, ...]]:
    """Two rows on C2 for the README's verdict table; none while fewer than two draws have both arms."""
    gaps, lines = recorded("gaps", folder), list[tuple[str, ...]]()
    for key, one in ({} if gaps is None else differences(gaps)).items():
        if gaps is not None and one.n > 1:
            so_far = state(gaps, differing(gaps))
            word = OPEN if so_far.startswith("interim") else answer(one)  # which decides nothing
            numbers = f"own design, {so_far}: FedAvg {points(one)} {word}"
            claim = f"Smaller gap to {ASKED[key]} (C2)"
            lines.append((claim, "claimed, not measured", "not run", numbers, f"**{word}**", "08"))
    return lines


def answer(one: Difference) -> str:
    """Whether DML's gap is the smaller: held, refuted or open."""
    return FOLLOWS[one.verdict]


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 08: how DML's gaps differ from FedAvg's, and what a client can expect that never took part."""
    gaps, mistakes = (recorded(name, folder) for name in TABLES)
    if gaps is None or mistakes is None or not (found := differences(gaps)):
        return [NOTHING, pages("generalisation")]
    label_alpha = differing(gaps)
    told_of = "; ".join(
        f"{ASKED[key]} {points(one)} ({OPEN if state(gaps, label_alpha).startswith('interim') else answer(one)})"
        for key, one in found.items()
    )
    head = (
        f"DML minus FedAvg, in points of the gap to {told_of}. Own design on photographs at 40 pixels, clients that "
        f"differ, {state(gaps, label_alpha)}."
    )
    if matched := differences(gaps, "fedavg+public"):
        beside = "; ".join(f"{ASKED[key]} {points(one)}" for key, one in matched.items())
        head += f" DML minus `fedavg+public`, which has the same public labels (no verdict): {beside}."
    return [head, "\n".join(errors(mistakes, gaps, label_alpha)), pages("generalisation")]


def errors(mistakes: pd.DataFrame, gaps: pd.DataFrame, label_alpha: float) -> list[str]:
    """Errors of every arm on what trained it, on its clients' other images, and on newcomers'."""
    rows = mistakes[(mistakes["label_alpha"] == label_alpha) & (mistakes["loss"] == "0/1")]
    means = rows.groupby(["arm", "seed"])[["trained", "ghosts", "newcomers"]].mean().reset_index()
    lines = []
    for arm in [arm for arm in arms_of(gaps) if arm in set(means["arm"])]:
        own = means[means["arm"] == arm]
        found = (interval(own[what].to_numpy()) for what in ("trained", "ghosts", "newcomers"))
        cells = [estimate(one.mean, one.low, one.high, ".1f") for one in found]
        lines.append((f"`{arm}`", *cells, len(own)))
    titles = ("arm", "wrong on images that trained, %", "on their clients' ghosts", "on newcomers' ghosts", "n")
    return table(titles, lines)
