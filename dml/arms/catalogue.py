"""The arms of the experiment: one function an arm, one screen each.

An arm is a generator over a federation. It yields lists of fits (the training that clients can do at the same time)
and goes on when an engine has carried them out; between two yields it exchanges messages. `run` drives one arm for
several seeds in lockstep, so that a GPU can train the clients of all seeds in one stack. To add an arm, write the
function and its line in `ARMS`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import Tensor

from dml.arms.federation import Federation
from dml.data.folds import first
from dml.exchange.messages import Weights
from dml.exchange.topologies import add_up, peers_of
from dml.streams import SERVER
from dml.training.clients import Fit
from dml.training.stack import carry_out

Arm = Callable[[Federation], Iterator[list[Fit]]]


def dml(fed: Federation, form: str = "student-first", encoding: str = "float32", every: int = 1) -> Iterator[list[Fit]]:
    """Distributed mutual learning: losses on the public fold go up, one sum comes down, every client refines.

    Only `every`-th rounds exchange; in the others, as without peers, there are only labels to refine with.
    """
    yield fed.pretrain()
    fed.hand_out(public=True)
    for round in fed.rounds():
        yield fed.local(round)
        fed.probe(round)
        tables = {}
        if round % every == 0:
            received = fed.upload((fed.predictions(client, round) for client in fed.clients), encoding)
            shares, total = add_up(form, received, fed.public_labels(round))
            down = total and fed.broadcast(total, encoding)
            tables = {index: peers_of(own, down) for index, own in shares.items()}
        yield fed.refine(round, form, tables)
        fed.glance(round)
    fed.report()


def self_distillation(fed: Federation) -> Iterator[list[Fit]]:
    """Control: each client is its own peer (frozen before the refinement). Is it only regularisation?"""
    yield fed.pretrain()
    fed.hand_out(public=True)
    for round in fed.rounds():
        yield fed.local(round)
        fed.probe(round)
        labels = fed.public_labels(round)
        own = {client.index: fed.predictions(client, round).log_probabilities(labels) for client in fed.clients}
        yield fed.refine(round, "student-first", own)
        fed.glance(round)
    fed.report()


def local(fed: Federation, public: bool = False) -> Iterator[list[Fit]]:
    """Control: no exchange. With `public`, the same public steps as DML without peers: is it only more labels?"""
    yield fed.pretrain()
    fed.hand_out(public)
    for round in fed.rounds():
        yield fed.local(round)
        fed.probe(round)
        if public:
            yield fed.refine(round)
        fed.glance(round)
    fed.report()


def fedavg(fed: Federation, public: bool = False, encoding: str = "float32") -> Iterator[list[Fit]]:
    """Federated averaging: the plain mean of all weights replaces every client's. With `public`, after the same public
    steps as DML: the matched comparison that the paper lacks.
    """
    yield fed.pretrain()
    fed.hand_out(public)
    for round in fed.rounds():
        yield fed.local(round)
        fed.probe(round)
        if public:
            yield fed.refine(round)
        received = fed.upload((fed.weights(client, round) for client in fed.clients), encoding)
        if received:
            down = fed.broadcast(Weights(round=round, sender=SERVER, values=mean(received)), encoding)
            for client in fed.clients:
                client.load(down.values)
        fed.glance(round, fed.clients[:1] if received else None)  # they are one model now
    fed.report()


def asynchronous(fed: Federation) -> Iterator[list[Fit]]:
    """Asynchronous partial weights, as published: shallow layers each round but every third, when the deep ones move.

    Weights are scaled by validation accuracy and divided by K, a shrinkage the author calls penalisation; the global
    model then trains on the round's public fold and hands the same layers back.
    """
    exp = fed.experiment
    yield fed.pretrain()
    fed.hand_out()
    for round in fed.rounds():
        part = "deep" if round % exp.deep_every == 0 else "shallow"
        yield fed.local(round, exp.asynchronous_share)
        fed.probe(round)
        held = {c.index: first(fed.private(round, c), exp.asynchronous_share)[1] for c in fed.clients}
        received = fed.upload(fed.weights(c, round, part, fed.accuracy(c, held[c.index])) for c in fed.clients)
        if received:
            fed.server.load(mean(received, [each.accuracy for each in received]))
        fold, _ = first(fed.folds.public[round - 1], exp.asynchronous_share)
        yield fed.fit_server(round, "global", fold)
        down = fed.broadcast(fed.weights(fed.server, round, part))
        for client in fed.clients:
            client.load(down.values)
        fed.glance(round)
    fed.report(share=exp.asynchronous_share)


def pooled(fed: Federation) -> Iterator[list[Fit]]:
    """The upper bound that shares the images themselves: one model, trained once on the whole training set."""
    yield fed.pool()
    fed.report([fed.server])


def mean(messages: Sequence[Weights], scales: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The sum of scale * weights over the clients divided by their number (not by the sum of the scales)."""
    scales = scales or [1.0] * len(messages)
    return {
        name: sum(scale * each.values[name] for scale, each in zip(scales, messages, strict=True)) / len(messages)
        for name in messages[0].values
    }


ARMS: dict[str, Arm] = {
    "dml": dml,
    "fedavg": fedavg,
    "asynchronous": asynchronous,
    "pooled": pooled,
    "local": local,
    "local+public": partial(local, public=True),
    "fedavg+public": partial(fedavg, public=True),
    "self": self_distillation,
    "dml-one-term": partial(dml, form="one-term"),
    "dml-peer-first": partial(dml, form="peer-first"),
}


def arms_for(classes: int) -> tuple[str, ...]:
    """The arms that make sense: the author's one-term form exists for two classes only."""
    return tuple(name for name in ARMS if classes == 2 or name != "dml-one-term")


def run(arm: str | Arm, federations: Sequence[Federation], progress: Callable[[], None] = lambda: None) -> None:
    """Carry out an arm (or one of `ARMS` by name) in federations of different seeds, on a GPU in one stack.

    Rows and training history are left in the federations. `progress` is called after every batch of fits.
    """
    begin = ARMS[arm] if isinstance(arm, str) else arm
    for steps in zip(*map(begin, federations), strict=True):
        fits = [fit for step in steps for fit in step]
        histories = carry_out(fits)
        owners = [fed for fed, step in zip(federations, steps, strict=True) for _ in step]
        for owner, history in zip(owners, histories, strict=True):
            owner.history.extend(history)
        progress()
