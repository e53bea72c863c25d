"""The study of data/plan_crafted.md: the games of data/plan_privacy.md once more, with a server that also crafts what
it sends back. Its page has the same fields, and is read by the same code.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dml.config import DATA, Draw, Experiment
from dml.data.images import images_of
from dml.experiment import jobs
from dml.experiment.jobs import Job
from dml.streams import SERVER, stream
from dml.studies import games, privacy
from dml.studies.plan import within
from dml.studies.privacy import Plan
from dml.studies.study import STUDIES
from dml.training import machine

FILE, NAME = DATA / "plan_crafted.md", "crafted"
MODULES = (
    "data.audit",
    *(f"privacy.{name}" for name in ("game", "views", "shadows", "surrogate", "defences", "crafted")),
)
SEEN = ("accuracy/", "loss/")  # signals of what a client could notice

plan = partial(privacy.plan, FILE)


def measure(
    data: str, sha256: str, experiment: Experiment, draw: Draw, seed: int, victims: Sequence[int], device: str
) -> list[bytes]:
    """A job: the signals of some victims of a game (`crafted.signals`), and the CPU seconds they took."""
    from dml.privacy import crafted
    from dml.privacy.game import deal

    jobs.same_images(data, experiment, sha256)
    began = time.process_time()
    found = crafted.signals(deal(data, experiment, draw, seed), victims, torch.device(device))
    return games.kept(found, victims, began)


def jobs_of(here: Plan, seed: int, device: torch.device) -> list[Job]:
    """The jobs of one game. Raises DataError when the data do not fit."""
    images, experiment, draw = images_of(here.data, here.experiment), here.experiment, here.draw
    return games.jobs_of(
        measure,
        (here.data, images.sha256, experiment, draw),
        *(experiment, draw, seed, device),
        kind=NAME,
        facts=[asdict(draw)],
        modules=MODULES,
        trained=experiment.epochs * len(images.train) / experiment.folds * (experiment.clients + 12),
    )


def carry_out(seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES, planned: Plan | None = None) -> Path:
    """Play the named games, all of the plan by default, that are not on record; after each, add it to the tables in
    `to`/crafted, which is returned. A killed run goes on where it stopped. Raises ValueError for a game that is not
    planned, DataError when the data do not fit.
    """
    here, target, folder = planned or plan(), machine.device(device), to / NAME
    for seed in games.missing(folder, within(seeds, here.games)):
        listed = jobs_of(here, seed, target)
        jobs.carry_out(listed)
        add(folder, here, seed, games.together(listed), target)
    return folder


def add(folder: Path, here: Plan, seed: int, signals: Mapping[str, np.ndarray], device: torch.device) -> None:
    """Put a game into the tables; `costs`, the last, says that it is there."""
    from dml.privacy import crafted

    found = list(crafted.attacks(signals))
    games.add_attacks(folder, seed, found, signals, lambda: stream(seed, SERVER, "game"))
    told = [(name, float(values.mean())) for name, values in signals.items() if name.startswith(SEEN)]
    privacy.record(folder, NAME, MODULES, here, seed, signals, told, device)
