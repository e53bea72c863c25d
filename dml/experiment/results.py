"""Tidy tables of what was measured, from a cache that survives a killed run.

The unit of work is one (arm, seed). Each is computed once, by a worker process with one thread, and written atomically
to the cache under a key of everything that determines it; a run that was killed finds there what it had finished.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from dml.arms.catalogue import arms_for, run
from dml.arms.federation import Federation
from dml.config import CACHE, Experiment
from dml.data import images as data
from dml.experiment.ladder import find, rungs_for
from dml.files import replacing
from dml.fingerprint import fingerprint
from dml.training import machine, workers

NUMERIC = ("torch", "numpy", "scipy", "scikit-learn")  # packages whose version can change a digit
CODE = (
    *("streams", "models", "losses", "data.folds", "training.clients", "training.stack", "training.metrics"),
    *("exchange.encodings", "exchange.envelope", "exchange.messages", "exchange.ledger", "exchange.topologies"),
    *("arms.federation", "arms.catalogue", "experiment.ladder"),
)
RESULTS = ["seed", "arm", "round", "client", "metric", "value"]
LEDGER = ["seed", "arm", "round", "sender", "receiver", "kind", "payload", "encoded"]
HISTORY = ["seed", "arm", "round", "phase", "epoch", "client", "loss", "accuracy"]


@dataclass(frozen=True)
class Tables:
    """What a run measured: `results`, `history` and `ledger` (tidy); `costs`: seconds, commit, and whether reused."""

    results: pd.DataFrame
    history: pd.DataFrame
    ledger: pd.DataFrame
    costs: pd.DataFrame

    def summary(self) -> str:
        """One line that says how much was computed and how much was found in the cache."""
        reused = int(self.costs["reused"].sum())
        return f"{len(self.costs) - reused} computed, {reused} reused (of {len(self.costs)} pairs of arm and seed)"


def images(name: str, experiment: Experiment) -> data.Images:
    """The data set of an experiment, at its size and counts."""
    return data.load(
        name,
        size=experiment.size,
        train_count=experiment.train_images,
        unseen_count=experiment.unseen_images,
        cache=CACHE / "images",
    )


def code_version(modules: tuple[str, ...] = ()) -> str:
    """A hash of the code that determines results, and of `modules` that do so besides."""
    return fingerprint(CODE + modules)


def key(experiment: Experiment, sha256: str, arm: str, seed: int, device: torch.device) -> str:
    """The cache key of one (arm, seed): a hash of all that can change its numbers on this machine."""
    return digest([asdict(experiment), sha256, arm, seed], device, code_version())


def digest(facts: list, device: torch.device, code: str) -> str:
    """A cache key: a hash of facts, of the machine and the versions that compute with them, and of the code."""
    where = [device.type, machine.processor(device), machine.versions(NUMERIC)]
    return hashlib.sha256(json.dumps([*facts, where, code], sort_keys=True).encode()).hexdigest()[:20]


def files(
    name: str, experiment: Experiment, seeds: Sequence[int], device: str = "auto", arms: Sequence[str] = ()
) -> dict[tuple, Path]:
    """Where the cache keeps each (seed, arm), computed or not."""
    loaded, target = images(name, experiment), machine.device(device)
    chosen = rungs_for(arms, len(loaded.classes)) if arms else arms_for(len(loaded.classes))
    return {
        (seed, arm): CACHE / "arms" / f"{arm}-seed{seed}-{key(experiment, loaded.sha256, arm, seed, target)}.json"
        for seed in seeds
        for arm in chosen
    }


def compute(
    name: str, experiment: Experiment, seeds: Sequence[int], device: str = "auto", arms: Sequence[str] = ()
) -> Tables:
    """Every arm (or the named `arms` and rungs) for every seed on the data set `name`; what the cache holds is not
    computed again.

    Raises DataError or ValueError, before anything is trained, when data and experiment do not fit.
    """
    data.require(images(name, experiment), experiment.folds)
    places = files(name, experiment, seeds, device, arms)
    found = {pair: part for pair, file in places.items() if (part := _read(file))}
    missing = {pair: file for pair, file in places.items() if pair not in found}
    if missing:
        target = machine.device(device)
        engine = partial(_in_stacks, device=target) if target.type == "cuda" else _in_processes
        engine(name, experiment, missing)
    parts = {pair: found.get(pair) or _read(file) for pair, file in places.items()}
    return Tables(
        results=_table(parts, "rows", RESULTS),
        history=_table(parts, "history", HISTORY),
        ledger=_table(parts, "ledger", LEDGER),
        costs=pd.DataFrame(
            {
                "seed": seed,
                "arm": arm,
                **{name: part[name] for name in ("wall_s", "cpu_s", "commit")},
                "reused": (seed, arm) in found,
            }
            for (seed, arm), part in parts.items()
        ),
    )


def _read(file: Path) -> dict | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or cut short by a full disk: compute it again
        return None


def _table(parts: dict, kind: str, columns: list[str]) -> pd.DataFrame:
    rows = [{"seed": seed, "arm": arm, **row} for (seed, arm), part in parts.items() for row in part[kind]]
    return pd.DataFrame(rows, columns=columns)


def _write(fed: Federation, arm: str, file: Path, wall: float, cpu: float) -> None:
    record = {
        "seed": fed.seed,
        "arm": arm,
        "rows": [asdict(row) for row in fed.rows],
        "history": [asdict(epoch) for epoch in fed.history],
        "ledger": [entry._asdict() for entry in fed.post.ledger],
        "refusals": fed.refusals,
        "commit": machine.commit(),
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
    }
    with replacing(file) as part:
        part.write_text(json.dumps(record), encoding="utf-8")


def _steps(experiment: Experiment, arm: str) -> int:
    """How many batches of fits an arm yields, for the progress bar."""
    refines = arm not in ("local", "pooled") and (not arm.startswith("fedavg") or arm == "fedavg+public")
    return 1 if arm == "pooled" else 1 + experiment.rounds * (1 + refines)


# -- on a GPU: one process, the clients of several seeds in one stack ---------------------------------------------

TOGETHER = 8  # seeds: 40 clients fill a large GPU, and memory does not grow with the number of seeds


def _in_stacks(name: str, experiment: Experiment, missing: dict, device: torch.device) -> None:
    machine.settle_gpu()
    loaded, stacks = images(name, experiment), []
    for arm in dict.fromkeys(arm for _, arm in missing):
        seeds = [seed for seed, each in missing if each == arm]
        stacks += [(arm, seeds[start : start + TOGETHER]) for start in range(0, len(seeds), TOGETHER)]
    with tqdm(
        total=sum(_steps(experiment, arm) for arm, _ in stacks), desc="training", unit="phase", mininterval=2
    ) as bar:
        for arm, seeds in stacks:
            began, cpu = time.perf_counter(), time.process_time()
            federations = [Federation(experiment, loaded, seed, device) for seed in seeds]
            run(find(arm), federations, bar.update)
            wall, cpu = (time.perf_counter() - began) / len(seeds), (time.process_time() - cpu) / len(seeds)
            for fed in federations:
                _write(fed, arm, missing[fed.seed, arm], wall, cpu)


# -- on a CPU: one worker a core, one (arm, seed) a job -----------------------------------------------------------


def _in_processes(name: str, experiment: Experiment, missing: dict) -> None:
    longest_first = sorted(missing, key=lambda pair: (pair[0], -_steps(experiment, pair[1])))
    workers.carry_out(
        [
            workers.Job(_job, (name, experiment, *pair, missing[pair]), _steps(experiment, pair[1]))
            for pair in longest_first
        ],
        unit="phase",
    )


def _job(name: str, experiment: Experiment, seed: int, arm: str, file: Path) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    fed = Federation(experiment, images(name, experiment), seed)
    run(find(arm), [fed], workers.advance)
    _write(fed, arm, file, time.perf_counter() - began, time.process_time() - cpu)
