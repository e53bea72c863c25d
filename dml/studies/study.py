"""A study of the analysis plan: its arms and seeds, computed seed by seed and added to the tables on record."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from dml.config import RECORDED
from dml.data.images import copies, images_of
from dml.experiment import cache, jobs, results
from dml.studies import tables
from dml.studies.plan import Study, within
from dml.training import machine

STUDIES = RECORDED / "studies"
PAIR = ["seed", "arm"]
TABLES = {"results": "results.csv.gz", "right": "right.csv.gz", "history": "history.csv.gz", "costs": "costs.csv"}
DETAIL = {"history": ["loss", "accuracy"]}  # kept as means over the clients


def carry_out(study: Study, seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES) -> None:
    """Compute what is not on record of the named seeds, all that decide by default; after each seed, add it to the
    tables in `to`/<study>.

    A killed run goes on where it stopped: what the cache holds is not computed again. Raises ValueError for a seed that
    does not decide and for bf16 where the hardware has none, DataError when the data do not fit.
    """
    asked, target, folder = within(seeds, study.confirmatory), machine.device(device), to / study.name
    machine.check(study.precision, target)
    for seed in asked:
        missing = [arm for arm in study.arms if (seed, arm) not in tables.there(folder / TABLES["costs"], PAIR)]
        if missing:
            jobs.carry_out(results.arm_jobs(study.data, study.experiment, [seed], target, missing))
            collect(study, [seed], device, to)


def collect(study: Study, seeds: Sequence[int], device: str = "auto", to: Path = STUDIES) -> None:
    """Add to the tables of a study what the cache holds of these seeds and is not on record yet."""
    target, folder = machine.device(device), to / study.name
    images = images_of(study.data, study.experiment)
    files = results.places(images, study.experiment, seeds, target, study.arms)
    done = tables.there(folder / TABLES["costs"], PAIR)
    new = {pair: file for pair, file in files.items() if file.is_file() and pair not in done}
    if not new:
        return
    parts = {pair: json.loads(file.read_text(encoding="utf-8")) for pair, file in new.items()}
    measured = results.tables(parts, set())
    costs = measured.costs.drop(columns="reused").assign(processor=machine.processor(target))

    def place(table: pd.DataFrame) -> pd.Series:
        return table["seed"] * len(study.arms) + table["arm"].map(list(study.arms).index)

    for name, table in {"results": measured.results, "right": measured.right, "history": measured.history}.items():
        tables.add(folder / TABLES[name], _brief(table, DETAIL.get(name)), PAIR, place)
    tables.add(folder / TABLES["costs"], costs, PAIR, place)  # the last table: what it names is in the others
    facts = {
        "study": study.name,
        "profile": study.profile,
        "data": images.name,
        "source": images.source,
        "data_sha256": images.sha256,
        "classes": images.classes,
        "unseen_copies": copies(images),
        "experiment": asdict(study.experiment),
        "code_version": cache.code_version(),
    }
    tables.manifest(folder, facts, target)


def _brief(table: pd.DataFrame, values: list[str] | None) -> pd.DataFrame:
    """The table, or the means of its `values` over the clients."""
    if values is None:
        return table
    keys = [name for name in table if name not in ("client", *values)]
    return table.groupby(keys, sort=False, as_index=False)[values].mean().round(6)
