"""Arms that share outputs: distributed mutual learning, and the control that takes itself for its peers."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from dml.arms import messaging, record, steps
from dml.arms.federation import Federation
from dml.exchange.topologies import add_up, peers_of
from dml.streams import stream
from dml.training.clients import Fit

Blunted = Callable[[Tensor, Tensor], Tensor]  # a table [N, columns] of the peers and the labels [N]: another table


def dml(
    fed: Federation,
    form: str = "student-first",
    encoding: str = "float32",
    every: int = 1,
    blunt: Callable[[Federation, int], Blunted] | None = None,
    clip: float = 0,
) -> Iterator[list[Fit]]:
    """Distributed mutual learning: losses on the public fold go up, one sum comes down, every client refines.

    Only `every`-th rounds exchange; in the others, as without peers, there are only labels to refine with. `blunt`
    gives each client, by its index, what takes something out of its peers' tables before it learns from them; `clip`
    stands for the experiment's.
    """
    blunted = {client.index: blunt(fed, client.index) for client in fed.clients} if blunt else {}
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public=True)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        tables = {}
        if round_index % every == 0:
            uploads = (messaging.predictions(fed, client, round_index) for client in fed.clients)
            received = messaging.upload(fed, uploads, encoding)
            labels = messaging.public_labels(fed, round_index)
            contributions, total = add_up(form, received, labels, clip or fed.experiment.clip)
            if total is not None:
                down = messaging.broadcast(fed, total, encoding)
                tables = {index: peers_of(own, down) for index, own in contributions.items()}
        for index, change in blunted.items():
            if index in tables:
                tables[index] = change(tables[index], messaging.public_labels(fed, round_index))
        yield steps.refine(fed, round_index, form, tables)
        record.sample_accuracy(fed, round_index)
    record.report(fed)


def self_distillation(fed: Federation) -> Iterator[list[Fit]]:
    """Control: each client is its own peer (frozen before the refinement). Is it only regularisation?"""
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public=True)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        labels = messaging.public_labels(fed, round_index)
        said = {client.index: messaging.predictions(fed, client, round_index) for client in fed.clients}
        own = {index: message.log_probabilities(labels, fed.experiment.clip) for index, message in said.items()}
        yield steps.refine(fed, round_index, "student-first", own)
        record.sample_accuracy(fed, round_index)
    record.report(fed)


def _shuffled(fed: Federation, client: int) -> Blunted:
    """What the peers say of an image is said of another one of the same class."""
    rng = stream(fed.seed, client, "shuffled")

    def change(table: Tensor, labels: Tensor) -> Tensor:
        order = torch.arange(len(labels))
        for label in labels.unique():
            members = (labels == label).nonzero().squeeze(1).cpu()
            order[members] = members[torch.from_numpy(rng.permutation(len(members)))]
        return table[order.to(table.device)]

    return change


def _smoothed(fed: Federation, client: int) -> Blunted:
    """What the peers say of an image is their mean over all images of its class."""

    def change(table: Tensor, labels: Tensor) -> Tensor:
        means = torch.empty_like(table)
        for label in labels.unique():
            means[labels == label] = table[labels == label].mean(0)
        return means

    return change


shuffled = partial(dml, blunt=_shuffled)  # control: is it what the peers know of each image, or only their softness?
smoothing = partial(dml, blunt=_smoothed)  # control: labels as soft as the peers are on average, and nothing else
