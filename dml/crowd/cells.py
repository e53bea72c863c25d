"""One cell of the study of many clients: an arm, how many clients, who takes part; and what is kept of one seed."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import pandas as pd

from dml.config import Experiment
from dml.crowd.arms import ARMS, run
from dml.crowd.federation import SAMPLE, Crowd
from dml.experiment import jobs
from dml.streams import SERVER
from dml.training import machine

MODULES = tuple(f"crowd.{name}" for name in ("deal", "store", "federation", "arms", "cells"))
MEASURED = {  # of a client, at the end: columns of a table by metric
    "unseen accuracy": "accuracy",
    "unseen log loss": "log_loss",
    "unseen disagreement": "disagreement",
    "turns": "turns",
    "staleness": "staleness",
}


@dataclass(frozen=True)
class Cell:
    """What is asked. Clients keep their private images (`kept`) or get fresh ones each round; `one_public`: all rounds
    have the same public fold. Raises ValueError for an arm that there is not.
    """

    arm: str
    clients: int
    rounds: int
    share: float = 1.0
    kept: bool = True
    one_public: bool = False

    def __post_init__(self):
        if self.arm not in ARMS:
            raise ValueError(f"arm {self.arm!r}: choose one of {', '.join(ARMS)}")

    def experiment(self, base: Experiment) -> Experiment:
        """`base` with this many clients and rounds; only the end is looked at."""
        return replace(base, clients=self.clients, rounds=self.rounds, glance=0)

    def cost(self, base: Experiment, fold: int) -> float:
        """About how many CPU seconds one seed takes."""
        turns, epochs = self.clients * self.rounds * self.share, base.epochs
        public = 0 if self.arm in ("local", "fedavg") else 1
        looks = min(SAMPLE, self.clients) if self.arm != "fedavg" else 1
        trained = turns * epochs * fold * (base.train_share + public)
        return jobs.seconds(base, trained, looks * base.unseen_images)


def measure(data: str, sha256: str, base: Experiment, fold: int, cell: Cell, seed: int, device: str) -> list[bytes]:
    """The record of one seed of a cell, as JSON: rows of the sampled clients, and facts of the run."""
    began, cpu = time.perf_counter(), time.process_time()
    images = jobs.same_images(data, base, sha256)
    fed = Crowd(
        cell.experiment(base),
        images,
        seed,
        fold,
        cell.share,
        cell.kept,
        cell.one_public,
        device=machine.device(device),
    )
    run(ARMS[cell.arm](), fed)
    facts = {**asdict(cell), "seed": seed, **traffic(fed)}
    for metric in ("table age", "float32 error"):
        facts[metric.replace(" ", "_")] = max((row.value for row in fed.rows if row.metric == metric), default=None)
    facts |= {"client_epochs": len(fed.history), "wall_s": time.perf_counter() - began}
    facts |= {"cpu_s": time.process_time() - cpu, "look_s": fed.look_s, "commit": machine.commit()}
    return [json.dumps({"clients": looked_at(fed), "facts": facts}).encode()]


def looked_at(fed: Crowd) -> list[dict]:
    """A row a sampled client: `MEASURED`, by client. Where one model serves all, its scores are everybody's."""
    found: dict[int, dict[str, float]] = {index: {"client": index} for index in fed.sample}
    for row in fed.rows:
        if row.metric in MEASURED:
            for index in fed.sample if row.client == SERVER else [row.client]:
                found[index][MEASURED[row.metric]] = round(row.value, 6)
    return list(found.values())


def traffic(fed: Crowd) -> Mapping[str, float]:
    """Bytes: of a client in a round in which it takes part, `up` and `down`, and in its set-up; of the server in a
    round, `server_in` and `server_out`.
    """
    table = pd.DataFrame(fed.post.ledger, columns=["round", "sender", "receiver", "kind", "payload", "encoded"])
    later, turns = table[table["round"] > 0], sum(len(fed.present(r)) for r in fed.rounds())
    up = int(later.loc[later["receiver"] == SERVER, "encoded"].sum())
    down = int(later.loc[later["sender"] == SERVER, "encoded"].sum())
    setup = int(table.loc[table["round"] == 0, "encoded"].sum())
    each = {"up": up / turns, "down": down / turns, "setup": setup / len(fed.everyone)} if turns else {}
    each |= {"server_in": up / fed.experiment.rounds, "server_out": down / fed.experiment.rounds}
    return {name: round(value, 1) for name, value in each.items()}
