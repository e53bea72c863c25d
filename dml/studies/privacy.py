"""The study of data/plan_privacy.md: membership games of several rounds, one after the other; the unit is the game.

A game has a pool, public folds and initial weights of its own, and some victims, each with bystanders of its own. The
signals of a few victims are a job of the usual cache; what attacks make of a whole game is added to the tables.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save
from scipy.stats import rankdata

from dml.config import DATA, Draw, Experiment, profile
from dml.data.images import images_of
from dml.experiment import cache as store
from dml.experiment import jobs
from dml.experiment.jobs import Job
from dml.streams import SERVER, stream
from dml.studies import tables
from dml.studies.plan import block, span
from dml.studies.study import STUDIES
from dml.training import machine

if TYPE_CHECKING:  # an annex: imported inside functions alone
    from dml.privacy.adversaries import Scored

FILE, NAME = DATA / "plan_privacy.md", "privacy"
MODULES = tuple(
    f"privacy.{name}" for name in ("game", "views", "shadows", "surrogate", "alignment", "chosen", "several", "trials")
)
TOGETHER = 4  # victims of a job
RATES = ["game", "strength", "view", "attack", "metric", "value"]
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
    found["cpu_s"] = torch.tensor([(time.process_time() - began) / len(victims)] * len(victims))
    return [save({name: value.contiguous() for name, value in found.items()})]


def jobs_of(data: str, experiment: Experiment, draw: Draw, seed: int, device: torch.device) -> list[Job]:
    """The jobs of one game. Raises DataError when the data do not fit."""
    images, made = images_of(data, experiment), []
    trained = 2.5 * draw.rounds * experiment.clients * experiment.epochs * len(images.train) / experiment.folds
    for first in range(0, draw.groups, TOGETHER):
        victims = tuple(range(first, min(first + TOGETHER, draw.groups)))
        facts = [asdict(draw), seed, victims]
        file = store.place("games", f"{seed}-{first}", "safetensors", experiment, images.sha256, facts, device, MODULES)
        arguments = (data, images.sha256, experiment, draw, seed, victims, str(device))
        cost = len(victims) * jobs.seconds(experiment, trained)
        title = f"game {seed}, victims {first} to {victims[-1]}"
        made.append(Job(measure, arguments, len(victims), cost, title=title, files=(file,), device=device))
    return made


def carry_out(seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES, planned: Plan | None = None) -> Path:
    """Play the named games, all of the plan by default, that are not on record; after each, add it to the tables in
    `to`/privacy, which is returned. A killed run goes on where it stopped. Raises DataError when the data do not fit.
    """
    here, target, folder = planned or plan(), machine.device(device), to / NAME
    for seed in seeds or here.games:
        if (seed,) in tables.there(folder / "costs.csv", ["game"]):
            continue
        listed = jobs_of(here.data, here.experiment, here.draw, seed, target)
        jobs.carry_out(listed)
        parts = [load_file(job.files[0]) for job in listed]
        add(folder, here, seed, {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}, target)
    return folder


def add(folder: Path, here: Plan, seed: int, signals: Mapping[str, np.ndarray], device: torch.device) -> None:
    """Put a game into the tables; `costs`, the last, says that it is there."""
    from dml.privacy import adversaries
    from dml.privacy.game import deal

    game = deal(here.data, here.experiment, here.draw, seed)
    members, canary = signals["members"], signals["canary"]
    found = list(adversaries.attacks(signals, game.images.train.labels[game.public].numpy()))
    rng, rows = stream(seed, SERVER, "game"), []
    for scored in found:
        for metric, value in adversaries.rates(scored, members, canary, rng).items():
            rows.append((seed, *scored[:3], metric, round(value, 6)))
    tables.add(folder / "rates.csv.gz", pd.DataFrame(rows, columns=RATES), RATES[:-1])
    write_scores(folder / "scores" / f"{seed}.csv.gz", found, members, canary)
    told = checks(here, seed, signals)
    tables.add(folder / "checks.csv", pd.DataFrame([(seed, *row) for row in told], columns=CHECKS), CHECKS[:-1])
    cost = {
        "game": seed,
        "victims": len(members),
        "shadows": len(members) - 1,
        "candidates": members.shape[1],
        "cpu_s": round(float(signals["cpu_s"].sum()), 1),
        "commit": machine.commit(),
        "processor": machine.processor(device),
    }
    images = images_of(here.data, here.experiment)
    facts = {
        "study": NAME,
        "data": images.name,
        "source": images.source,
        "data_sha256": images.sha256,
        "classes": images.classes,
        "experiment": asdict(here.experiment),
        "draw": asdict(here.draw),
        "code_version": store.code_version(MODULES),
    }
    tables.manifest(folder, facts, device)
    tables.add(folder / "costs.csv", pd.DataFrame([cost]), ["game"])


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
    return [(check, round(value, 6)) for check, value in rows]


def write_scores(file: Path, found: Iterable["Scored"], members: np.ndarray, canary: np.ndarray) -> None:
    """Every score of a game, a row a trial: columns target, candidate, member, canary, and one an attack
    ("strength; view; attack") with the trial's rank among all of the game, which is all that rates depend on.
    """
    targets, candidates = map(np.arange, members.shape)
    columns: dict[str, np.ndarray] = {
        "target": np.repeat(targets, len(candidates)),
        "candidate": np.tile(candidates, len(targets)),
        "member": members.astype(int),
        "canary": canary.astype(int),
    }
    for scored in found:
        ranks = rankdata(scored.scores, method="dense", nan_policy="omit").reshape(members.shape)
        columns["; ".join(scored[:3])] = np.nan_to_num(ranks).astype(int)  # 0: not tried
    table = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
    tables.add(file, table, ["target", "candidate"])
