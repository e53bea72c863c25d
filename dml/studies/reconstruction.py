"""The study of data/plan_reconstruction.md: every inversion of a victim's messages, victim by victim.

Tables only of photographs; of drawn faces, which show nobody, also the pictures that the figure needs.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from dml.config import DATA, Draw, Experiment, profile
from dml.data.images import images_of
from dml.experiment import cache as store
from dml.experiment import jobs
from dml.experiment.jobs import Job
from dml.files import replacing
from dml.studies import tables
from dml.studies.plan import block, span, within
from dml.studies.study import STUDIES
from dml.training import machine

FILE, NAME = DATA / "plan_reconstruction.md", "reconstruction"
MODULES = (
    "data.audit",
    *(f"privacy.{name}" for name in ("game", "views", "shadows", "surrogate", "defences")),
    *(f"privacy.{name}" for name in ("reconstruction", "inversion", "rates")),
)
KEYS = ["data", "seed", "attack", "view", "against", "image"]
DRAWN, PICTURES = "faces", "faces.safetensors"  # the data set whose pictures are kept, and where
TOGETHER = 4  # victims between two looks at the tables
TWICE = 8  # times as long as a training step takes one of an inversion


@dataclass(frozen=True)
class Plan:
    """Seeds of the victims and experiment by data set, draw of a victim's game, iterations, margin of SSIM."""

    victims: Mapping[str, range]
    experiments: Mapping[str, Experiment]
    draw: Draw
    iterations: int
    margin: float


@cache
def plan(file: Path = FILE) -> Plan:
    """The plan of a file. Raises ValueError when it holds no TOML block."""
    told = block(file)
    base, draw = profile(told["profile"]).experiment, Draw(victims=1, **told["draw"])
    experiments = {data: replace(base, **changes) for data, changes in told["experiments"].items()}
    victims = {data: span(seeds) for data, seeds in told["victims"].items()}
    return Plan(victims, experiments, draw, told["iterations"], told["margin"])


def measure(here: Plan, data: str, sha256: str, seed: int, device: str) -> list[bytes]:
    """A job: what every attack recovers of one victim (`reconstruction.attack`), "others/<attack>/scores" of the
    control, and the CPU seconds it took.
    """
    from dml.privacy import reconstruction
    from dml.privacy.game import deal

    experiment = here.experiments[data]
    jobs.same_images(data, experiment, sha256)
    began, target = time.process_time(), torch.device(device)
    game = deal(data, experiment, here.draw, seed)
    found = reconstruction.attack(game, 0, here.iterations, True, target)
    found |= {f"others/{name}": value for name, value in reconstruction.others(game, 0, found, target).items()}
    found["cpu_s"] = torch.tensor(time.process_time() - began)
    return [save({name: value.contiguous() for name, value in found.items()})]


def job_of(here: Plan, data: str, seed: int, device: torch.device) -> Job:
    """The job of one victim. Raises DataError when the data do not fit."""
    from dml.privacy.reconstruction import STEPS

    experiment, facts = here.experiments[data], [asdict(here.draw), here.iterations, seed]
    images = images_of(data, experiment)
    title = f"pictures-{data}-{seed}"
    file = store.place("probes", title, "safetensors", experiment, images.sha256, facts, device, MODULES)
    fold = len(images.train) / experiment.folds
    cost = jobs.seconds(experiment, 2 * TWICE * here.iterations * fold)
    arguments = (here, data, images.sha256, seed, str(device))
    return Job(measure, arguments, STEPS, cost, title=title, files=(file,), device=device)


def carry_out(seeds: Sequence[int] = (), device: str = "auto", to: Path = STUDIES, planned: Plan | None = None) -> Path:
    """Attack the named victims, all of the plan by default, that are not on record; after a few, add them to the tables
    in `to`/reconstruction, which is returned. A killed run goes on. Raises ValueError for a victim that is not planned,
    DataError when the data do not fit.
    """
    here, target, folder = planned or plan(), machine.device(device), to / NAME
    asked = within(seeds, {seed for victims in here.victims.values() for seed in victims})
    for data, victims in here.victims.items():
        done = tables.there(folder / "costs.csv", KEYS[:2])
        missing = [seed for seed in victims if (data, seed) not in done and seed in asked]
        for first in range(0, len(missing), TOGETHER):
            listed = {seed: job_of(here, data, seed, target) for seed in missing[first : first + TOGETHER]}
            jobs.carry_out(listed.values())
            for seed, job in listed.items():
                add(folder, here, data, seed, load_file(job.files[0]), target)
    return folder


def add(folder: Path, here: Plan, data: str, seed: int, found: Mapping[str, Tensor], device: torch.device) -> None:
    """Put a victim into the tables; `costs`, the last, says that it is there."""
    from dml.privacy.reconstruction import ATTACKS, MEASURES

    rows = []
    for against, prefix in (("own", ""), ("others", "others/")):
        for attack, view in ATTACKS.items():
            for image, values in enumerate(found[f"{prefix}{attack}/scores"].tolist()):
                rows.append((data, seed, attack, view, against, image, *(round(value, 4) for value in values)))
    table = pd.DataFrame(rows, columns=[*KEYS, *MEASURES])
    tables.add(folder / "pictures.csv.gz", table, KEYS)
    if data == DRAWN:
        keep(folder / PICTURES, seed, table[table["against"] == "own"], found)
    cost = {
        "data": data,
        "seed": seed,
        "cpu_s": round(float(found["cpu_s"]), 1),
        "commit": machine.commit(),
        "processor": machine.processor(device),
    }
    facts = {
        "study": NAME,
        "data": list(here.victims),
        "experiments": {name: asdict(experiment) for name, experiment in here.experiments.items()},
        "draw": asdict(here.draw),
        "iterations": here.iterations,
        "code_version": store.code_version(MODULES),
    }
    tables.manifest(folder, facts, device)
    tables.add(folder / "costs.csv", pd.DataFrame([cost]), KEYS[:2])


def keep(file: Path, seed: int, own: pd.DataFrame, found: Mapping[str, Tensor]) -> None:
    """Keep the first and the best picture of each attack on a victim, by "<seed>/<attack>/<what>/<image>"."""
    with tables.changing(file):
        kept = load_file(file) if file.is_file() else {}
        for attack, rows in own.groupby("attack"):
            best = (rows["psnr"] - rows["psnr of the mean"]).idxmax()
            for image in {0, int(rows.loc[best, "image"])}:
                for what in ("private", "recovered"):
                    kept[f"{seed}/{attack}/{what}/{image}"] = found[f"{attack}/{what}"][image]
        with replacing(file) as part:
            part.write_bytes(save({name: kept[name].contiguous() for name in sorted(kept)}))
