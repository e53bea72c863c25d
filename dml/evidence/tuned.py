"""The tuned arms of the analysis plan: which schedule each arm chose on private validation images, what it reaches
with it, and whether DML is above the others when all are tuned. Described, without a verdict.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dml.evidence.accuracy import LATE, values
from dml.evidence.words import counted, table
from dml.files import read_table
from dml.stats import interval
from dml.studies.plan import Tuned, plan
from dml.studies.tuned import KEY, choice, settings


def text(folder: Path, results: pd.DataFrame) -> Iterator[str]:
    """The lines of a page: how far the runs are; once they are complete, a row an arm, beside the untuned arms of the
    same seeds in `results`. Nothing where none is on record.
    """
    file, asked = folder / "results.csv", plan().tuned
    if not file.is_file():
        return
    measured = read_table(file)
    runs = measured[KEY].drop_duplicates()
    choosing, running = (int(runs["seed"].isin(seeds).sum()) for seeds in (asked.chosen_on, asked.run_on))
    wanted, more = len(settings()) * len(asked.chosen_on), len(asked.arms) * len(asked.run_on)
    yield (
        f"Tuned arms (epochs and rate of the public phase, by private validation images of seeds "
        f"{asked.chosen_on[0]} and {asked.chosen_on[-1]}): {choosing} of {wanted} runs that choose and {running} of "
        f"{more} with what was chosen are on record."
    )
    if (choosing, running) == (wanted, more):
        yield from ["", *_chosen(measured, results, asked)]


def _chosen(measured: pd.DataFrame, results: pd.DataFrame, asked: Tuned) -> Iterator[str]:
    fixed, late = values(results, LATE), measured[(measured["metric"] == LATE) & measured["seed"].isin(asked.run_on)]
    tuned = late.groupby(["seed", "arm"])["value"].mean().unstack()
    rows = []
    for arm, setting in choice(measured, asked.chosen_on).items():
        minus = "" if arm == "dml" else counted(interval((tuned["dml"] - tuned[arm]).to_numpy()))
        gain = counted(interval((tuned[arm] - fixed.loc[tuned.index, arm]).to_numpy()))
        rows.append((f"`{arm}`", setting.public_epochs, f"{setting.public_rate:g}", gain, minus))
    yield from table(("tuned", "public epochs", "rate", "minus itself untuned", "DML minus it, both tuned"), rows)
