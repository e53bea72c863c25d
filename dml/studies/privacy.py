"""The study of data/plan_privacy.md: membership games of several rounds, one after the other; the unit is the game.

A game has a pool, public folds and initial weights of its own, and some victims, each with bystanders of its own. The
signals of a few victims are a job of the usual cache; what attacks make of a whole game is added to the tables.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

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

FILE, NAME = DATA / "plan_privacy.md", "privacy"
MODULES = (
    "data.audit",
    *(f"privacy.{name}" for name in ("game", "views", "shadows", "surrogate", "defences")),
    *(f"privacy.{name}" for name in ("alignment", "chosen", "several", "trials")),
)
CHECKS = ["game", "check", "value"]


@dataclass(frozen=True)
class Question:
    """A comparison of what two adversaries find, the first less the second, claimed to be above zero."""

    name: str
    asks: str
    strength: str
    view: str
    against: str  # strength of the other
    minus: str  # its view


@dataclass(frozen=True)
class Plan:
    """Data set, games, margin of equality (of AUC), families of questions, experiment and draw."""

    data: str
    games: range
    margin: float
    families: Mapping[str, tuple[Question, ...]]
    experiment: Experiment
    draw: Draw


@cache
def plan(file: Path = FILE) -> Plan:
    """The plan of a file. Raises ValueError when it holds no TOML block."""
    told = block(file)
    experiment = replace(profile(told["profile"]).experiment, **told["experiment"])
    families = {name: tuple(Question(**row) for row in rows) for name, rows in told["families"].items()}
    draw = Draw(victims=1, **told["draw"])
    return Plan(told["data"], span(told["games"]), told["margin"], families, experiment, draw)


def measure(
    data: str, sha256: str, experiment: Experiment, draw: Draw, seed: int, victims: Sequence[int], device: str
) -> list[bytes]:
    """A job: the signals of some victims of a game (`trials.signals`), and the CPU seconds they took."""
    from dml.privacy import trials
    from dml.privacy.game import deal

    jobs.same_images(data, experiment, sha256)
    began = time.process_time()
    found = trials.signals(deal(data, experiment, draw, seed), victims, torch.device(device))
    return games.kept(found, victims, began)


def jobs_of(data: str, experiment: Experiment, draw: Draw, seed: int, device: torch.device) -> list[Job]:
    """The jobs of one game. Raises DataError when the data do not fit."""
    images = images_of(data, experiment)
    return games.jobs_of(
        measure,
        (data, images.sha256, experiment, draw),
        *(experiment, draw, seed, device),
        kind="games",
        facts=[asdict(draw)],
        modules=MODULES,
        trained=2.5 * draw.rounds * experiment.clients * experiment.epochs * len(images.train) / experiment.folds,
    )


def carry_out(seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES, planned: Plan | None = None) -> Path:
    """Play the named games, all of the plan by default, that are not on record; after each, add it to the tables in
    `to`/privacy, which is returned. A killed run goes on where it stopped. Raises ValueError for a game that is not
    planned, DataError when the data do not fit.
    """
    here, target, folder = planned or plan(), machine.device(device), to / NAME
    for seed in games.missing(folder, within(seeds, here.games)):
        listed = jobs_of(here.data, here.experiment, here.draw, seed, target)
        jobs.carry_out(listed)
        add(folder, here, seed, games.together(listed), target)
    return folder


def add(folder: Path, here: Plan, seed: int, signals: Mapping[str, np.ndarray], device: torch.device) -> None:
    """Put a game into the tables; `costs`, the last, says that it is there."""
    from dml.privacy import adversaries
    from dml.privacy.game import deal

    game, rng = deal(here.data, here.experiment, here.draw, seed), stream(seed, SERVER, "game")
    found = list(adversaries.attacks(signals, game.images.train.labels[game.public].numpy()))
    games.add_attacks(folder, seed, found, signals, lambda: rng)
    record(folder, NAME, MODULES, here, seed, signals, checks(here, seed, signals), device)


def record(
    folder: Path,
    name: str,
    modules: tuple[str, ...],
    here: Plan,
    seed: int,
    signals: Mapping[str, np.ndarray],
    told: Sequence[tuple[str, float]],
    device: torch.device,
) -> None:
    """Put what is told of a game beside its attacks into the tables of a study of such a plan, and say what was run;
    `costs`, the last, says that the game is there.
    """
    rows = [(seed, check, round(value, 6)) for check, value in told]
    tables.add(folder / "checks.csv", pd.DataFrame(rows, columns=CHECKS), CHECKS[:-1])
    facts = {
        **games.facts(name, images_of(here.data, here.experiment)),
        "experiment": asdict(here.experiment),
        "draw": asdict(here.draw),
        "code_version": store.code_version(modules),
    }
    tables.manifest(folder, facts, device)
    games.add_cost(folder, seed, signals["members"], float(signals["cpu_s"].sum()), device)


def checks(here: Plan, seed: int, signals: Mapping[str, np.ndarray]) -> list[tuple[str, float]]:
    """What a client's checks find and cost: shares, means over the victims."""
    from dml.privacy import trials

    honest = trials.honest(images_of(here.data, here.experiment), here.experiment, seed)
    rows = [(f"honest {what} refused", value) for what, value in honest.items()]
    members = signals["members"]
    for name in (name for name in signals if name.startswith("near/")):
        copy, alike = name.removeprefix("near/"), signals[name]
        rows += [(f"own image found, {copy}", float(alike[members].mean()))]
        rows += [(f"other image refused, {copy}", float(alike[~members].mean()))]
    for name in ("accuracy/local", "accuracy/left out", "left out/kept"):
        rows.append((name, float(signals[name].mean())))
    return rows
