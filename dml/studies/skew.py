"""The studies of data/plan_skew.md, cell by cell and seed by seed: clients that differ in classes, models or pictures.

A cell is an experiment: the plan's protocol with some fields changed. Its arms are jobs of the usual cache, so that a
killed run goes on where it stopped; after each seed what was measured is added to the tables on record.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dml.config import DATA, Experiment, profile
from dml.data.folds import deal, mixture
from dml.data.images import Images, images_of
from dml.experiment import cache as store
from dml.experiment import jobs, results
from dml.experiment.jobs import Job
from dml.streams import SERVER
from dml.studies import tables
from dml.studies.plan import block, span, within
from dml.studies.study import STUDIES
from dml.training import machine

FILE = DATA / "plan_skew.md"
NAMES = ("skew", "models", "pictures")
METRICS = tuple(f"unseen {what}" for what in ("accuracy", "personal accuracy", "log loss", "disagreement"))
KEY = ["cell", "seed", "arm"]
RESULTS = [*KEY, "client", "metric", "value"]
COSTS = [*KEY, "up", "down", "setup", "epochs", "wall_s", "cpu_s", "commit", "processor"]
CELLS = ["cell", "seed", "client", "images", "distance"]


@dataclass(frozen=True)
class Cell:
    """An experiment with a name that says what was changed in it; on the data set `data`, "" for the plan's."""

    name: str
    experiment: Experiment
    data: str = ""


@dataclass(frozen=True)
class Grid:
    """Cells, the arms that are run in each, and on which seeds."""

    cells: tuple[Cell, ...]
    arms: tuple[str, ...]
    seeds: range


@dataclass(frozen=True)
class Plan:
    """The data set, the margin of "equal" (a share of accuracy), and the grids of each study."""

    data: str
    margin: float
    grids: Mapping[str, tuple[Grid, ...]]


@cache
def plan(file: Path = FILE) -> Plan:
    """The plan of a file. Raises ValueError when it holds no TOML block, and for a field that is none."""
    told = block(file)
    base = replace(profile(told["profile"]).experiment, unseen_images=told["unseen_images"], glance=0)
    grids = {name: tuple(_grid(base, entry) for entry in told[name]) for name in NAMES}
    return Plan(told["data"], told["margin"], grids)


def _grid(base: Experiment, told: dict) -> Grid:
    cells = (cell(base, alpha, fields) for alpha, fields in product(told["label_alpha"], told["fields"]))
    return Grid(tuple(cells), tuple(told["arms"]), span(told["seeds"]))


def cell(base: Experiment, label_alpha: float, fields: Mapping[str, Any]) -> Cell:
    """A cell of an experiment: `label_alpha` inf is none; `fields` are of it, but "data". Raises ValueError."""
    changed = {name: value for name, value in fields.items() if name != "data"}
    try:
        experiment = replace(base, label_alpha=None if label_alpha == inf else label_alpha, **changed)
    except TypeError as error:
        raise ValueError(f"fields {dict(fields)}: {error}") from error
    named = {"label_alpha": label_alpha, **fields}
    return Cell(
        "; ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in named.items()
        ),
        experiment,
        fields.get("data", ""),
    )


def pairs(study: str, seed: int, device: torch.device) -> dict[tuple[str, int, str], tuple[Cell, Job]]:
    """What a study computes of a seed: the job of every (cell, seed, arm). Raises DataError when data do not fit."""
    listed = {}
    for grid in plan().grids[study]:
        for here in grid.cells if seed in grid.seeds else ():
            for arm in grid.arms:
                (job,) = results.arm_jobs(here.data or plan().data, here.experiment, [seed], device, [arm])
                listed[here.name, seed, arm] = here, job
    return listed


def seeds_of(study: str) -> list[int]:
    """All seeds of a study, in order."""
    return sorted({seed for grid in plan().grids[study] for seed in grid.seeds})


def carry_out(study: str, seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES) -> Path:
    """Compute what is not on record of the named seeds, all by default; after each seed, add it to the tables in
    `to`/<study>, which is returned. Raises ValueError for another study or seed, DataError when the data do not fit.
    """
    if study not in NAMES:
        raise ValueError(f"study {study!r}: choose one of {', '.join(NAMES)}")
    target, folder = machine.device(device), to / study
    for seed in within(seeds, seeds_of(study)):
        listed = pairs(study, seed, target)
        done = tables.there(folder / "costs.csv", KEY)
        missing = {key: part for key, part in listed.items() if key not in done}
        jobs.carry_out(job for _, job in missing.values())
        if missing:
            _collect(study, missing, folder, target)
    return folder


def _collect(study: str, done: Mapping[tuple[str, int, str], tuple[Cell, Job]], folder: Path, device: torch.device):
    """Add what jobs have measured to the tables; `costs` is the last one, and what it names is in the others."""
    measured, costs, dealt = [], [], []
    for key, (here, job) in done.items():
        told = json.loads(job.files[0].read_text(encoding="utf-8"))
        rows = [row for row in told["rows"] if row["metric"] in METRICS and row["round"] == here.experiment.rounds]
        measured += [(*key, row["client"], row["metric"], round(row["value"], 6)) for row in rows]
        costs.append(
            (
                *key,
                *_bytes(told["ledger"], here.experiment),
                len(told["history"]),
                told["wall_s"],
                told["cpu_s"],
                told["commit"],
                machine.processor(device),
            )
        )
    for name, seed in dict.fromkeys(key[:2] for key in done):
        here = next(part for key, (part, _) in done.items() if key[:2] == (name, seed))
        images = images_of(here.data or plan().data, here.experiment)
        dealt += [(name, seed, *row) for row in distances(images, here.experiment, seed)]
    tables.add(folder / "results.csv.gz", pd.DataFrame(measured, columns=RESULTS), KEY)
    tables.add(folder / "cells.csv", pd.DataFrame(dealt, columns=CELLS), ["cell", "seed"])
    images = images_of(plan().data, next(iter(done.values()))[0].experiment)
    experiments = {here.name: asdict(here.experiment) for grid in plan().grids[study] for here in grid.cells}
    facts: dict[str, Any] = {"study": study, "data": images.name, "source": images.source, "classes": images.classes}
    facts |= {"experiments": experiments, "code_version": store.code_version()}
    tables.manifest(folder, facts, device)
    tables.add(folder / "costs.csv", pd.DataFrame(costs, columns=COSTS), KEY)


def distances(images: Images, experiment: Experiment, seed: int) -> Iterator[tuple[int, int, float]]:
    """Of every client: how many private images it has, and the total variation of its classes to the training set's."""
    labels = images.train.labels.numpy()
    folds, classes = deal(labels, experiment, seed), len(images.classes)
    for client in range(experiment.clients):
        own = np.concatenate([dealt[client] for dealt in folds.private])
        apart = np.abs(mixture(labels[own], classes) - mixture(labels, classes)).sum() / 2
        yield client, len(own), round(float(apart), 6)


def _bytes(ledger: Sequence[dict], experiment: Experiment) -> tuple[float, float, float]:
    """Bytes of one client in a round up and down (to or from anybody), and of its set-up; means over the clients."""
    table = pd.DataFrame(ledger)
    later, share = table[table["round"] > 0], experiment.clients * experiment.rounds
    up = later.loc[later["sender"] != SERVER, "encoded"].sum() / share
    down = later.loc[later["receiver"] != SERVER, "encoded"].sum() / share
    return round(up, 1), round(down, 1), round(table.loc[table["round"] == 0, "encoded"].sum() / experiment.clients, 1)
