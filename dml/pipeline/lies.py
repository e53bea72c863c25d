"""What notebook 06 computes of a run by itself: a liar or none, as published and clipped, in one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from dml.experiment import jobs as work
from dml.experiment.jobs import Job
from dml.studies import hostile

if TYPE_CHECKING:
    from dml.hostile.cells import Cell
    from dml.pipeline.run import Run


def cells(run: Run) -> list[Cell]:
    """DML without a liar and with one that vetoes, at the clip that is published and at ours. None where the experiment
    takes every image there is: such a run takes hours, and the studies answer better.
    """
    from dml.hostile.cells import Cell  # an annex

    if not run.experiment.train_images:
        return []
    clients, published = run.experiment.clients, run.experiment.clip
    return [
        Cell("dml", clients, liars, "veto" if liars else "", clip=clip)
        for clip in (published, hostile.CLIP)
        for liars in ((0, 1) if clip == published else (1,))
    ]


def listed(run: Run) -> dict[Cell, Job]:
    """The job of each cell, in the run's first seed."""
    made = hostile.jobs_of(run.data, cells(run), run.seeds[:1], run.experiment, run.device)
    return {cell: job for (_, cell), job in made.items()}


def jobs(run: Run) -> list[Job]:
    """The jobs behind notebook 06."""
    return list(listed(run).values())


def compute(run: Run) -> pd.DataFrame:
    """What was measured, as the studies keep it; writes hostile.csv where there is something."""
    made = listed(run)
    work.carry_out(made.values())
    table = hostile.rows(hostile.recorded_by(job) for job in made.values())
    if len(table):
        run.write(table, "hostile")
    return table


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of the honest, a row a cell."""
    keys = ["arm", "clients", "clip", "liars"]
    wide = table.pivot_table(index=keys, columns="metric", values="value", sort=False)
    return wide[["accuracy", "worst", "up", "down"]].round(4)
