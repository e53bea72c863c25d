"""How many liars each method bears, from the tables of the studies of data/plan_hostile.md; nothing is typed here.

The unit is the seed, differences are paired over seeds, intervals and tests are Student's t.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from dml.evidence.words import estimate, joined, table
from dml.files import read_table
from dml.stats import ALPHA, columns, holm, interval, paired
from dml.studies.hostile import STUDIES_BY_NAME
from dml.studies.study import STUDIES

GUARD = ["arm", "rule", "clip"]
ALONE = "local+public"  # hears nobody: what cooperating has to beat
MARGIN = 0.01  # of accuracy: within it a rule is called free (data/plan_hostile.md)
NOTHING = "Nothing is on record yet."


def recorded(name: str, folder: Path = STUDIES) -> pd.DataFrame | None:
    """The results of a study, if there are any."""
    file = folder / name / "results.csv"
    return read_table(file).fillna({"attack": ""}) if file.is_file() else None


def by_seed(results: pd.DataFrame, metric: str = "accuracy") -> dict[tuple, dict[int, pd.Series]]:
    """A metric by seed, of every (arm, rule, clip) and number of liars."""
    rows = results[(results["metric"] == metric) & results["labels"]]
    made: dict[tuple, dict[int, pd.Series]] = {}
    for (*guard, liars), values in rows.groupby([*GUARD, "liars"], sort=False):
        made.setdefault(tuple(guard), {})[liars] = values.set_index("seed")["value"]
    return made


def alone(results: pd.DataFrame) -> pd.Series:
    """The accuracy of `ALONE` by seed."""
    return by_seed(results[results["arm"] == ALONE]).popitem()[1][0]


def differences(results: pd.DataFrame) -> pd.DataFrame:
    """Of every guarded arm and number of liars: columns `GUARD`, liars, attack; mean, low, high, n of its accuracy;
    lost, lost_low, lost_high against no liar; behind, p: `ALONE` minus the arm, p after Holm over the arm's numbers of
    liars.
    """
    attacks = results.groupby([*GUARD, "liars"], sort=False)["attack"].first()
    against, made = alone(results), []
    for guard, values in by_seed(results[results["arm"] != ALONE]).items():
        behind = []
        for liars, own in sorted(values.items()):
            both = pd.concat([against, own, values[0]], axis=1, join="inner", keys=["alone", "own", "honest"])
            accuracy, lost = interval(own.to_numpy()), interval((both["honest"] - both["own"]).to_numpy())
            behind.append(paired(both["alone"], both["own"], MARGIN))
            row = {**dict(zip(GUARD, guard, strict=True)), "liars": liars, "attack": attacks[(*guard, liars)]}
            made.append(row | columns(accuracy) | {"lost": lost.mean, "lost_low": lost.low, "lost_high": lost.high})
        for row, one in zip(made[-len(behind) :], holm(behind), strict=True):
            row |= {"behind": one.mean, "p": one.p}
    return pd.DataFrame(made)


def break_even(rows: pd.DataFrame) -> int | None:
    """The smallest number of liars at which `ALONE` is above the arm, of one arm's `differences`; None: at none."""
    beaten = rows[(rows["behind"] > 0) & (rows["p"] < ALPHA)]
    return None if beaten.empty else int(beaten["liars"].min())


def text(folder: Path = STUDIES) -> str:
    """A table for each study on record: accuracy by number of liars, and where cooperating stops to pay."""
    lines = []
    for name, title in TITLES.items():
        lines += [f"### {title}", "", *_study(name, recorded(name, folder)), ""]
    return joined(lines[:-1])


TITLES = {
    "hostile-veto": "One lie in the published method: 5 clients",
    "hostile": "Each rule at its worst attack: 10 clients",
}


def one_liar(folder: Path = STUDIES) -> str:
    """What one liar of five does to DML as published, and to DML that believes no probability below the clip; "" while
    no two seeds are on record.
    """
    rows = _veto(folder)
    if rows is None:
        return ""
    (usual, clip), n = _clips(rows), int(rows["n"].max())
    planned = len(STUDIES_BY_NAME["hostile-veto"].seeds)
    state = "" if n == planned else f", interim: {n} of {planned} planned"
    return (
        "with DML as published, one client of five that is sure of wrong classes takes the others' accuracy from "
        f"{_cell(rows, usual, 0)} to {_cell(rows, usual, 1)} %. Where no probability below {clip:g} is believed, from "
        f"{_cell(rows, clip, 0)} to {_cell(rows, clip, 1)} % (reduced protocol, photographs, n = {n} seeds{state})."
    )


def brief(folder: Path = STUDIES) -> str:
    """The same for the README, without the price of the clip."""
    rows = _veto(folder)
    if rows is None:
        return ""
    (usual, clip), n = _clips(rows), int(rows["n"].max())
    interim = "" if n == len(STUDIES_BY_NAME["hostile-veto"].seeds) else ", interim"
    return (
        f"one of five leaves others {_cell(rows, usual, 1)} % right; clipped at {clip:g}, "
        f"{_cell(rows, clip, 1)} (n = {n}{interim})."
    )


def _veto(folder: Path) -> pd.DataFrame | None:
    """The `differences` of DML with no liar and with some of five; None while no two seeds are on record."""
    results = recorded("hostile-veto", folder)
    if results is None or results["seed"].nunique() < 2:
        return None
    rows = differences(results)
    return rows[rows["arm"] == "dml"]


def _clips(rows: pd.DataFrame) -> tuple[float, float]:
    """The clip as published, and the largest."""
    return rows["clip"].min(), rows["clip"].max()


def _cell(rows: pd.DataFrame, clip: float, liars: int) -> str:
    """The accuracy of the honest, in per cent."""
    (row,) = rows[(rows["clip"] == clip) & (rows["liars"] == liars)].itertuples()
    return estimate(row.mean, row.low, row.high, ".1f")


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 06: one liar, in words."""
    pages = "The plan and its expectations: `data/plan_hostile.md`; all tables: `figures/hostile.md`."
    told = one_liar(folder)
    return [f"{told[0].upper()}{told[1:]}" if told else NOTHING, pages]


def _study(name: str, results: pd.DataFrame | None) -> Iterator[str]:
    if results is None or not {ALONE, "dml"} <= set(results["arm"]):
        yield NOTHING
        return
    rows, planned = differences(results), len(STUDIES_BY_NAME[name].seeds)
    n, counts = int(rows["n"].max()), sorted(rows["liars"].unique())
    state = "All" if n == planned else "**Interim, decides nothing**:"
    own = interval(alone(results).to_numpy())
    yield (
        f"{state} {n} of {planned} seeds. Accuracy of honest clients, %, mean [95 %, Student's t], reduced protocol, "
        f"real photographs; `{ALONE}`, which hears nobody: {estimate(own.mean, own.low, own.high, '.1f')}. Break-even: "
        "the fewest liars at which it is above the arm (paired t, p < 0.05 after Holm over the arm's numbers of liars)."
    )
    yield ""
    titles = ("arm", "rule", "clip", "worst attack", *(f"{count} liars" for count in counts), "break-even")
    yield from table(titles, [_line(guard, part, counts) for guard, part in rows.groupby(GUARD, sort=False)])


def _line(guard: Sequence, rows: pd.DataFrame, counts: Sequence[int]) -> tuple:
    arm, rule, clip = guard
    by_count = rows.set_index("liars")

    def cell(liars: int) -> str:
        if liars not in by_count.index:
            return "refused"
        mean, low, high = by_count.loc[liars, ["mean", "low", "high"]]
        return estimate(mean, low, high, ".1f")

    even = break_even(rows)
    attack = rows.loc[rows["liars"] > 0, "attack"].max()
    clipped = f"{clip:g}" if arm.startswith("dml") else ""
    last = f"not up to {rows['liars'].max()}" if even is None else f"{even}"
    return f"`{arm}`", "" if rule == "mean" else rule, clipped, attack, *map(cell, counts), last
