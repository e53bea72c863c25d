"""Tidy tables of what was measured: the rows of every arm and seed, from the cache.

The unit of work is one (arm, seed). Each is computed once, by a worker process with one thread, under a key of
everything that determines it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch

from dml.arms.catalogue import arms_for, run
from dml.arms.federation import Federation
from dml.arms.record import LATE
from dml.config import Experiment
from dml.data.images import Images, images_of, require
from dml.experiment import cache, jobs
from dml.experiment.jobs import Job
from dml.experiment.ladder import code_of, find, rungs_for
from dml.training import machine, workers

RESULTS = ["seed", "arm", "round", "client", "metric", "value"]
LEDGER = ["seed", "arm", "round", "sender", "receiver", "kind", "payload", "encoded"]
RIGHT = ["seed", "arm", "round", "models", "right"]
HISTORY = ["seed", "arm", "round", "phase", "epoch", "client", "loss", "accuracy"]


@dataclass(frozen=True)
class ArmTables:
    """What a run measured: `results`, `history` and `ledger` (tidy); `right`: how many models are right on each unseen
    image in the last rounds; `costs`: seconds, commit, and whether reused.
    """

    results: pd.DataFrame
    history: pd.DataFrame
    ledger: pd.DataFrame
    right: pd.DataFrame
    costs: pd.DataFrame

    def summary(self) -> str:
        """One line that says how much was computed and how much was found in the cache."""
        reused = int(self.costs["reused"].sum())
        return f"{len(self.costs) - reused} computed, {reused} reused (of {len(self.costs)} pairs of arm and seed)"


def places(
    images: Images, experiment: Experiment, seeds: Sequence[int], device: torch.device, arms: Sequence[str] = ()
) -> dict[tuple[int, str], Path]:
    """Where the cache keeps each (seed, arm), computed or not: of every arm, or of the named `arms` and rungs."""
    chosen = rungs_for(arms, len(images.classes)) if arms else arms_for(len(images.classes))
    return {
        (seed, arm): cache.place(
            *("arms", f"{arm}-seed{seed}", "json", experiment, images.sha256, [arm, seed], device),
            code_of(experiment, arm),
        )
        for seed in seeds
        for arm in chosen
    }


def arm_jobs(
    data: str, experiment: Experiment, seeds: Sequence[int], device: torch.device, arms: Sequence[str] = ()
) -> list[Job]:
    """The jobs of every arm, or of the named `arms` and rungs, for every seed.

    Raises DataError when data and experiment do not fit.
    """
    images = images_of(data, experiment)
    require(images, experiment.folds)
    files = places(images, experiment, seeds, device, arms)
    return [
        Job(
            measure,
            (data, images.sha256, experiment, seed, arm, str(device)),
            phases(experiment, arm),
            cost(experiment, images, arm),
            title=f"{arm}, seed {seed}, K = {experiment.clients}",
            files=(file,),
            device=device,
            says=reached,
        )
        for (seed, arm), file in files.items()
    ]


def compute(
    data: str, experiment: Experiment, seeds: Sequence[int], device: str = "auto", arms: Sequence[str] = ()
) -> ArmTables:
    """Every arm (or the named `arms` and rungs) for every seed on the data set `data`; what the cache holds is not
    computed again.

    Raises DataError or ValueError, before anything is trained, when data and experiment do not fit.
    """
    target = machine.device(device)
    listed = arm_jobs(data, experiment, seeds, target, arms)
    files = places(images_of(data, experiment), experiment, seeds, target, arms)
    records = {pair: part for pair, file in files.items() if (part := _read(file))}
    for pair in files.keys() - records.keys():
        files[pair].unlink(missing_ok=True)  # cut short by a full disk: compute it again
    jobs.carry_out(listed)
    parts = {pair: records.get(pair) or json.loads(file.read_text(encoding="utf-8")) for pair, file in files.items()}
    return tables(parts, set(records))


def tables(parts: Mapping[tuple[int, str], dict], reused: set[tuple[int, str]]) -> ArmTables:
    """The records of each (seed, arm) as tables; those in `reused` were not computed now."""
    return ArmTables(
        results=_table(parts, "rows", RESULTS),
        history=_table(parts, "history", HISTORY),
        ledger=_table(parts, "ledger", LEDGER),
        right=_table(parts, "right", RIGHT),
        costs=pd.DataFrame(
            {"seed": seed, "arm": arm, **{name: part[name] for name in ("wall_s", "cpu_s", "commit")}}
            | {"reused": (seed, arm) in reused}
            for (seed, arm), part in parts.items()
        ),
    )


def _read(file: Path) -> dict | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _table(parts: Mapping[tuple[int, str], dict], kind: str, columns: list[str]) -> pd.DataFrame:
    rows = [{"seed": seed, "arm": arm, **row} for (seed, arm), part in parts.items() for row in part[kind]]
    return pd.DataFrame(rows, columns=columns)


def measure(data: str, sha256: str, experiment: Experiment, seed: int, arm: str, device: str) -> list[bytes]:
    """An arm's record of a seed, as JSON."""
    began, cpu = time.perf_counter(), time.process_time()
    fed = Federation(experiment, jobs.same_images(data, experiment, sha256), seed, torch.device(device))
    run(find(arm), fed, workers.advance)
    wall_s, cpu_s = round(time.perf_counter() - began, 2), round(time.process_time() - cpu, 2)
    facts = {"arm": arm, "commit": machine.commit(), "wall_s": wall_s, "cpu_s": cpu_s}
    return [json.dumps({**facts, **_record(fed)}).encode()]


def _record(fed: Federation) -> dict:
    return {
        "seed": fed.seed,
        "rows": [asdict(row) for row in fed.rows],
        "history": [asdict(epoch) for epoch in fed.history],
        "ledger": [entry._asdict() for entry in fed.post.ledger],
        "right": [asdict(late) for late in fed.right],
        "refusals": fed.refusals,
    }


def reached(record: bytes) -> str:
    """The accuracy on unseen images in an arm's record, after the last round, in words."""
    values = [row["value"] for row in json.loads(record)["rows"] if row["metric"] == "unseen accuracy"]
    return f"{100 * sum(values) / len(values):.1f} % right"


def refines(arm: str) -> bool:
    """Whether an arm has a second batch of fits in a round: on the public fold, or the server's."""
    return arm not in ("local", "pooled") and (not arm.startswith("fedavg") or arm.endswith("public"))


def phases(experiment: Experiment, arm: str) -> int:
    """How many batches of fits an arm yields."""
    return 1 if arm == "pooled" else 1 + experiment.rounds * (1 + refines(arm))


def cost(experiment: Experiment, images: Images, arm: str) -> float:
    """About how many CPU seconds an arm takes for one seed."""
    fold, epochs, looks = len(images.train) / experiment.folds, experiment.epochs, len(images.unseen)
    first = experiment.train_share
    if arm == "pooled":
        return jobs.seconds(experiment, epochs * first * len(images.train), looks)
    turns = experiment.clients * experiment.rounds
    public = experiment.rounds if arm == "asynchronous" else turns * refines(arm)
    mixed = turns * (arm == "fedavg+mixed")
    trained = epochs * fold * (first + turns * first + public + mixed)
    evaluated = experiment.clients * looks * min(LATE, experiment.rounds) + turns * (
        3 * fold + min(experiment.glance, looks)
    )
    return jobs.seconds(experiment, trained, evaluated)
