"""What PDMM and averaging were given: penalty c, learning rate and epochs, swept together on clean runs alone.

The values of the hostile grid were fixed before; this says how far they are from the best ones, on seeds that decide
nothing (data/plan_hostile.md, Deviations). Epochs are those of every phase, as in the whole project.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from dml.data.images import images_of
from dml.experiment import cache, jobs
from dml.experiment.jobs import Job
from dml.studies import hostile, tables
from dml.studies.plan import within
from dml.studies.study import STUDIES
from dml.training import machine

NAME = "hostile-sweep"
SEEDS = range(5)
ARMS = ("fedavg", "pdmm, c = 0.01", "pdmm, c = 0.1", "pdmm, c = 1")
RATES, EPOCHS = (3e-4, 1e-3, 3e-3), (3, 10)
METRICS = ("accuracy", "worst")
KEYS = ["seed", "arm", "learning_rate", "epochs"]


class Setting(NamedTuple):
    """A seed of an arm with its learning rate and epochs."""

    seed: int
    arm: str
    learning_rate: float
    epochs: int


def listed(data: str, seed: int, device: str) -> dict[Setting, Job]:
    """The job of every setting of a seed. Raises DataError when the data do not fit."""
    from dml.hostile.cells import Cell  # an annex

    made, cells = {}, [Cell(arm, hostile.BASE.clients) for arm in ARMS]
    for rate, epochs in product(RATES, EPOCHS):
        base = replace(hostile.BASE, learning_rate=rate, epochs=epochs)
        for (_, cell), job in hostile.jobs_of(data, cells, [seed], base, device).items():
            made[Setting(seed, cell.arm, rate, epochs)] = job
    return made


def carry_out(seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES, data: str = "facemask") -> Path:
    """Compute what is not on record of the named seeds, all by default; after each seed its rows are in `to`/`NAME`,
    which is returned. Raises ValueError for another seed, DataError when the data do not fit.
    """
    folder = to / NAME
    for seed in within(seeds, SEEDS):
        recorded = tables.there(folder / "costs.csv", KEYS)
        missing = {key: job for key, job in listed(data, seed, device).items() if tuple(key) not in recorded}
        jobs.carry_out(missing.values())
        if missing:
            _add(folder, {key: hostile.recorded_by(job) for key, job in missing.items()}, data, device)
    return folder


def _add(folder: Path, records: dict[Setting, dict], data: str, device: str) -> None:
    """Put records into the tables of a folder; costs.csv, which says what is there, last."""
    rows = [(*key, metric, record["values"][metric]) for key, record in records.items() for metric in METRICS]
    spent = [(*key, round(record["cpu_s"], 2), record["commit"]) for key, record in records.items()]
    tables.add(folder / "results.csv", pd.DataFrame(rows, columns=[*KEYS, "metric", "value"]), KEYS)
    images = images_of(data, hostile.BASE)
    facts: dict[str, Any] = {"study": NAME, "data": images.name, "source": images.source, "classes": images.classes}
    facts |= {"experiment": asdict(hostile.BASE), "code_version": cache.code_version()}
    tables.manifest(folder, facts, machine.device(device))
    tables.add(folder / "costs.csv", pd.DataFrame(spent, columns=[*KEYS, "cpu_s", "commit"]), KEYS)
