"""The tuned arms of the analysis plan: which schedule each arm chose on private validation images, what it reaches
with it, and whether DML is above the others when all are tuned. Described, without a verdict.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dml.evidence.accuracy import LATE, values
from dml.evidence.words import counted, points, table
from dml.files import read_table
from dml.stats import Estimate, interval
from dml.studies.plan import plan
from dml.studies.tuned import KEY, Setting, choice, settings

PRIVATE = "validation accuracy"
ADDED = "Seeds 13 to 19 were added after the first five had been seen (the plan's deviations)."


class Chosen(NamedTuple):
    """What an arm chose, and differences over the seeds that run with it. Itself with its choice minus itself as
    published: late unseen accuracy, and last accuracy on private validation images, by which it was chosen on other
    seeds. In late unseen accuracy DML minus it, both with their choice, and DML as published minus it with its choice.
    """

    setting: Setting
    gain: Estimate
    private: Estimate
    both: Estimate
    published: Estimate


def text(folder: Path, results: pd.DataFrame) -> Iterator[str]:
    """The lines of a page: how far the runs are; once they are complete, a row an arm, beside the arms as published of
    the same seeds in `results`. Nothing where none is on record.
    """
    file, asked = folder / "results.csv", plan().tuned
    if not file.is_file():
        return
    choosing, running = _done(read_table(file))
    wanted, more = _planned()
    yield (
        f"Tuned arms (epochs and rate of the public phase, by private validation images of seeds "
        f"{asked.chosen_on[0]} and {asked.chosen_on[-1]}): {choosing} of {wanted} runs that choose and {running} of "
        f"{more} with what was chosen are on record. {ADDED}"
    )
    rows = []
    for arm, one in chosen(folder, results).items():
        apart = ("", "") if arm == "dml" else (counted(one.both), counted(one.published))
        rows.append(
            (
                f"`{arm}`",
                one.setting.public_epochs,
                f"{one.setting.public_rate:g}",
                counted(one.gain),
                counted(one.private),
                *apart,
            )
        )
    if rows:
        titles = ("tuned", "public epochs", "rate", "minus itself untuned", "the same on private validation images")
        yield from [
            "",
            *table((*titles, "DML minus it, both tuned", "DML untuned minus it tuned (asked afterwards)"), rows),
        ]


def brief(folder: Path, results: pd.DataFrame) -> str:
    """DML, as published and tuned, minus public labels alone, tuned, for the README; "" while runs are missing."""
    one = chosen(folder, results).get("local+public")
    if one is None:
        return ""
    return (
        f"Published, `{one.setting.arm}` tuned: DML {points(one.published)}, tuned {points(one.both)} ({one.both.n})."
    )


def on_record(folder: Path, results: pd.DataFrame) -> list[str]:
    """The same of all arms in a paragraph of notebook 02; none while runs are missing."""
    found = chosen(folder, results)
    if not found:
        return []
    own, others = found["dml"], [arm for arm in found if arm != "dml"]
    both, published = (
        "; ".join(f"minus `{arm}` {points(getattr(found[arm], which))}" for arm in others)
        for which in ("both", "published")
    )
    return [
        "**With a schedule of its own for each arm**, chosen on private validation images of other seeds: "
        f"n = {own.both.n}, without a verdict. DML {both}. DML with its choice minus DML as published "
        f"{points(own.gain)}, and on the private validation images of these seeds {points(own.private)}: the choice "
        f"rests on two seeds. DML as published, against the others' choices: {published}."
    ]


def chosen(folder: Path, results: pd.DataFrame) -> Mapping[str, Chosen]:
    """By arm what it chose and reached; empty while runs are missing."""
    file, asked = folder / "results.csv", plan().tuned
    if not file.is_file() or _done(measured := read_table(file)) != _planned():
        return {}
    late = measured[(measured["metric"] == LATE) & measured["seed"].isin(asked.run_on)]
    tuned = late.groupby(["seed", "arm"])["value"].mean().unstack()
    fixed = values(results, LATE).loc[tuned.index]
    again, first = (values(each, PRIVATE).loc[tuned.index] for each in (measured, results))

    def apart(first: pd.Series, second: pd.Series) -> Estimate:
        return interval((first - second).to_numpy())

    return {
        arm: Chosen(
            setting,
            gain=apart(tuned[arm], fixed[arm]),
            private=apart(again[arm], first[arm]),
            both=apart(tuned["dml"], tuned[arm]),
            published=apart(fixed["dml"], tuned[arm]),
        )
        for arm, setting in choice(measured, asked.chosen_on).items()
    }


def _done(measured: pd.DataFrame) -> tuple[int, int]:
    """How many runs that choose, and with what was chosen, are on record."""
    runs, asked = measured[KEY].drop_duplicates(), plan().tuned
    return int(runs["seed"].isin(asked.chosen_on).sum()), int(runs["seed"].isin(asked.run_on).sum())


def _planned() -> tuple[int, int]:
    """How many of both are planned."""
    asked = plan().tuned
    return len(settings()) * len(asked.chosen_on), len(asked.arms) * len(asked.run_on)
