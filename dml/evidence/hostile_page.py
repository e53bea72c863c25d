"""The page figures/hostile.md: a table a study of data/plan_hostile.md, which expectations came true, the sweep."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from dml.config import CLIP
from dml.evidence import expectations, hostile_panels, sweep
from dml.evidence.answers import FAILED, HELD, OPEN
from dml.evidence.hostile import (
    ALONE,
    GUARD,
    NOTHING,
    alone,
    break_even,
    break_evens,
    by_seed,
    differences,
    recorded,
    several,
)
from dml.evidence.words import estimate, joined, table
from dml.stats import interval
from dml.studies.hostile import BASE, STUDIES_BY_NAME
from dml.studies.study import STUDIES

TITLES = {
    "hostile-veto": "One lie in the published method: 5 clients",
    "hostile-relatives": "The same lie among DML's relatives: 5 clients",
    "hostile": "Each rule at its worst attack: 10 clients",
}


def text(folder: Path = STUDIES) -> str:
    """A table for each study on record: accuracy by number of liars, and where cooperating stops to pay; which
    expectations held; the sweep.
    """
    lines = []
    for name, title in TITLES.items():
        lines += [f"### {title}", "", *_study(name, recorded(name, folder)), ""]
    if (grid := recorded("hostile", folder)) is not None:
        lines += [*hostile_panels.prices(grid), ""]
    for name, title in hostile_panels.TITLES.items():
        there = recorded(name, folder)
        lines += [f"### {title}", "", *([NOTHING] if there is None else hostile_panels.lines(name, there)), ""]
    expected = list(expectations.lines({name: _complete(name, folder) for name in expectations.EXPECTED}))
    expected += counted(*_complete("hostile", folder)) if expected else []
    rule = "How H1 to H4 are judged was written when the first five seeds of that study had been seen (post hoc)."
    lines += [f"### {expectations.TITLE}", "", *([rule, "", *expected] if expected else [NOTHING]), ""]
    return joined([*lines, f"### {sweep.TITLE}", "", *sweep.lines(folder)])


def counted(results: pd.DataFrame | None, complete: bool) -> Iterator[str]:
    """The row on H6, which is a count: at how many liars hearing nobody is better than each of three arms."""
    if results is None or not {("dml", "mean", CLIP), ("dml", "mean", BASE.clip)} <= set(by_seed(results)):
        return
    rows = differences(results)
    even = break_evens(rows)
    asked = {("dml", "mean", CLIP): (4, None), ("dml", "mean", BASE.clip): (1,), ("fedavg", "mean", BASE.clip): (1, 2)}
    right = all(even[guard] in expected for guard, expected in asked.items())
    said = (HELD if right else FAILED) if complete else f"{OPEN}: interim"
    for (arm, _, clip), expected in asked.items():
        words = " or ".join("not reached" if each is None else f"{each}" for each in expected)
        found = even[arm, "mean", clip]
        shown = "not reached" if found is None else f"{found}"
        alone = (HELD if found in expected else FAILED) if complete else ""
        by = f"`{arm}`, clip {clip:g}, break-even"
        yield f"| H6 | **{said}** | {by} | {words} | {shown} | {alone} | {rows['n'].max()} |"


def _complete(name: str, folder: Path) -> tuple[pd.DataFrame | None, bool]:
    """The results of a study with at least two seeds, and whether all are there."""
    results, planned = several(name, folder), len(STUDIES_BY_NAME[name].seeds)
    return results, results is not None and results["seed"].nunique() == planned


def _study(name: str, results: pd.DataFrame | None) -> Iterator[str]:
    if results is None or not {ALONE, "dml"} <= set(results["arm"]):
        yield NOTHING
        return
    rows = differences(results)
    counts = sorted(rows["liars"].unique())
    own = interval(alone(results).to_numpy())
    hears_nobody = f"{estimate(own.mean, own.low, own.high, '.1f')} (n = {own.n})"
    yield (
        f"{hostile_panels.head(name, int(rows['n'].max()))} Accuracy of honest clients, %, mean [95 %, Student's t], "
        f"reduced protocol, photographs; `{ALONE}`, which hears nobody: {hears_nobody}. "
        "Break-even: the fewest liars at which it is shown to be above the arm (paired t, p < 0.05 after Holm over the "
        "arm's numbers of liars); *not shown* does not mean that cooperating pays."
    )
    yield ""
    titles = (
        "arm",
        "rule",
        "clip",
        "attack",
        *(f"{count} liar{'' if count == 1 else 's'}" for count in counts),
        "break-even",
        "n",
    )
    yield from table(titles, [_line(guard, part, counts) for guard, part in rows.groupby(GUARD, sort=False)])
    for (arm, liars), part in results[results["metric"] == "infected"].groupby(["arm", "liars"]):
        held, honest = interval(part["value"].to_numpy()), part["clients"].max() - liars
        yield ""
        yield (
            f"`{arm}` with {liars} liar{'s' * (liars > 1)}: {estimate(held.mean, held.low, held.high, '.2f', 1)} of "
            f"the {honest} honest clients hold a net that descends from one that a liar sent (n = {held.n})."
        )


def _line(guard: Sequence, rows: pd.DataFrame, counts: Sequence[int]) -> tuple:
    by_count, lied_to = rows.set_index("liars"), rows["liars"].max() > 0

    def cell(liars: int) -> str:
        if liars not in by_count.index:
            return "refused" if lied_to else ""
        mean, low, high = by_count.loc[liars, ["mean", "low", "high"]]
        return estimate(mean, low, high, ".1f")

    even, n, most = break_even(rows), rows["n"].max(), rows["liars"].max()
    attack = rows.loc[rows["liars"] > 0, "attack"].max() if lied_to else ""
    last = "" if not lied_to else f"{even}" if even is not None else f"not shown up to {most}" if n > 1 else "no test"
    return *hostile_panels.cells(guard), attack, *map(cell, counts), last, n
