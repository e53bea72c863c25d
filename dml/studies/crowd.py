"""The study of data/plan_crowd.md: many clients, cell by cell and seed by seed, added to the tables on record."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dml.config import DATA, Experiment, profile
from dml.data.images import images_of
from dml.experiment import cache as store
from dml.experiment import jobs
from dml.experiment.jobs import Job
from dml.studies import tables
from dml.studies.plan import block, span, within
from dml.studies.study import STUDIES
from dml.training import machine

if TYPE_CHECKING:  # an annex: imported inside functions alone
    from dml.crowd.cells import Cell

FILE = DATA / "plan_crowd.md"
NAME = "crowd"
FIELDS = ("arm", "clients", "rounds", "share", "kept", "one_public")
ALONE = ("self", "self, own start", "local", "local+public")  # nobody hears of anybody: the same whatever K
KEY = ["data", "seed", *FIELDS]
CLIENTS = [*KEY, "client", "accuracy", "log_loss", "disagreement", "turns", "staleness"]
RUNS = [
    *(*KEY, "up", "down", "setup", "server_in", "server_out", "table_age", "float32_error"),
    *("client_epochs", "wall_s", "cpu_s", "look_s", "commit", "processor"),
]


@dataclass(frozen=True)
class Grid:
    """Cells that are run on the same seeds of one data set."""

    data: str
    seeds: range
    cells: "tuple[Cell, ...]"


@dataclass(frozen=True)
class Plan:
    """The protocol of each data set, images of a fold, the margin of "equal" (a share of accuracy), and the grids."""

    bases: dict[str, Experiment]
    fold: int
    margin: float
    grids: tuple[Grid, ...]

    @property
    def seeds(self) -> list[int]:
        """All seeds, in order."""
        return sorted({seed for grid in self.grids for seed in grid.seeds})


@cache
def plan(file: Path = FILE) -> Plan:
    """The plan of a file. Raises ValueError when it holds no TOML block, and for an arm that there is not."""
    told = block(file)
    base = replace(profile(told["profile"]).experiment, **told["fields"], glance=0)
    bases = {data: replace(base, train_images=count) for data, count in told["train_images"].items()}
    return Plan(bases, told["fold"], told["margin"], tuple(map(_grid, told["crowd"])))


def _grid(told: dict[str, Any]) -> Grid:
    from dml.crowd.cells import Cell

    options = {name: told[name] for name in ("share", "kept", "one_public") if name in told}
    cells = (Cell(arm, count, told["rounds"], **options) for count, arm in product(told["clients"], told["arms"]))
    return Grid(told["data"], span(told["seeds"]), tuple(cells))


def jobs_of(
    data: str, base: Experiment, fold: int, cells: "Sequence[Cell]", seeds: Sequence[int], device: str = "auto"
) -> "dict[tuple[int, Cell], Job]":
    """A job for every seed and cell, the first seed's first. Raises DataError when there are too few images."""
    from dml.crowd.cells import MODULES, measure
    from dml.crowd.deal import deal

    target, images, made = machine.device(device), images_of(data, base), {}
    for seed, cell in product(seeds, cells):
        deal(images.train.labels.numpy(), cell.experiment(base), seed, fold, cell.kept)  # raises
        about = (f"{cell.arm}-{cell.clients}-seed{seed}", "json", base, images.sha256, [asdict(cell), fold, seed])
        made[seed, cell] = Job(
            measure,
            (data, images.sha256, base, fold, cell, seed, target.type),
            1,
            cell.cost(base, fold),
            title=f"{cell.arm}, K = {cell.clients}, seed {seed}",
            files=(store.place("crowd", *about, target, MODULES),),
            device=target,
        )
    return made


def carry_out(seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES) -> Path:
    """Compute what is not on record of the named seeds, all by default, in the order given; after each grid of a seed
    its rows are in `to`/crowd, which is returned. A killed run goes on where it stopped. Raises ValueError for a seed
    that is not planned.
    """
    folder, planned = to / NAME, plan()
    for seed in within(seeds, planned.seeds):
        for grid in planned.grids:
            if seed not in grid.seeds:
                continue
            done = tables.there(folder / "costs.csv", KEY)
            listed = jobs_of(grid.data, planned.bases[grid.data], planned.fold, grid.cells, [seed], device)
            missing = [
                job
                for (_, cell), job in listed.items()
                if (grid.data, seed, *(getattr(cell, name) for name in FIELDS)) not in done
            ]
            jobs.carry_out(missing)
            if missing:
                _add(folder, grid.data, missing, device)
    return folder


def table_of(data: str, done: Sequence[Job], device: str = "auto") -> tuple[pd.DataFrame, pd.DataFrame]:
    """What finished jobs have measured: columns `CLIENTS`, a row a sampled client, and `RUNS`, a row a run."""
    records = [json.loads(job.files[0].read_text(encoding="utf-8")) for job in done]
    processor = machine.processor(machine.device(device))
    runs = [{"data": data, **record["facts"], "processor": processor} for record in records]
    rows = [{**run, **row} for run, record in zip(runs, records, strict=True) for row in record["clients"]]
    costs = pd.DataFrame(runs, columns=RUNS).round({"wall_s": 2, "cpu_s": 2, "look_s": 2})
    return pd.DataFrame(rows, columns=CLIENTS), costs


def _add(folder: Path, data: str, done: Sequence[Job], device: str) -> None:
    """Put what was measured into the tables; costs.csv, which says what is there, last."""
    clients, costs = table_of(data, done, device)
    tables.add(folder / "clients.csv.gz", clients, KEY)
    planned, target = plan(), machine.device(device)
    facts: dict[str, Any] = {"study": NAME, "experiments": {name: asdict(base) for name, base in planned.bases.items()}}
    facts |= {"fold": planned.fold, "code_version": store.code_version()}
    tables.manifest(folder, facts, target)
    tables.add(folder / "costs.csv", costs, KEY)
