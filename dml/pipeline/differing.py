"""What notebook 05 asks for: clients that differ in classes and in models (dml/studies/small.py), as a run's tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from dml.config import Skewed
from dml.evidence.skew import TABLES
from dml.experiment.jobs import Job

if TYPE_CHECKING:
    from dml.pipeline.run import Run


def chosen(run: Run) -> Skewed:
    """The profile's level of skew and pair of models, or the user's models where there are any."""
    return replace(run.sizes.skewed, models=run.models) if run.models else run.sizes.skewed


def jobs(run: Run) -> list[Job]:
    """The jobs behind the notebook. Raises ValueError for a model that does not fit the images."""
    from dml.studies import small  # an annex

    return small.jobs(run.data, run.experiment, chosen(run), run.seeds, run.target)


def compute(run: Run) -> pd.DataFrame:
    """The results of every cell; writes them as skew_results.csv, and how far clients are apart as skew_cells.csv."""
    from dml.studies import small  # an annex

    tables = small.compute(run.data, run.experiment, chosen(run), run.seeds, run.device)
    for name, table in zip(TABLES, tables, strict=True):
        run.write(table, name)
    return tables[0]
