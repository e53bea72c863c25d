"""Arms that share outputs: distributed mutual learning, and the control that takes itself for its peers."""

from collections.abc import Iterator

from dml.arms import messaging, record, steps
from dml.arms.federation import Federation
from dml.exchange.topologies import add_up, peers_of
from dml.training.clients import Fit


def dml(fed: Federation, form: str = "student-first", encoding: str = "float32", every: int = 1) -> Iterator[list[Fit]]:
    """Distributed mutual learning: losses on the public fold go up, one sum comes down, every client refines.

    Only `every`-th rounds exchange; in the others, as without peers, there are only labels to refine with.
    """
    yield steps.pretrain(fed)
    messaging.hand_out(fed, public=True)
    for round_index in fed.rounds():
        yield steps.local(fed, round_index)
        record.public_accuracy(fed, round_index)
        tables = {}
        if round_index % every == 0:
            uploads = (messaging.predictions(fed, client, round_index) for client in fed.clients)
            received = messaging.upload(fed, uploads, encoding)
            contributions, total = add_up(form, received, messaging.public_labels(fed, round_index))
            if total is not None:
                down = messaging.broadcast(fed, total, encoding)
                tables = {index: peers_of(own, down) for index, own in contributions.items()}
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
        own = {index: message.log_probabilities(labels) for index, message in said.items()}
        yield steps.refine(fed, round_index, "student-first", own)
        record.sample_accuracy(fed, round_index)
    record.report(fed)
