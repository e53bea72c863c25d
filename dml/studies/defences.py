"""The study of data/plan_defences.md: games in which every defence is attacked with the same strength, and accuracy
after the whole protocol under each, game by game.

The signals of a few victims at every point, and one protocol at one point, are jobs of the usual cache.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from dml.config import DATA, Draw, Experiment, profile
from dml.data.images import images_of
from dml.experiment import cache as store
from dml.experiment import jobs
from dml.experiment.jobs import Job
from dml.streams import SERVER, stream
from dml.studies import games, tables
from dml.studies.plan import block, span, within
from dml.studies.study import STUDIES
from dml.training import machine

if TYPE_CHECKING:  # an annex: imported inside functions alone
    from dml.privacy.points import Point

FILE, NAME = DATA / "plan_defences.md", "defences"
MODULES = (
    "data.audit",
    *(f"privacy.{name}" for name in ("game", "views", "shadows", "surrogate", "chosen", "defences", "points")),
)
WORTH = ["game", "point", "epsilon", "clients", "unseen", "accuracy"]


@dataclass(frozen=True)
class Plan:
    """Data set, games, margin of equality (of AUC and accuracy), the experiment of the games and their draw, the
    protocol whose accuracy is measured, and the points.
    """

    data: str
    games: range
    margin: float
    game: Experiment
    draw: Draw
    protocol: Experiment
    points: "tuple[Point, ...]"


@cache
def plan(file: Path = FILE) -> Plan:
    """The plan of a file. Raises ValueError when it holds no TOML block."""
    from dml.privacy.points import Point

    told = block(file)
    base, points = profile(told["profile"]).experiment, tuple(Point(**row) for row in told["points"])
    game, protocol = (replace(base, **told[name]) for name in ("game", "protocol"))
    draw = Draw(victims=1, **told["draw"])
    return Plan(told["data"], span(told["games"]), told["margin"], game, draw, protocol, points)


def measure_signals(here: Plan, sha256: str, seed: int, victims: Sequence[int], device: str) -> list[bytes]:
    """A job: what the server holds of some victims of a game at every point, and the CPU seconds it took."""
    from dml.privacy.game import deal
    from dml.privacy.points import signals

    jobs.same_images(here.data, here.game, sha256)
    began = time.process_time()
    found = signals(deal(here.data, here.game, here.draw, seed), victims, here.points, torch.device(device))
    return games.kept(found, victims, began)


def measure_worth(here: Plan, sha256: str, seed: int, point: "Point", device: str) -> list[bytes]:
    """A job: the accuracy of one protocol, and the CPU seconds it took."""
    from dml.privacy.points import worth

    images, began = jobs.same_images(here.data, here.protocol, sha256), time.process_time()
    accuracy = worth(images, here.protocol, seed, point, torch.device(device))
    return [json.dumps({"accuracy": accuracy, "cpu_s": time.process_time() - began}).encode()]


def signal_jobs(here: Plan, seed: int, device: torch.device) -> list[Job]:
    """The jobs of a game's victims. Raises DataError when the data do not fit."""
    images = images_of(here.data, here.game)
    trained = here.game.epochs * len(images.train) / here.game.folds * (here.game.clients + 2 * len(here.points))
    return games.jobs_of(
        measure_signals,
        (here, images.sha256),
        *(here.game, here.draw, seed, device),
        kind=NAME,
        facts=[asdict(here.draw), [asdict(point) for point in here.points]],
        modules=MODULES,
        trained=trained,
    )


def worth_jobs(here: Plan, seed: int, device: torch.device) -> "dict[tuple, Job]":
    """A job for every protocol of the points (`Point.protocol`)."""
    images, base = images_of(here.data, here.protocol), here.protocol
    made: dict[tuple, Job] = {}
    steps = 2 * base.rounds + 1
    cost = jobs.seconds(base, 2 * base.rounds * base.clients * base.epochs * len(images.train) / base.folds)
    for point in here.points:
        facts = [asdict(replace(point, name="", view="")), seed]
        about = ("worth", f"{point.name}-{seed}", "json", base, images.sha256, facts, device, MODULES)
        arguments = (here, images.sha256, seed, point, str(device))
        title, files = f"game {seed}, protocol at {point.name}", (store.place(*about),)
        job = Job(measure_worth, arguments, steps, cost, title=title, files=files, device=device)
        made.setdefault(point.protocol, job)
    return made


def carry_out(seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES, planned: Plan | None = None) -> Path:
    """Play the named games, all of the plan by default, that are not on record; after each, add it to the tables in
    `to`/defences, which is returned. A killed run goes on where it stopped. Raises ValueError for a game that is not
    planned, DataError when the data do not fit.
    """
    here, target, folder = planned or plan(), machine.device(device), to / NAME
    for seed in games.missing(folder, within(seeds, here.games)):
        heard, worth = signal_jobs(here, seed, target), worth_jobs(here, seed, target)
        jobs.carry_out([*heard, *worth.values()])
        found = {key: json.loads(job.files[0].read_text(encoding="utf-8")) for key, job in worth.items()}
        add(folder, here, seed, games.together(heard), found, target)
    return folder


def add(
    folder: Path, here: Plan, seed: int, signals: Mapping[str, np.ndarray], worth: Mapping[tuple, dict], device
) -> None:
    """Put a game into the tables; `costs`, the last, says that it is there."""
    from dml.privacy import points
    from dml.privacy.game import deal

    game = deal(here.data, here.game, here.draw, seed)
    labels = {now: game.images.train.labels[fold].numpy() for now, fold in enumerate((game.public, *game.later), 1)}
    found = list(points.attacks(signals, here.points, labels))
    games.add_attacks(folder, seed, found, signals, lambda: stream(seed, SERVER, "game"))  # the same halves for all
    images = images_of(here.data, here.protocol)
    members = signals["members"]
    count = int(members[0].sum())
    told = [
        (
            *(seed, point.name, epsilon(point, count, here.game), here.protocol.clients, len(images.unseen)),
            round(worth[point.protocol]["accuracy"], 6),
        )
        for point in here.points
    ]
    tables.add(folder / "worth.csv", pd.DataFrame(told, columns=WORTH), WORTH[:2])
    spent = float(signals["cpu_s"].sum()) + sum(one["cpu_s"] for one in worth.values())
    facts = {
        **games.facts(NAME, images),
        "experiment": asdict(here.game),
        "protocol": asdict(here.protocol),
        "draw": asdict(here.draw),
        "points": [asdict(point) for point in here.points],
        "code_version": store.code_version(MODULES),
    }
    tables.manifest(folder, facts, device)
    games.add_cost(folder, seed, members, spent, device)


def epsilon(point: "Point", count: int, experiment: Experiment) -> float:
    """Of a point's private training on so many images; infinite without DP-SGD."""
    from dml.privacy.defences import epsilon as bound

    return round(bound(point.noise, count, experiment), 4) if point.noise else float("inf")
