"""Arms that share weights: federated averaging, and the published asynchronous exchange of some layers."""

from collections.abc import Iterator, Sequence
from typing import cast

from torch import Tensor

from dml.arms import messaging, record, steps
from dml.arms.federation import Federation
from dml.config import Experiment
from dml.data.folds import split_fold
from dml.exchange.messages import Weights
from dml.streams import SERVER
from dml.training.clients import Fit


def fedavg(fed: Federation, public: str = "", encoding: str = "float32") -> Iterator[list[Fit]]:
    """Federated averaging: the plain mean of all weights replaces every client's; where models differ, of each kind.

    With `public` the clients take the same public images and labels as DML's, the matched comparison that the paper
    lacks: "before" the average or "after" it in public steps like DML's, or "mixed" with the private images.
    """
    yield steps.pretrain(fed)
    messaging.hand_out(fed, bool(public))
    for round_index in fed.rounds():
        yield steps.local(fed, round_index, mixed=public == "mixed")
        record.public_accuracy(fed, round_index)
        if public == "before":
            yield steps.refine(fed, round_index)
        uploads = (messaging.weights(fed, client, round_index) for client in fed.clients)
        received = messaging.upload(fed, uploads, encoding)
        for _, alike in fed.groups():
            if own := [message for message in received if message.sender in {client.index for client in alike}]:
                average = Weights(round=round_index, sender=SERVER, values=mean(own))
                down = messaging.broadcast(fed, average, encoding, alike)
                for client in alike:
                    client.load(down.values)
        if public == "after":
            yield steps.refine(fed, round_index)
        one_model = received and public != "after" and len(fed.starters) == 1
        record.sample_accuracy(fed, round_index, fed.clients[:1] if one_model else None)
    record.report(fed)


def asynchronous(fed: Federation) -> Iterator[list[Fit]]:
    """Asynchronous partial weights, as published: shallow layers each round but every third, when the deep ones move.

    Weights are scaled by validation accuracy and divided by K, a shrinkage the author calls penalisation; the global
    model then trains on the round's public fold and hands the same layers back.
    """
    share = fed.experiment.asynchronous_share
    yield steps.pretrain(fed)
    messaging.hand_out(fed)
    for round_index in fed.rounds():
        part = part_of(fed.experiment, round_index)
        yield steps.local(fed, round_index, share)
        record.public_accuracy(fed, round_index)
        held = {client: split_fold(fed.private(round_index, client), share)[1] for client in fed.clients}
        accuracies = {client: record.accuracy(fed, client, fold) for client, fold in held.items()}
        uploads = (messaging.weights(fed, client, round_index, part, accuracies[client]) for client in fed.clients)
        received = messaging.upload(fed, uploads)
        if received:
            fed.server.load(mean(received, [message.accuracy for message in received]))
        fold, _ = split_fold(fed.folds.public[round_index - 1], share)
        yield steps.fit_server(fed, round_index, "global", fold)
        down = messaging.broadcast(fed, messaging.weights(fed, fed.server, round_index, part))
        for client in fed.clients:
            client.load(down.values)
        record.sample_accuracy(fed, round_index)
    record.report(fed, share=share)


def part_of(experiment: Experiment, round_index: int) -> str:
    """Which layers move in a round of the asynchronous arm."""
    return "deep" if round_index % experiment.deep_every == 0 else "shallow"


def mean(messages: Sequence[Weights], scales: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The sum of scale * weights over the clients divided by their number (not by the sum of the scales). Raises
    ValueError for models of different kinds.
    """
    if any(message.values.keys() != messages[0].values.keys() for message in messages):
        raise ValueError("models of different kinds have no average: this arm needs one kind for all clients")
    pairs = list(zip(scales or [1.0] * len(messages), messages, strict=True))
    return {
        name: cast(Tensor, sum(scale * message.values[name] for scale, message in pairs)) / len(messages)
        for name in messages[0].values
    }
