"""What many clients cost on this machine: seconds and memory against K, each in a process of its own.

Three turns of every arm and K at the size of data/plan_crowd.md, one epoch a phase; and once the most clients, of the
40-pixel network, in a memory-mapped file. Rows are added one by one; what is on record is not measured again.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from dml.config import SMALL, Experiment
from dml.studies import tables
from dml.studies.study import STUDIES
from dml.training import machine

NAME = "crowd-cost"
ARMS = ("dml", "fedavg", "self")
CLIENTS = (10, 30, 100, 300, 1000)
TURNS, SIZE, FOLD = 3, 28, 24  # FOLD: images of a client
MOST, LARGER, FEWER = 10_000, 40, 8  # clients in a file, pixels, images of a client


@dataclass(frozen=True)
class Point:
    """What is measured once."""

    arm: str
    clients: int
    size: int
    fold: int
    on_disk: bool
    turn: int

    @property
    def experiment(self) -> Experiment:
        """One round with everybody, one epoch a phase: seconds of an epoch."""
        return replace(SMALL, clients=self.clients, size=self.size, rounds=1, epochs=1, glance=0)


def points() -> Iterator[Point]:
    """All of them: the most clients after the first turn."""
    for turn in range(TURNS):
        for clients in CLIENTS:
            for arm in ARMS:
                yield Point(arm, clients, SIZE, FOLD, False, turn)
        if turn == 0:
            yield Point("dml", MOST, LARGER, FEWER, True, 0)


def carry_out(to: Path = STUDIES) -> Path:
    """Measure what is not on record and add it to `to`/crowd-cost, which is returned."""
    from dml.crowd.costs import alone  # an annex

    folder, key = to / NAME, list(Point.__dataclass_fields__)
    for point in points():
        if tuple(asdict(point).values()) in tables.there(folder / "costs.csv", key):
            continue
        about = {"processor": machine.processor(torch.device("cpu")), "commit": machine.commit()}
        row = {**asdict(point), **alone(point.arm, point.experiment, point.fold, point.on_disk), **about}
        tables.manifest(folder, {}, torch.device("cpu"))
        tables.add(folder / "costs.csv", pd.DataFrame([row]), key)
    return folder
