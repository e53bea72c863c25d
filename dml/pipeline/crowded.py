"""What notebook 07 asks for: some clients that keep their images, and more, all in every round and half of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch

from dml.config import Experiment
from dml.experiment import jobs as work
from dml.experiment.jobs import Job
from dml.studies import crowd

if TYPE_CHECKING:
    from dml.crowd.cells import Cell
    from dml.pipeline.run import Run

ROUNDS, EPOCHS, FOLD = 2, 5, 24  # at most
HALF = 0.5  # of the clients a round
TABLE = "crowd_clients"


def base(run: Run) -> Experiment:
    """The run's experiment with fewer epochs."""
    return replace(run.experiment, epochs=min(EPOCHS, run.experiment.epochs), glance=0)


def fold(run: Run, clients: int) -> int:
    """How many images a client has: as many of each class, and no more than the data set allows; 0: too few."""
    counts = torch.bincount(run.images.train.labels, minlength=len(run.images.classes))
    return min(FOLD // len(counts), int(counts.min()) // (1 + ROUNDS + clients)) * len(counts)


def cells(run: Run) -> list[Cell]:
    """The profile's larger numbers of clients with everybody there, and the largest with half of them. None where the
    experiment takes every image there is, or has too few.
    """
    from dml.crowd.cells import Cell  # an annex

    counts = run.sizes.many_clients.clients[-2:]
    if not counts or fold(run, counts[-1]) < 2 * len(run.images.classes):
        return []
    most = counts[-1]
    made = [Cell(arm, count, ROUNDS) for count in counts for arm in ("dml", "fedavg")]
    made += [Cell(arm, most, ROUNDS) for arm in ("self", "local+public")]
    return made + [Cell(arm, most, ROUNDS, HALF) for arm in ("dml", "fedavg", "self")]


def jobs(run: Run) -> list[Job]:
    """The jobs behind the notebook, in the run's first seed."""
    if not (chosen := cells(run)):
        return []
    size = fold(run, max(cell.clients for cell in chosen))
    return list(crowd.jobs_of(run.data, base(run), size, chosen, run.seeds[:1], run.device).values())


def compute(run: Run) -> pd.DataFrame:
    """What was measured, a row a client; writes crowd_clients.csv where there is something."""
    made = jobs(run)
    work.carry_out(made)
    table, _ = crowd.table_of(run.images.name, made, run.device)
    if len(table):
        run.write(table, TABLE)
    return table


def float32_errors(counts: Sequence[int] = (5, 1000), images: int = 24) -> pd.DataFrame:
    """How far the float32 sum of drawn log-probabilities of so many clients is from the float64 one, as a mean."""
    from dml.crowd.arms import float32_error  # an annex

    rng = torch.Generator().manual_seed(0)
    told = -torch.empty(max(counts), images, 2, dtype=torch.float64).exponential_(generator=rng).float()
    errors = {count: f"{float32_error(told[:count]):.1e}" for count in counts}
    return pd.Series(errors, name="largest error of the mean, nats").rename_axis("clients").to_frame()
