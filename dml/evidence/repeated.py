"""What changes when seeds of the published protocol are computed once more: on a CPU beside a GPU, in bf16 beside
float32, and those of before the plan on the GPU of the others. Described, without a verdict.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from dml.config import RECORDED
from dml.evidence.about import RUNS, read
from dml.evidence.accuracy import LATE, values
from dml.evidence.beside import Kinds, by_machine, sampled
from dml.evidence.confirmatory import decisive
from dml.evidence.words import counted, points
from dml.files import read_table
from dml.stats import ALPHA, Estimate, interval
from dml.studies.plan import Study, plan
from dml.studies.study import PAIR, TABLES

GAP = "DML minus `fedavg`"


def text(folder: Path, results: pd.DataFrame) -> Iterator[str]:
    """The lines of a page: a paragraph for each repetition that is on record under `folder`, beside the `results` of
    the study's seeds.
    """
    first, costs = values(results, LATE), read_table(folder / "published" / TABLES["costs"])
    devices, precision = plan().devices, plan().precision
    on_a_cpu, in_bf16 = _whole(devices, folder), of_one_processor(_whole(precision, folder), costs, folder)
    for study, table, how in (
        (devices, on_a_cpu, "The same seeds on a CPU as well ({}), GPU minus CPU"),
        (precision, in_bf16, "The same seeds in bf16 as well ({}), float32 minus bf16"),
    ):
        if not table.empty:
            second = values(table, LATE)
            yield from ["", _moved(how, study, second, changed(first, second))]
    yield from _earlier(folder, results, costs)


def of_one_processor(table: pd.DataFrame, costs: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Those of the seeds in bf16 whose rows are of the same processor as the first: the machine is not to change."""
    if table.empty:
        return table
    own = read_table(folder / plan().precision.name / TABLES["costs"])
    first, second = (each.set_index(PAIR)["processor"] for each in (costs, own))
    same = (second == first.reindex(second.index)).groupby("seed").all()
    return table[table["seed"].isin(same.index[same])]


def changed(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, pd.Series]:
    """First minus second, tables of a row a seed and a column an arm: each arm of the second, and DML minus FedAvg."""
    moved = (first.loc[second.index, list(second)] - second).rename(columns="`{}`".format)
    return {**moved, GAP: moved["`dml`"] - moved["`fedavg`"]}


def _moved(how: str, study: Study, second: pd.DataFrame, moved: Mapping[str, pd.Series]) -> str:
    parts = "; ".join(f"{name} {counted(interval(part.to_numpy()))}" for name, part in moved.items())
    return f"{how.format(f'{len(second)} of {len(study.confirmatory)}')}: {parts}."


def _earlier(folder: Path, results: pd.DataFrame, costs: pd.DataFrame) -> Iterator[str]:
    """What the GPU changes in the seeds of before the plan, and how far both kinds of seed are apart on it; nothing
    before each kind has two seeds of one GPU.
    """
    study, first = plan().earlier, sampled(read(RECORDED / RUNS["published"], "results"))
    again, fresh = _whole(study, folder), sampled(results)
    if again.empty:
        return
    second, own = sampled(again), read_table(folder / study.name / TABLES["costs"])
    (processor, *others), moved = own["processor"].unique(), changed(first, second)
    kinds = Kinds(second["dml"] - second["fedavg"], (fresh["dml"] - fresh["fedavg"]).dropna())
    there = kinds._replace(fresh=by_machine(kinds, "", costs).get(processor, pd.Series(dtype=float)))
    if others or min(map(len, there)) < 2:
        return
    how = "The exploratory seeds on a GPU as well ({}), in that sample, CPU minus GPU"
    change, before, after = (interval(each.to_numpy()) for each in (moved[GAP], *there))
    yield ""
    yield (
        f"{_moved(how, study, second, moved)} Both kinds of seed on the {processor}: {GAP} {counted(before)} of "
        f"exploratory and {counted(after)} of confirmatory ones, apart by {points(there.apart)}, p = {there.p:.2g} "
        f"(Welch's t; chosen after both kinds were seen). {shown(change, there)}"
    )


def shown(change: Estimate, there: Kinds) -> str:
    """What both numbers show, in words: nothing shown is not called nothing. Versions changed with the machine."""
    move = "move" if change.low > 0 or change.high < 0 else "are not shown to move"
    apart = "are apart there" if there.p < ALPHA else "are not shown to be apart there, nor to be alike"
    return f"So machine and versions {move} the difference, and the two kinds of seed {apart}."


def _whole(study: Study, folder: Path) -> pd.DataFrame:
    """The results on record of the seeds that have all arms of a repetition."""
    return decisive(study, folder / study.name)
