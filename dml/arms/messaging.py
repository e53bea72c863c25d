"""What the parties of a federation say: messages made, carried through the ledger, and believed or refused."""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dml.arms.federation import Federation
from dml.exchange.encodings import ANSWER
from dml.exchange.ledger import M
from dml.exchange.messages import Chosen, Examples, Losses, Message, MessageError, Predictions, Weights
from dml.losses import log_probabilities, model_loss
from dml.models import group
from dml.streams import SERVER
from dml.training.clients import Client, predict


def hand_out(fed: Federation, public: bool = False) -> None:
    """The set-up, round 0 of the ledger: every client gets the server's model, and the `public` folds if the arm
    refines on them. Each has an optimiser of its own.
    """
    for starter, group_ in fed.groups():
        model = weights(fed, starter, 0)
        fed.post.enter(model, model.encode(), [client.index for client in group_])
        for client in group_:
            client.load(starter.parameters())
    for message in public_folds(fed) if public else ():
        fed.post.enter(message, message.encode(), [client.index for client in fed.clients])


def public_folds(fed: Federation) -> list[Examples]:
    """The public folds as messages, each once."""
    return [_examples(fed, SERVER, fold) for fold in {id(fold): fold for fold in fed.folds.public}.values()]


def hand_in(fed: Federation) -> None:
    """Round 0 of the arm that shares images: every client's private ones go to the server."""
    for client in fed.clients:
        fold = np.concatenate([fed.private(round_index, client) for round_index in fed.rounds()])
        message = _examples(fed, client.index, fold)
        fed.post.enter(message, message.encode(), [SERVER])


def _examples(fed: Federation, sender: int, fold: np.ndarray) -> Examples:
    train, indices = fed.images.train, torch.from_numpy(fold)
    labels = train.labels[indices].to(torch.uint8)
    return Examples(round=0, sender=sender, images=train.images[indices], labels=labels)


def public_labels(fed: Federation, round_index: int) -> Tensor:
    """The labels of a round's public fold, int64 [N]."""
    return fed.labels[fed.public(round_index)]


def predictions(fed: Federation, client: Client, round_index: int) -> Losses | Predictions:
    """A client's upload in DML: losses for two classes, as published; class probabilities for more, and where nobody
    has a label to read a loss with.
    """
    log_p = log_probabilities(predict(client, fed.train[fed.public(round_index)]))
    if len(fed.images.classes) == 2 and fed.labelled:
        losses = model_loss(log_p, public_labels(fed, round_index))
        return Losses(round=round_index, sender=client.index, losses=losses)
    return Predictions(round=round_index, sender=client.index, probabilities=log_p.exp())


def weights(fed: Federation, client: Client, round_index: int, part: str = "all", accuracy: float = 1.0) -> Weights:
    """A party's parameters, or only its "shallow" or "deep" ones."""
    values = {name: value for name, value in client.parameters().items() if part in ("all", group(name))}
    return Weights(round=round_index, sender=client.index, values=values, group=part, accuracy=accuracy)


def upload(fed: Federation, messages: Iterable[M], encoding: str = "float32") -> list[M]:
    """What the server receives and believes, in the clients' order; a refused message leaves its client out."""
    received = []
    for message in messages:
        try:
            received.append(fed.post.carry(message, [SERVER], encoding, partial(check, fed, message)))
        except MessageError as refusal:
            refuse(fed, message.round, message.sender, refusal)
    return received


def broadcast(fed: Federation, message: M, encoding: str = "float32", to: Sequence[Client] | None = None) -> M:
    """What every client, or those in `to`, receives from the server, in the encoding that answers the uploads'."""
    return fed.post.carry(message, [client.index for client in to or fed.clients], ANSWER[encoding])


def refuse(fed: Federation, round_index: int, client: int, why: object) -> None:
    """Put on record that a client's message was not believed, or never came."""
    fed.refusals.append(f"round {round_index}, client {client}: {why}")
    fed.record(round_index, client, "refused", 1)


def check(fed: Federation, expected: Message, message: Message) -> None:
    """Raises MessageError; of `expected` only public facts are used: kind, round, sender and shapes."""
    for name in ("round", "sender"):
        if getattr(message, name) != getattr(expected, name):
            raise MessageError(f"{name} {getattr(message, name)}, expected {getattr(expected, name)}")
    if type(message) is not type(expected):
        raise MessageError(f"a {type(message).__name__} message, expected {type(expected).__name__}")
    if isinstance(message, Weights) and isinstance(expected, Weights):
        if message.group != expected.group:
            raise MessageError(f"the {message.group} layers, expected {expected.group}")
        message.check(expected.values)
    elif isinstance(message, Losses | Predictions | Chosen):
        message.check(len(fed.folds.public[message.round - 1]), len(fed.images.classes))
