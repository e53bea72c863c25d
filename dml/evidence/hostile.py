"""How many liars each method bears, from the tables of the studies of data/plan_hostile.md; nothing is typed here.

The unit is the seed, differences are paired over seeds, intervals and tests are Student's t.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dml.config import CLIP, SMALL
from dml.evidence.answers import HELD, OPEN, REFUTED, lists
from dml.evidence.expectations import BORNE
from dml.evidence.transmission import PUBLISHED
from dml.evidence.words import capital, estimate, pages, points, progress
from dml.files import read_table
from dml.stats import ALPHA, Estimate, columns, holm, interval, paired
from dml.studies.hostile import STUDIES_BY_NAME
from dml.studies.study import STUDIES

GUARD = ["arm", "rule", "clip"]
ALONE = "local+public"  # hears nobody: what cooperating has to beat
MARGIN = 0.01  # of accuracy: within it a rule is called free (data/plan_hostile.md)
CLIPPED = "clipped"
NOTHING = "Nothing is on record yet."
BESIDE = {"hostile-relatives": "hostile-veto"}  # studies that share folds, seeds and lie


def recorded(name: str, folder: Path = STUDIES) -> pd.DataFrame | None:
    """The results of a study, if there are any; with those that it is set beside, of the same seeds."""
    file = folder / name / "results.csv"
    if not file.is_file():
        return None
    own, beside = read_table(file).fillna({"attack": ""}), recorded(BESIDE.get(name, ""), folder)
    return own if beside is None else pd.concat([beside[beside["seed"].isin(own["seed"])], own], ignore_index=True)


def several(name: str, folder: Path = STUDIES) -> pd.DataFrame | None:
    """The results of a study of two seeds at least, which an interval or a figure needs; else None."""
    results = recorded(name, folder)
    return results if results is not None and results["seed"].nunique() > 1 else None


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


def break_evens(rows: pd.DataFrame) -> dict[tuple, int | None]:
    """The `break_even` of every arm, rule and clip, of `differences`."""
    return {guard: break_even(part) for guard, part in rows.groupby(GUARD, sort=False)}


def state(name: str, results: pd.DataFrame) -> str:
    """For a caption: how many of a study's seeds are on record."""
    return progress(results["seed"].nunique(), len(STUDIES_BY_NAME[name].seeds), "seeds")


def one_liar(folder: Path = STUDIES) -> str:
    """What one liar of five does to DML as published, and to DML that believes no probability below the clip, and at
    how many such liars hearing nobody is better; "" while no two seeds are on record.
    """
    rows = _veto(folder)
    if rows is None:
        return ""
    (usual, clip), n = _clips(rows), int(rows["n"].max())
    planned = len(STUDIES_BY_NAME["hostile-veto"].seeds)
    state = "" if n == planned else f", interim: {n} of {planned} planned"
    most = int(rows["liars"].max())
    told = (
        f"{_from(break_even(rows[rows['clip'] == each]), most)} ({name})"
        for each, name in ((usual, "as published"), (clip, "clipped"))
    )
    return (
        "with the clip as published, one client of five that is sure of wrong classes takes the others' accuracy from "
        f"{_cell(rows, usual, 0)} to {_cell(rows, usual, 1)} %. Where no probability below {clip:g} is believed, from "
        f"{_cell(rows, clip, 0)} to {_cell(rows, clip, 1)} % (reduced protocol, photographs, n = {n} "
        f"seeds{state}). `{ALONE}` is shown better from {' and '.join(told)} such liars."
    )


def brief(folder: Path = STUDIES) -> str:
    """The same for the README, without the price of the clip but with two such liars, and how many of ten are borne."""
    rows = _veto(folder)
    if rows is None:
        return ""
    (usual, clip), n = _clips(rows), int(rows["n"].max())
    interim = "" if n == len(STUDIES_BY_NAME["hostile-veto"].seeds) else ", interim"
    clipped = f"clipped, {_cell(rows, clip, 1).partition(' ')[0]}"
    if rows["liars"].max() > 1:
        clipped += f", two {_cell(rows, clip, 2).partition(' ')[0]}"
    left = f"one veto among five leaves others {_cell(rows, usual, 1)} % right; {clipped} ({n}{interim})."
    return f"{left} {_of_ten(folder)}".rstrip()


def _of_ten(folder: Path) -> str:
    """The break-even of three arms of the grid; "" while that is not complete."""
    results = recorded("hostile", folder)
    if results is None or (n := results["seed"].nunique()) < len(STUDIES_BY_NAME["hostile"].seeds):
        return ""
    even, most = break_evens(differences(results)), results["liars"].max()
    asked = {"DML": ("dml", SMALL.clip), "FedAvg": ("fedavg", SMALL.clip), "clipped": ("dml", CLIP)}
    found = {name: even[arm, "mean", clip] for name, (arm, clip) in asked.items()}
    told = (f"{_from(fewest, most)} ({name})" for name, fewest in found.items())
    return f"Of ten, `{ALONE}` is shown better from {', '.join(told)} liars ({n} seeds)."


def _from(fewest: int | None, most: int) -> str:
    """A break-even in words."""
    return f"none to {most}" if fewest is None else f"{fewest}"


def _veto(folder: Path) -> pd.DataFrame | None:
    """The `differences` of DML with no liar and with some of five; None while no two seeds are on record."""
    results = several("hostile-veto", folder)
    if results is None:
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


def judged(folder: Path = STUDIES) -> list[dict]:
    """Verdict rows (see `verdicts.COLUMNS`): does DML bear one lying client of five, as published and with the clip? As
    H1 and H3 of the plan have it: that takes less than `BORNE`, and without a liar the clip costs less than `MARGIN`.
    Of a study that is not complete all is open; none while no two seeds are on record.
    """
    results = several("hostile-veto", folder)
    if results is None:
        return []
    made, (usual, *_, clip) = by_seed(results), sorted(results["clip"].unique())
    plain, clipped = (made["dml", "mean", floor] for floor in (usual, clip))
    lost = "what one liar of 5 takes"
    price = {"price without a liar": (plain[0] - clipped[0], MARGIN)}
    return [
        _row(PUBLISHED, "bears one client of five that vetoes", {lost: (plain[0] - plain[1], BORNE)}),
        _row(CLIPPED, f"the same, no probability below {clip:g}", {lost: (clipped[0] - clipped[1], BORNE), **price}),
    ]


def _row(system: str, says: str, asked: Mapping[str, tuple[pd.Series, float]]) -> dict:
    """A verdict from differences by seed that are claimed to lie under a bound."""
    found = {name: interval(values.dropna().to_numpy()) for name, (values, _) in asked.items()}
    n, planned = min(one.n for one in found.values()), len(STUDIES_BY_NAME["hostile-veto"].seeds)
    answered = {name: _under(one, asked[name][1]) if n == planned else OPEN for name, one in found.items()}
    state = "" if n == planned else f"interim: {n} of {planned} seeds; "
    told = "; ".join(
        f"{name} {points(one)} (under {100 * asked[name][1]:g}) {answered[name]}" for name, one in found.items()
    )
    short = f"{state}points, n = {n}: {told}"
    return {
        "claim": "O1",
        "system": system,
        "says": says,
        **lists(answered),
        "figure": "06_hostile_veto",
        "why": short,
        "short": short,
    }


def _under(found: Estimate, bound: float) -> str:
    return HELD if found.high < bound else REFUTED if found.low > bound else OPEN


def on_record(folder: Path = STUDIES) -> list[str]:
    """Notebook 06: one liar, in words."""
    told = one_liar(folder)
    return [" ".join((capital(told), _of_ten(folder))).rstrip() if told else NOTHING, pages("hostile")]
