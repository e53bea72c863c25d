"""Many clients, which the paper leaves open (its limit L1): the same protocol with K changed and nothing else.

Every client has as much data as before: folds keep their size, so the training set grows with the number of folds,
(K + 1) R + 1. What changes with K is how many peers there are, or how many models an average is of.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pandas as pd
import torch

from dml.config import Experiment
from dml.data.images import images_of, require
from dml.experiment import results
from dml.experiment.jobs import Job
from dml.files import DataError
from dml.stats import columns, compared, holm, interval, paired, per_seed
from dml.studies.plan import plan

STUDIED = ("dml", "self", "fedavg", "local")
COLUMNS = ["clients", *results.RESULTS]


def with_clients(base: Experiment, clients: int) -> Experiment:
    """The experiment with K clients and folds of the same size. Raises ValueError when `base` takes every image there
    is, so that more clients would have to share them.
    """
    if not base.train_images:
        raise ValueError("train_images=0 takes every image there is: no more for more clients")
    changed = replace(base, clients=clients)
    return replace(changed, train_images=round(base.train_images / base.folds * changed.folds))


def fitting(data: str, base: Experiment, clients: Sequence[int]) -> dict[int, Experiment]:
    """The experiment of every K that the data set has enough images of every class for."""
    experiments = {}
    for count in clients:
        experiment = with_clients(base, count)
        images = images_of(data, experiment)
        if len(images.train) == experiment.train_images:
            with suppress(DataError):
                require(images, experiment.folds)
                experiments[count] = experiment
    return experiments


def jobs(data: str, base: Experiment, clients: Sequence[int], seeds: Sequence[int], device: torch.device) -> list[Job]:
    """The jobs of `STUDIED` for every K that fits."""
    experiments = fitting(data, base, clients).values()
    return [job for experiment in experiments for job in results.arm_jobs(data, experiment, seeds, device, STUDIED)]


def compute(
    data: str, base: Experiment, clients: Sequence[int], seeds: Sequence[int], device: str = "auto"
) -> pd.DataFrame:
    """Final results of `STUDIED` for every K that fits: columns `COLUMNS`."""
    tables = []
    for count, experiment in fitting(data, base, clients).items():
        measured = results.compute(data, experiment, seeds, device, STUDIED).results
        tables.append(measured[measured["round"] == experiment.rounds].assign(clients=count))
    return pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)


def accuracy(table: pd.DataFrame) -> pd.DataFrame:
    """Unseen accuracy by K and arm: columns clients, arm, mean, low, high, n."""
    return pd.DataFrame(
        {"clients": count, "arm": arm, **columns(interval(values.to_numpy()))}
        for count, rows in table.groupby("clients")
        for arm, values in per_seed(rows, "unseen accuracy").items()
    )


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """DML's unseen accuracy minus that of another arm, by K: columns clients, against and those of `stats.compare`, p
    corrected for the number of K: a question for each arm, asked so many times.
    """
    values = {count: per_seed(rows, "unseen accuracy") for count, rows in table.groupby("clients")}
    estimates = {
        arm: holm([paired(arms["dml"].to_numpy(), arms[arm].to_numpy(), plan().margin) for arms in values.values()])
        for arm in STUDIED[1:]
    }
    return pd.DataFrame(
        {"clients": count, "against": arm, **compared(estimates[arm][place])}
        for place, count in enumerate(values)
        for arm in STUDIED[1:]
    )
