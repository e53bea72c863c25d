"""The page of the generalisation study: errors, gaps, differences, every bound with its floor, and the predictions."""

from collections.abc import Iterator
from math import isinf
from pathlib import Path

import pandas as pd

from dml.evidence import gap_predictions
from dml.evidence.generalisation import (
    ASKED,
    CELLWISE,
    HEADLINE,
    MEASURED,
    NOTHING,
    POOLED,
    TABLES,
    arms_of,
    by_draw,
    errors,
    order,
    recorded,
    state,
    summary,
)
from dml.evidence.words import joined, points, table
from dml.stats import interval
from dml.studies.study import STUDIES

ZERO = "zero"  # a form that applies to few draws only
LARGEST = 100  # a ratio to a gap near zero says only that


def text(folder: Path = STUDIES) -> str:
    """Both gaps of every arm, the differences, and every form of the bounds with its floor: a page."""
    gaps, mistakes = (recorded(name, folder) for name in TABLES)
    if gaps is None or mistakes is None:
        return joined([NOTHING])
    lines = []
    for label_alpha in sorted(gaps["label_alpha"].unique()):
        alike = isinf(label_alpha)
        lines += [f"### {'Clients alike: the control' if alike else 'Clients that differ'}", ""]
        lines += [f"Dirichlet concentration {label_alpha:g}, {state(gaps, label_alpha)}.", ""]
        lines += [*errors(mistakes, gaps, label_alpha), ""]
        lines += [*_against(gaps, label_alpha), ""]
        for gap, asked in ASKED:
            lines += [*_bounds(gaps, label_alpha, gap, asked), ""]
    return joined([*lines, *_predictions(gaps)])


def _predictions(gaps: pd.DataFrame) -> Iterator[str]:
    yield from ["### The plan's predictions", ""]
    yield (
        "By 95 % intervals over draws, each for itself, P5 and P6 by means alone; open while draws are missing. The "
        "plan has the predictions; how each is judged was written when four arms of draw 100 had been seen."
    )
    yield from ["", *gap_predictions.lines(gaps)]


def _against(gaps: pd.DataFrame, label_alpha: float) -> Iterator[str]:
    """DML minus every other arm, in each gap."""
    rows = []
    for arm in [arm for arm in arms_of(gaps) if arm != "dml"]:
        cells = []
        for gap, asked in ASKED:
            wide = by_draw(gaps, gap, asked, label_alpha)
            both = wide[["dml", arm]].dropna() if {"dml", arm} <= set(wide) else pd.DataFrame()
            cells.append(points(interval((both["dml"] - both[arm]).to_numpy())) if len(both) else "")
        if any(cells):
            rows.append((f"`{arm}`", *cells))
    yield from table(("DML minus, points of the gap", *ASKED.values()), rows)


def _bounds(gaps: pd.DataFrame, label_alpha: float, gap: str, asked: str) -> Iterator[str]:
    """The headline bound on a gap, the order of the arms, and every form with its floor."""
    whole = gaps[(gaps["label_alpha"] == label_alpha) & (gaps["gap"] == gap) & (gaps["asked"] == asked)]
    main = summary(whole)
    yield from [f"Gap to {ASKED[gap, asked]}, points; the pooled estimate is the form `{HEADLINE}`.", ""]
    rows = [
        (f"`{row.arm}`", points(row), *map(_points, (row.bound, row.floor, row.excess)), _ratio(row.ratio))
        for row in main.itertuples()
    ]
    yield from table(("arm", "measured gap", "pooled estimate", "its floor", "excess over it", "estimate by gap"), rows)
    ranked = main.set_index("arm")
    by_size, by_bound = order(ranked["mean"].abs()), order(ranked["bound"])
    yield from ["", f"By the size of the gap: {by_size}. By the estimate: {by_bound}.", ""]
    forms = {
        f"{way} `{form}`": [
            f"{_points(row.bound)} ({_points(row.floor)})" for row in summary(whole, form, way).itertuples()
        ]
        for way in (POOLED, CELLWISE)
        for form in whole["form"].unique()
        if form not in (MEASURED, ZERO)
    }
    yield from table(
        ("estimate (floor), points", *forms), zip((f"`{arm}`" for arm in main["arm"]), *forms.values(), strict=True)
    )


def _points(share: float) -> str:
    return f"{100 * share:.2f}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < LARGEST else f"over {LARGEST}"
