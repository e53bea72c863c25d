"""What notebook 06 computes of a run: a liar or none, as published and clipped, in one seed; and the lie by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from dml.config import CLIP
from dml.exchange.messages import FLOOR
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
        for clip in (published, CLIP)
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


# -- by hand: one image, no run ----------------------------------------------------------------------------------------


def one_lie(margin: float = 2.0) -> pd.DataFrame:
    """Three honest peers with this margin on an image and one that is sure of the wrong class: the mean of the four, as
    published and with the clip, and where a client ends that learns from it, with the label and without.
    """
    rows = []
    for clip in (FLOOR, CLIP):
        said = torch.stack([_told(margin, clip)] * 3 + [_told(-_sure(), clip)])  # log-probabilities: other, true
        mean = float((said[:, 1] - said[:, 0]).mean())
        rows.append((f"{clip:g}", mean, "right" if mean > -2 else "wrong", "right" if mean > 0 else "wrong"))
    return pd.DataFrame(rows, columns=["clip", "peers' mean margin", "with labels", "without labels"]).set_index("clip")


def among_relatives(margin: float = 2.0, clients: int = 5) -> pd.DataFrame:
    """What DML's relatives make of the same lie by none, one and two of the clients: FedMD's mean logit, and DS-FL's
    mean probability of the true class, plain and sharpened.
    """
    from dml.arms.relatives.outputs import era  # an annex

    columns = ["liars", "mean logit", "mean probability", "sharpened"]
    rows = []
    for liars in range(3):
        margins = torch.tensor([float(margin)] * (clients - liars) + [-_sure()] * liars)
        p = margins.sigmoid().mean()
        rows.append((liars, float(margins.mean()), float(p), float(era(0.1)(torch.stack((1 - p, p)))[1])))
    return pd.DataFrame(rows, columns=columns).set_index("liars")


def borne(rows: Sequence[int] = (4, 5, 9, 10, 19, 20)) -> pd.DataFrame:
    """How many liars f each rule bears among so many rows, and how many rows it needs for f."""
    from dml.hostile.rules import REQUIRED  # an annex

    most = {rule: [(count - more) // factor for count in rows] for rule, (factor, more) in REQUIRED.items()}
    needs = {rule: f"{factor} f + {more}" for rule, (factor, more) in REQUIRED.items()}
    names = [f"{rows[0]} rows", *map(str, rows[1:])]
    return pd.DataFrame(most, index=names).T.assign(needs=needs).rename_axis("liars that a rule bears")


def known() -> pd.DataFrame:
    """The attacks on messages, by what a liar has to know."""
    from dml.hostile import attacks, liars  # an annex

    needed = pd.Series({name: liars.needed(name) for name in (*attacks.PREDICTIONS, *attacks.WEIGHTS)})
    by = needed.index.to_series().groupby(needed, sort=False).agg(", ".join)
    return by.rename_axis("has to know").to_frame("attacks")


def _sure() -> float:
    from dml.hostile.attacks import SURE  # an annex

    return SURE


def _told(margin: float, clip: float) -> torch.Tensor:
    """Log-probabilities (other, true) of a margin, as a receiver reads them."""
    return torch.tensor([0.0, margin]).log_softmax(-1).clamp_min(math.log(clip))
