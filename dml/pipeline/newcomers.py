"""What notebook 08 computes of a run by itself: one small outer draw (see dml/generalisation), as a run's tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch

from dml.config import Experiment
from dml.experiment import jobs as work
from dml.experiment.jobs import Job
from dml.studies import generalisation as study

if TYPE_CHECKING:
    from dml.generalisation.supersample import Design
    from dml.pipeline.run import Run

ARMS = ("dml", "fedavg", "local")
PAIRS, ROWS, PUBLIC, ROUNDS = 2, 12, 8, 2
TABLES = {"gaps": "generalisation_gaps", "errors": "generalisation_errors"}


def base(run: Run) -> Experiment:
    """The run's experiment, in few rounds of a narrow model."""
    return replace(run.experiment, rounds=min(ROUNDS, run.experiment.rounds), models="visionnet-quarter")


def design(run: Run) -> Design | None:
    """Two pairs of clients, so four vectors: four federations an arm. As many rows as every
    class has images for, whatever the clients' mixtures; None where that is none, and where the experiment takes every
    image there is: such a run takes hours, and the study answers better.
    """
    from dml.generalisation.supersample import Design  # an annex

    if not run.experiment.train_images:
        return None
    counts = torch.bincount(run.images.train.labels)
    sides = -(-PUBLIC * (base(run).rounds + 1) // len(counts))
    rows = min(ROWS, (int(counts.min()) - sides) // (PAIRS * 4))
    return Design(PAIRS, rows, PUBLIC, label_alpha=1.0) if rows > 0 else None


def listed(run: Run) -> dict[str, list[Job]]:
    """The jobs of each arm, in the run's first seed."""
    chosen = design(run)
    if chosen is None:
        return {}
    return {arm: study.jobs_of(run.data, base(run), chosen, run.seeds[0], arm, run.target) for arm in ARMS}


def jobs(run: Run) -> list[Job]:
    """The jobs behind notebook 08."""
    return [job for of_arm in listed(run).values() for job in of_arm]


def compute(run: Run) -> dict[str, pd.DataFrame]:
    """Gaps with their bounds, and errors, as the study keeps them; writes generalisation_gaps.csv and
    generalisation_errors.csv. Empty where nothing is computed.
    """
    chosen = design(run)
    if chosen is None:
        return {}
    work.carry_out(jobs(run))
    parts = [
        study.tables_of(run.data, base(run), chosen, run.seeds[0], arm, of_arm) for arm, of_arm in listed(run).items()
    ]
    found = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in TABLES}
    for name, table in found.items():
        run.write(table, TABLES[name])
    return found
