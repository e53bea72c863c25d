"""The study of data/plan_generalisation.md: outer draw by outer draw and arm by arm, added to the tables on record.

The unit is the outer draw, a seed. An arm of a draw is a job for each run of the supersample; when all have finished,
the losses, what they lead to and last the cost are added to the tables, so that a killed run goes on where it stopped.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import inf, isinf
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from dml.config import DATA, Experiment, profile
from dml.data.images import images_of
from dml.experiment import cache as store
from dml.experiment import jobs, results
from dml.experiment.jobs import Job
from dml.experiment.ladder import code_of
from dml.streams import SERVER, stream
from dml.studies import tables
from dml.studies.plan import block, span, within
from dml.studies.study import STUDIES
from dml.training import machine

if TYPE_CHECKING:  # an annex: imported inside functions alone
    from dml.generalisation.gaps import Losses
    from dml.generalisation.supersample import Design

NAME = "generalisation"
FILE = DATA / "plan_generalisation.md"
DRAW = ["label_alpha", "seed"]
KEY = [*DRAW, "arm"]
MASKS = [*DRAW, "run", "vector", "mask"]
LOSSES = [*KEY, "run", "own_losses", "net_losses"]
ERRORS = [*KEY, "run", "loss", "trained", "ghosts", "newcomers"]
GAPS = [*KEY, "gap", "asked", "way", "form", "value", "floor"]
COSTS = [*KEY, "cpu_s", "commit", "processor"]
OUT_OF_SAMPLE, PARTICIPATION = "out-of-sample", "participation"
OWN, COMMON = "own net", "every net"  # who is asked about a client that takes part
FILES = {"masks": "masks.csv.gz", "losses": "losses.csv.gz", "errors": "errors.csv", "gaps": "gaps.csv"}


@dataclass(frozen=True)
class Grid:
    """Outer draws of one design, and the arms in each."""

    design: "Design"
    seeds: range
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The data set, the experiment before a design changes it, the margin of "equal", and the grids in their order."""

    data: str
    base: Experiment
    margin: float
    grids: tuple[Grid, ...]


@cache
def plan(file: Path = FILE) -> Plan:
    """The plan of a file. Raises ValueError when it holds no TOML block."""
    from dml.generalisation.supersample import Design

    told = block(file)
    everything = {"train_images": 0, "unseen_images": told["unseen_images"]}
    base = replace(profile(told["profile"]).experiment, **everything, rounds=told["rounds"], models=told["models"])
    grids = []
    for entry in told["grid"]:
        alpha = None if isinf(entry["label_alpha"]) else entry["label_alpha"]
        grids.append(Grid(Design(**told["design"], label_alpha=alpha), span(entry["seeds"]), tuple(entry["arms"])))
    return Plan(told["data"], base, told["margin"], tuple(grids))


def planned(label_alpha: float) -> int:
    """How many outer draws the plan has of a concentration (inf: clients alike)."""
    return sum(len(grid.seeds) for grid in plan().grids if level(grid.design) == label_alpha)


def level(design: "Design") -> float:
    """A design's concentration as tables have it: inf where clients are alike."""
    return inf if design.label_alpha is None else design.label_alpha


def jobs_of(data: str, base: Experiment, design: "Design", seed: int, arm: str, device: torch.device) -> list[Job]:
    """A job for every run of an arm in an outer draw. Raises DataError when the data do not fit."""
    from dml.generalisation import federations, supersample

    experiment = design.experiment(base)
    images = images_of(data, experiment)
    supersample.draw(images, design, experiment.rounds, seed)  # or say that it cannot be
    modules = (*federations.MODULES, *code_of(experiment, arm))
    shown = design.pairs * (design.rows + design.public * experiment.rounds * results.refines(arm))
    cost = jobs.seconds(experiment, shown * experiment.epochs, design.pairs * 4 * design.rows * design.pairs)
    return [
        Job(
            federations.measure,
            (data, images.sha256, experiment, design, seed, arm, number, device.type),
            results.phases(experiment, arm),
            cost,
            title=f"{arm}, draw {seed}, run {number}",
            files=(
                store.place(
                    *(NAME, f"{arm}-draw{seed}-run{number}", "json", experiment, images.sha256),
                    [asdict(design), arm, seed, number],
                    device,
                    modules,
                ),
            ),
            device=device,
        )
        for number in range(design.runs)
    ]


def carry_out(seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES, chosen: Plan | None = None) -> Path:
    """Compute what is not on record of the outer draws of the plan, or of those of some seeds; after each arm it is
    added to the tables in `to`/generalisation, which is returned. Raises ValueError for a seed that is not planned,
    DataError when the data do not fit.
    """
    target, folder, chosen = machine.device(device), to / NAME, chosen or plan()
    asked = within(seeds, {seed for grid in chosen.grids for seed in grid.seeds})
    for grid in chosen.grids:
        for seed in [seed for seed in grid.seeds if seed in asked]:
            for arm in grid.arms:
                if (level(grid.design), seed, arm) in tables.there(folder / "costs.csv", KEY):
                    continue
                listed = jobs_of(chosen.data, chosen.base, grid.design, seed, arm, target)
                jobs.carry_out(listed)
                _add(folder, chosen, grid.design, seed, arm, listed, target)
    return folder


def recorded_by(listed: Sequence[Job]) -> list[dict]:
    """The records that finished jobs have left, in the order of the runs."""
    return [json.loads(job.files[0].read_text(encoding="utf-8")) for job in listed]


def tables_of(
    data: str, base: Experiment, design: "Design", seed: int, arm: str, listed: Sequence[Job]
) -> dict[str, pd.DataFrame]:
    """What the finished jobs of an arm in a draw lead to: tables "masks", "losses", "errors" and "gaps"."""
    from dml.generalisation import supersample

    key, records = (level(design), seed, arm), recorded_by(listed)
    experiment = design.experiment(base)
    drawn = supersample.draw(images_of(data, experiment), design, experiment.rounds, seed)
    masks, losses = texts_of(drawn, records, key)
    errors, gaps = errors_of(records, key), gaps_of(losses, masks, key)
    return {"masks": masks, "losses": losses, "errors": errors, "gaps": gaps}


def _add(folder: Path, chosen: Plan, design: "Design", seed: int, arm: str, listed: Sequence[Job], device) -> None:
    """Put an arm of a draw into the tables; `costs` is the last one, and what it names is in the others."""
    for name, table in tables_of(chosen.data, chosen.base, design, seed, arm, listed).items():
        tables.add(folder / FILES[name], table, DRAW if name == "masks" else KEY)
    images = images_of(chosen.data, design.experiment(chosen.base))
    facts = {
        **{"study": NAME, "data": images.name, "source": images.source, "classes": images.classes},
        "experiment": asdict(design.experiment(chosen.base)),
        "designs": [asdict(grid.design) for grid in chosen.grids],
        "code_version": store.code_version(),
    }
    tables.manifest(folder, facts, device)
    records = recorded_by(listed)
    spent = round(sum(record["cpu_s"] for record in records), 1)
    row = (level(design), seed, arm, spent, records[-1]["commit"], machine.processor(device))
    tables.add(folder / "costs.csv", pd.DataFrame([row], columns=COSTS), KEY)


def texts_of(drawn, records: Sequence[dict], key: tuple) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The masks of a draw, and an arm's losses: columns `MASKS` and `LOSSES`, a run a row, a digit each number."""
    from dml.generalisation.federations import digits

    masks = [
        (*key[:2], run, digits(vector), digits(mask))
        for run, (vector, mask) in enumerate(zip(drawn.vectors, drawn.masks, strict=True))
    ]
    losses = [(*key, record["run"], record["own_losses"], record["net_losses"]) for record in records]
    return pd.DataFrame(masks, columns=MASKS), pd.DataFrame(losses, columns=LOSSES)


def errors_of(records: Sequence[dict], key: tuple) -> pd.DataFrame:
    """The mean losses of every run: columns `ERRORS`."""
    rows = [
        {**dict(zip(KEY, key, strict=True)), "run": record["run"], "loss": loss}
        | {of: round(value, 6) for of, value in record[loss].items()}
        for record in records
        for loss in ("0/1", "log")
    ]
    return pd.DataFrame(rows, columns=ERRORS)


def losses_of(losses: pd.DataFrame, masks: pd.DataFrame) -> "Losses":
    """What the texts of an arm in a draw say, as numbers. Raises ValueError when they do not fit each other."""
    from dml.generalisation.federations import numbers
    from dml.generalisation.gaps import Losses

    pairs = len(masks["vector"].iloc[0])
    rows = len(masks["mask"].iloc[0]) // (2 * pairs)
    return Losses(
        numbers(losses["own_losses"], (pairs, rows, 2)),
        numbers(losses["net_losses"], (pairs, 2, rows, 2)),
        numbers(masks["vector"], (pairs,)),
        numbers(masks["mask"], (pairs, 2, rows)),
    )


def gaps_of(losses: pd.DataFrame, masks: pd.DataFrame, key: tuple) -> pd.DataFrame:
    """Both gaps of an arm in a draw and the bounds on them, from the texts alone: columns `GAPS`."""
    from dml.generalisation import bounds, gaps

    told, rng = losses_of(losses, masks), stream(key[1], SERVER, "noise")
    cells = {
        (OUT_OF_SAMPLE, OWN): gaps.out_of_sample(told),
        (PARTICIPATION, OWN): gaps.participation(told),
        (PARTICIPATION, COMMON): gaps.participation(told, common=True),
    }
    found = [
        bounds.estimates(of, rng).assign(gap=gap, asked=asked).round({"value": 6, "floor": 6})
        for (gap, asked), of in cells.items()
    ]
    return pd.concat(found).assign(**dict(zip(KEY, key, strict=True)))[GAPS]
