"""The door for a newcomer (notebook 00): distributed mutual learning from scratch, and one round small enough to watch.

`from_scratch` is the whole method in plain torch. The lesson below it has the federation, the messages and the loss of
the experiment; only the folds are cut to a size of one's choice, and the peer term has a weight, which the paper fixes
at 1.
"""

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.optim import Adam

from dml import config
from dml.arms import messaging, steps
from dml.arms.federation import Federation
from dml.config import Experiment
from dml.data.folds import Folds, plan, split_fold
from dml.data.images import Images, require
from dml.exchange.topologies import add_up, peers_of
from dml.losses import log_probabilities, model_loss, peer_loss
from dml.models import VisionNet
from dml.streams import PURPOSES, SERVER, stream
from dml.training.clients import Client, Fit, adam, correct, predict, to_float
from dml.training.memory import carry_out

SMALL = replace(config.SMALL, rounds=1, glance=0)
FORM = "student-first"


def from_scratch(images: Images, experiment: Experiment, seed: int = 0) -> list[VisionNet]:
    """Distributed mutual learning for two classes, in the open: the clients' models at the end."""
    x, y = images.train.images.permute(0, 2, 3, 1).contiguous(), images.train.labels
    folds, clients = plan(y.numpy(), experiment, seed), range(experiment.clients)
    everyone, share, size = (SERVER, *clients), experiment.train_share, experiment.batch
    model = {i: VisionNet(experiment.size, 2, stream(seed, SERVER, "weights")) for i in everyone}
    random = {(i, purpose): stream(seed, i, purpose) for i in everyone for purpose in PURPOSES}

    def train(i: int, optimiser: Adam, fold: Tensor, peers: Tensor | None = None) -> None:
        dropout = random[i, "local dropout" if peers is None else "public dropout"]
        for _ in range(experiment.epochs):
            if peers is None:  # private images, shuffled
                order = random[i, "local order"].permutation(len(fold))
                batches = torch.from_numpy(order).split(size)
            else:  # public images, in batches that differ by at most one
                batches = torch.arange(len(fold)).tensor_split(math.ceil(len(fold) / size))
            for batch in batches:
                masks = model[i].dropout_masks(len(batch), dropout, x.device)
                log_p = log_probabilities(model[i](to_float(x[fold[batch]]), masks))
                loss = model_loss(log_p, y[fold[batch]])  # L_model
                if peers is not None:  # + L_KL, the mean over the peers j of KL(P_i || P_j)
                    loss = loss + (log_p.exp() * (log_p - peers[batch])).sum(1)
                optimiser.zero_grad()
                loss.mean().backward()
                optimiser.step()

    fresh = {i: partial(adam, list(model[i].parameters()), experiment) for i in everyone}
    train(SERVER, fresh[SERVER](), torch.from_numpy(split_fold(folds.pretrain, share)[0]))
    for i in clients:
        model[i].load_state_dict(model[SERVER].state_dict())
    own = {i: fresh[i]() for i in clients}  # keeps its moments from round to round
    for private, public in zip(folds.private, map(torch.from_numpy, folds.public), strict=True):
        said = []  # by each client of every public image: log P of both classes, now frozen
        for i in clients:
            train(i, own[i], torch.from_numpy(split_fold(private[i], share)[0]))
            with torch.no_grad():
                log_p = log_probabilities(model[i](to_float(x[public])))
            true = -model_loss(log_p, y[public])  # only the loss travels; the rest is read from it
            other = torch.log(-torch.expm1(true))
            table = torch.where(y[public, None] == torch.arange(2), true[:, None], other[:, None])
            said.append(table.clamp_min(math.log(experiment.clip)))
        total = torch.stack(said).sum(0)
        for i in clients:
            train(i, fresh[i](), public, peers=(total - said[i]) / (len(clients) - 1))
    return [model[i] for i in clients]


@dataclass(frozen=True)
class Lesson:
    """A round after the private training: what every client sent, and its peers' mean table, by client."""

    fed: Federation
    losses: list[Tensor]
    tables: dict[int, Tensor]

    def exchange(self, rows: int = 6) -> pd.DataFrame:
        """What travelled, for the first public images: the label, each client's loss, and the probability of the label
        that client 0 reads from its peers' mean table.
        """
        labels = messaging.public_labels(self.fed, 1)[:rows]
        table: dict[str, Any] = {"label": [self.fed.images.classes[label] for label in labels.tolist()]}
        table |= {f"client {i}: loss": losses[:rows].numpy() for i, losses in enumerate(self.losses)}
        peers = (-model_loss(self.tables[0][:rows], labels)).exp()
        return pd.DataFrame(table | {"client 0 reads: peers' p of the label": peers.numpy()})


def open_lesson(images: Images, clients: int = 3, private: int = 24, public: int = 24, seed: int = 0) -> Lesson:
    """Pre-train, train each client on `private` images of its own, and exchange losses on `public` shared ones: at most
    so many, fewer when the images do not suffice.

    Raises ValueError for fewer than two clients, DataError for a class with fewer images than folds.
    """
    experiment = replace(SMALL, clients=clients)
    require(images, experiment.folds)
    fed = Federation(experiment, images, seed)
    fed.folds = _cut(fed.folds, private, public)
    carry_out(steps.pretrain(fed))
    messaging.hand_out(fed, public=True)
    carry_out(steps.local(fed, 1))
    received = messaging.upload(fed, (messaging.predictions(fed, client, 1) for client in fed.clients))
    labels = messaging.public_labels(fed, 1)
    contributions, total = add_up(FORM, received, labels, experiment.clip)
    assert total is not None, "nobody lies here"
    down = messaging.broadcast(fed, total)
    losses = [model_loss(message.log_probabilities(labels, experiment.clip), labels) for message in received]
    return Lesson(fed, losses, {index: peers_of(own, down) for index, own in contributions.items()})


def _cut(folds: Folds, private: int, public: int) -> Folds:
    return Folds(
        pretrain=folds.pretrain[:private],
        private=tuple(tuple(fold[:private] for fold in dealt) for dealt in folds.private),
        public=tuple(fold[:public] for fold in folds.public),
    )


def refine(client: Client, images: Tensor, labels: Tensor, table: Tensor, weight: float) -> None:
    """The refinement, in one screen: L_i = L_model + weight * L_KL on the public fold. At weight 1 it is exactly what
    `clients.fit_one` does.
    """
    optimiser = adam(client.model.parameters(), client.experiment)
    fit = Fit(client, 1, "public", images, labels, FORM, table)
    for _ in range(client.experiment.epochs):
        for batch, masks in fit.batches():
            log_p = log_probabilities(client.model(to_float(images[batch]), masks))
            loss = model_loss(log_p, labels[batch]) + weight * peer_loss(FORM, log_p, table[batch])
            optimiser.zero_grad(set_to_none=True)
            loss.mean().backward()
            optimiser.step()


def before_and_after(lesson: Lesson, weight: float = 1.0) -> pd.DataFrame:
    """Accuracy on the unseen set before the refinement, after it with labels alone (weight 0) and with the peer term:
    columns client, before, labels only, with peers. The lesson's clients stay as they are.
    """
    fed, rows = lesson.fed, []
    fold = torch.from_numpy(fed.folds.public[0])
    images, labels = fed.train[fold], fed.labels[fold]
    for client in fed.clients:
        row = {"client": client.index, "before": _accuracy(fed, client)}
        for name, strength in (("labels only", 0.0), ("with peers", weight)):
            copy = deepcopy(client)
            refine(copy, images, labels, lesson.tables[client.index], strength)
            row[name] = _accuracy(fed, copy)
        rows.append(row)
    return pd.DataFrame(rows)


def _accuracy(fed: Federation, client: Client) -> float:
    return correct(predict(client, fed.unseen), fed.unseen_labels).float().mean().item()
