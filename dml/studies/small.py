"""A small piece of data/plan_skew.md for any run: one level of skew, one pair of different models (notebook 05)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf

import numpy as np
import pandas as pd
import torch

from dml.config import Experiment, Skewed
from dml.data.images import images_of
from dml.experiment import results
from dml.experiment.jobs import Job
from dml.studies.skew import CELLS, METRICS, RESULTS, Cell, cell, distances
from dml.training.kinds import build

LABELLED = ("dml", "local+public", "fedavg+public")
UNLABELLED = ("dml", "local")
MIXED = ("dml", "local+public")


def cells(base: Experiment, chosen: Skewed) -> Iterator[tuple[Cell, tuple[str, ...]]]:
    """The cells and the arms in each; accuracy is measured once, at the end."""
    base = replace(base, glance=0)
    for fold in chosen.public_folds:
        arms = UNLABELLED if fold == "unlabelled" else LABELLED
        yield cell(base, chosen.label_alpha, {"public_fold": fold}), arms
    yield cell(base, inf, {"models": chosen.models}), MIXED


def jobs(data: str, base: Experiment, chosen: Skewed, seeds: Sequence[int], device: torch.device) -> list[Job]:
    """The jobs of every cell. Raises ValueError for a model that does not fit the images."""
    classes = len(images_of(data, base).classes)
    for kind in chosen.models.split(","):
        build(kind, base.size, classes, np.random.default_rng(0))
    return [
        job
        for here, arms in cells(base, chosen)
        for job in results.arm_jobs(data, here.experiment, seeds[: chosen.seeds or None], device, arms)
    ]


def compute(
    data: str, base: Experiment, chosen: Skewed, seeds: Sequence[int], device: str = "auto"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Final results of every cell, and how far its clients are apart: columns `skew.RESULTS` and `skew.CELLS`."""
    measured, apart, seeds = [], [], seeds[: chosen.seeds or None]
    for here, arms in cells(base, chosen):
        table = results.compute(data, here.experiment, seeds, device, arms).results
        last = table[(table["round"] == here.experiment.rounds) & table["metric"].isin(METRICS)]
        measured.append(last.assign(cell=here.name))
        images = images_of(data, here.experiment)
        apart += [(here.name, seed, *row) for seed in seeds for row in distances(images, here.experiment, seed)]
    return pd.concat(measured, ignore_index=True)[RESULTS], pd.DataFrame(apart, columns=CELLS)
