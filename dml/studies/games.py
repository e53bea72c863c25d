"""What studies of membership games share: victims in jobs, what these leave, and the tables of a game."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save
from scipy.stats import rankdata
from torch import Tensor

from dml.config import Draw, Experiment
from dml.data.images import Images
from dml.experiment import cache as store
from dml.experiment import jobs
from dml.experiment.jobs import Job
from dml.studies import tables
from dml.training import machine

if TYPE_CHECKING:  # an annex: imported inside functions alone
    from dml.privacy.adversaries import Scored

TOGETHER = 4  # victims of a job
RATES = ["game", "strength", "view", "attack", "metric", "value"]


def groups(draw: Draw) -> Iterator[tuple[int, ...]]:
    """The victims of each job of a game."""
    for first in range(0, draw.groups, TOGETHER):
        yield tuple(range(first, min(first + TOGETHER, draw.groups)))


def missing(folder: Path, seeds: Iterable[int]) -> Iterator[int]:
    """The games that are not on record, each asked when its turn comes."""
    for seed in seeds:
        if (seed,) not in tables.there(folder / "costs.csv", ["game"]):
            yield seed


def jobs_of(
    work: Callable[..., list[bytes]],
    before: tuple,
    experiment: Experiment,
    draw: Draw,
    seed: int,
    device: torch.device,
    *,
    kind: str,
    facts: Sequence[object],
    modules: tuple[str, ...],
    trained: float,
) -> list[Job]:
    """The jobs of a game, one for some victims: `work(*before, seed, victims, device)`, kept as `kind` under the
    `facts` and `modules` that determine it. `before` begins with the data, or a plan, and their hash; `trained` is how
    many images a victim's federation is trained on.
    """
    made = []
    for victims in groups(draw):
        name, known = f"{seed}-{victims[0]}", [*facts, seed, victims]
        file = store.place(kind, name, "safetensors", experiment, before[1], known, device, modules)
        title = f"game {seed}, victims {victims[0]} to {victims[-1]}"
        cost, arguments = len(victims) * jobs.seconds(experiment, trained), (*before, seed, victims, str(device))
        made.append(Job(work, arguments, len(victims), cost, title=title, files=(file,), device=device))
    return made


def kept(signals: dict[str, Tensor], victims: Sequence[int], began: float) -> list[bytes]:
    """What a job leaves: the signals of its victims, and the CPU seconds of each since `began`, as cpu_s."""
    signals["cpu_s"] = torch.tensor([(time.process_time() - began) / len(victims)] * len(victims))
    return [save({name: value.contiguous() for name, value in signals.items()})]


def together(listed: Sequence[Job]) -> dict[str, np.ndarray]:
    """The signals of all victims of a game, from its finished jobs."""
    parts = [load_file(job.files[0]) for job in listed]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def add_attacks(
    folder: Path,
    seed: int,
    found: Sequence["Scored"],
    signals: Mapping[str, np.ndarray],
    rng: Callable[[], np.random.Generator],
) -> None:
    """Put what attacks made of a game into rates.csv.gz and scores/; `rng` gives the dice of an attack's control."""
    from dml.privacy import adversaries

    members, canary, rows = signals["members"], signals["canary"], []
    for scored in found:
        for metric, value in adversaries.rates(scored, members, canary, rng()).items():
            rows.append((seed, *scored[:3], metric, round(value, 6)))
    tables.add(folder / "rates.csv.gz", pd.DataFrame(rows, columns=RATES), RATES[:-1])
    write_scores(folder / "scores" / f"{seed}.csv.gz", found, members, canary)


def add_cost(folder: Path, seed: int, members: np.ndarray, cpu_s: float, device: torch.device) -> None:
    """Say in costs.csv, the last of a game's tables, that it is there."""
    cost = {
        "game": seed,
        "victims": len(members),
        "shadows": len(members) - 1,
        "candidates": members.shape[1],
        "cpu_s": round(cpu_s, 1),
        "commit": machine.commit(),
        "processor": machine.processor(device),
    }
    tables.add(folder / "costs.csv", pd.DataFrame([cost]), ["game"])


def facts(name: str, images: Images) -> dict[str, Any]:
    """What a manifest says of a study's images."""
    about = {"data": images.name, "source": images.source, "data_sha256": images.sha256, "classes": images.classes}
    return {"study": name, **about}


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
