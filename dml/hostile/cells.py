"""One cell of a hostile experiment: an arm, who lies in it and how, what guards it; and what is measured of a seed."""

import json
import time
from dataclasses import asdict, dataclass, replace
from statistics import mean
from typing import Any

from dml.arms.catalogue import Arm, run
from dml.arms.federation import Federation
from dml.config import Experiment
from dml.experiment import jobs
from dml.experiment.ladder import find
from dml.hostile import arms, lineage, pdmm, poison
from dml.hostile.liars import corrupt
from dml.streams import SERVER
from dml.training import machine, workers

MODULES = tuple(
    f"hostile.{name}"
    for name in ("attacks", "rules", "messages", "wording", "liars", "poison", "arms", "pdmm", "lineage", "cells")
)


@dataclass(frozen=True)
class Cell:
    """What is asked. `expected`: how many liars the rule is told; `labels`: whether the public fold has any."""

    arm: str
    clients: int
    liars: int = 0
    attack: str = ""
    rule: str = "mean"
    expected: int = 0
    clip: float = Experiment.clip
    labels: bool = True
    label_alpha: float = 0.0  # Dirichlet concentration of a client's classes; 0: all the same

    @property
    def title(self) -> str:
        """The cell in words."""
        said = [self.arm, f"K = {self.clients}", f"clip {self.clip:g}", *([] if self.labels else ["no labels"])]
        said += [f"skew {self.label_alpha:g}"] if self.label_alpha else []
        rule = [] if self.rule == "mean" else [f"{self.rule} for {self.expected}"]
        return ", ".join((*said, *rule, f"{self.liars} {self.attack}" if self.attack else "honest"))

    def experiment(self, base: Experiment) -> Experiment:
        """`base` with this many clients, whose folds keep their size."""
        chosen: dict[str, Any] = {"clients": self.clients, "clip": self.clip}
        chosen |= {"label_alpha": self.label_alpha} if self.label_alpha else {}
        chosen |= {} if self.labels else {"public_fold": "unlabelled"}
        changed = replace(base, **chosen)
        return replace(changed, train_images=round(base.train_images / base.folds * changed.folds))

    def begin(self) -> Arm:
        """The arm that is run. Raises ValueError or KeyError for one that there is not."""
        if self.rule != "mean":
            arms.check(self.arm, self.rule, self.clients, self.expected)
            return arms.guarded(self.arm, self.rule, self.expected)
        return pdmm.ARMS.get(self.arm) or find(self.arm)


def measure(data: str, sha256: str, experiment: Experiment, cell: Cell, seed: int, device: str) -> list[bytes]:
    """The record of one seed of a cell, as JSON; `experiment` is the cell's own."""
    began = time.process_time()
    images = jobs.same_images(data, experiment, sha256)
    fed = Federation(experiment, images, seed, machine.device(device))
    if cell.attack:
        corrupt(fed, cell.attack, cell.liars)
    run(cell.begin(), fed, workers.advance)
    facts = {"seed": seed, **asdict(cell), "commit": machine.commit()}
    return [json.dumps({**facts, "values": values(fed, cell), "cpu_s": time.process_time() - began}).encode()]


def values(fed: Federation, cell: Cell) -> dict[str, float]:
    """What is kept of a run, of honest clients only: accuracy on the unseen set after the last round, of all and of the
    worst; bytes of one client in a round, up and down; what was refused; the weight of the liars in the last sum; of a
    backdoor, how often the trigger works; and, where nets move, how many honest clients hold one of a liar's line.
    """
    honest, last = range(cell.clients - cell.liars), fed.experiment.rounds

    def of(metric: str, clients: range) -> list[float]:
        rows = [row for row in fed.rows if row.metric == metric and row.round == last]
        return [row.value for row in rows if row.client in clients]

    accuracy, kept = of("unseen accuracy", honest), {}
    weights = of("weight", range(cell.clients - cell.liars, cell.clients))
    if weights:
        kept["liar weight"] = mean(weights)
    if cell.attack == "backdoor":
        kept["backdoor"] = mean(poison.success(fed, fed.clients[index]) for index in honest)
    if cell.liars and cell.arm in lineage.REPLACING:
        kept["infected"] = lineage.infected(lineage.moves(fed), range(len(honest), cell.clients))[-1]
    sent = [entry for entry in fed.post.ledger if entry.round > 0]
    up = sum(entry.encoded for entry in sent if entry.sender != SERVER)
    down = sum(entry.encoded for entry in sent if entry.sender == SERVER)
    turns = cell.clients * last
    kept |= {"up": up / turns, "down": down / turns, "refused": len(fed.refusals)}
    return {"accuracy": mean(accuracy), "worst": min(accuracy), **kept}
