"""One federation of a supersample: an arm is run on what the masks chose, and every cell's loss is kept as text."""

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dml.arms.catalogue import run
from dml.arms.federation import Federation
from dml.arms.record import unseen_logits
from dml.config import Experiment
from dml.experiment import jobs
from dml.experiment.ladder import find
from dml.generalisation.gaps import Losses, errors
from dml.generalisation.supersample import Design, Supersample, draw
from dml.losses import log_probabilities, model_loss
from dml.training import machine, workers
from dml.training.clients import correct

MODULES = (
    "data.partition",
    *(f"generalisation.{name}" for name in ("supersample", "federations", "gaps")),
)


def measure(
    data: str, sha256: str, experiment: Experiment, design: Design, seed: int, arm: str, number: int, device: str
) -> list[bytes]:
    """The record of one run of an outer draw, as JSON. The seed of training is that of the draw: fixed over its runs,
    which differ in V and U alone, and common to the arms.
    """
    began = time.process_time()
    supersample = draw(jobs.same_images(data, experiment, sha256), design, experiment.rounds, seed)
    folds = supersample.folds(number, experiment.rounds)
    fed = Federation(experiment, supersample.images, seed, torch.device(device), folds=folds)
    run(find(arm), fed, workers.advance)
    facts = {"arm": arm, "run": number, "commit": machine.commit()}
    return [json.dumps({**facts, **_record(fed, supersample, number), "cpu_s": time.process_time() - began}).encode()]


def _record(fed: Federation, supersample: Supersample, number: int) -> dict:
    """0/1 losses of every cell as digits, and mean losses of the run (see `errors`)."""
    logits = torch.stack([unseen_logits(fed, client) for client in fed.clients])
    wrong = ~correct(logits, fed.unseen_labels)
    log_loss = model_loss(log_probabilities(logits.double()), fed.unseen_labels.expand(len(logits), -1))
    told: dict[str, Any] = {}
    for name, values in {"0/1": wrong.long(), "log": log_loss}.items():
        losses = _losses(values.numpy(), supersample, number)
        told[name] = {of: float(mean.item()) for of, mean in errors(losses).items()}
        if name == "0/1":
            told |= {"own_losses": digits(losses.own), "net_losses": digits(losses.wrong)}
    return told


def _losses(values: np.ndarray, supersample: Supersample, number: int) -> Losses:
    """Losses of one run from those of every net, [K, cells]."""
    pairs, rows = supersample.design.pairs, supersample.design.rows
    of_nets = values.reshape(pairs, pairs, 2, rows, 2)
    every, vector = np.arange(pairs), supersample.vectors[number]
    own = of_nets[every, every, vector]
    return Losses(own[None], of_nets.sum(0)[None], vector[None], supersample.masks[number][None])


def digits(values: np.ndarray) -> str:
    """Whole numbers from 0 to 9 as text, one after the other."""
    return "".join(map(str, values.ravel().tolist()))


def numbers(texts: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of such texts, [texts, *shape]. Raises ValueError when a text has another length."""
    return np.array([[int(digit) for digit in text] for text in texts]).reshape(len(texts), *shape)
